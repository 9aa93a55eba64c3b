"""Collectives are read from compiled programs and from lines in the forms of TPU programs."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.planner.collectives import Collective, axes, collectives

SHAPE = {"member": 2, "data": 4}
ROWS, COLUMNS = ((0, 1, 2, 3), (4, 5, 6, 7)), ((0, 4), (1, 5), (2, 6), (3, 7))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh(tuple(SHAPE.values()), tuple(SHAPE), axis_types=(AxisType.Auto,) * 2)


def compiled(function, mesh, *arguments: tuple[tuple[int, ...], P]) -> list[Collective]:
    """The collectives of a function of sharded float32 arrays."""
    abstract = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in arguments
    ]
    return collectives(jax.jit(function).lower(*abstract).compile().as_text())


def by_hand(function, mesh, shape, inside: P, outside: P) -> Collective:
    """The only collective of a function of one device's part of float32 of a shape."""
    mapped = jax.shard_map(function, mesh=mesh, in_specs=inside, out_specs=outside, check_vma=False)
    (found,) = compiled(mapped, mesh, (shape, inside))
    return found


@pytest.mark.parametrize(
    ("axis", "along", "groups"),
    [
        ("data", ("data",), ROWS),
        ("member", ("member",), COLUMNS),
        (("member", "data"), ("member", "data"), ((*ROWS[0], *ROWS[1]),)),
    ],
)
def test_the_axis_of_a_reduction(mesh, axis, along, groups):
    spec = P("member", "data")
    found = by_hand(partial(lax.psum, axis_name=axis), mesh, (8, 64), spec, spec)
    assert found.groups == groups
    assert axes(found, mesh.shape) == along
    assert (found.shapes, found.bytes) == (("f32[4,16]",), 4 * 4 * 16)
    assert "psum" in found.op_name


@pytest.mark.parametrize(
    ("kind", "function", "inside", "outside", "size", "groups"),
    [
        ("all-gather", partial(lax.all_gather, axis_name="member", tiled=True),
         P("member", "data"), P(None, "data"), 4 * 8 * 16, COLUMNS),
        ("reduce-scatter", partial(lax.psum_scatter, axis_name="member", tiled=True),
         P(None, "data"), P("member", "data"), 4 * 4 * 16, COLUMNS),
        ("all-to-all", partial(lax.all_to_all, axis_name="data", split_axis=0, concat_axis=1),
         P("member"), P("member"), 4 * 4 * 64, ROWS),
        ("collective-permute", partial(lax.ppermute, axis_name="data", perm=[(0, 1), (3, 2)]),
         P("member", "data"), P("member", "data"), 4 * 4 * 16, ((0, 1), (3, 2), (4, 5), (7, 6))),
    ],
)  # fmt: skip
def test_kinds(mesh, kind, function, inside, outside, size, groups):
    found = by_hand(function, mesh, (8, 64), inside, outside)
    assert (found.kind, found.bytes, found.groups) == (kind, size, groups)


def test_collectives_inside_and_outside_a_loop(mesh):
    def steps(weights, rows):
        def body(weights, _):
            return weights - rows.T @ jnp.tanh(rows @ weights), None

        return lax.scan(body, weights, length=3)[0], jnp.square(rows).sum()

    found = compiled(steps, mesh, ((16, 4), P()), ((8, 16), P("data")))
    assert {one.kind for one in found} == {"all-reduce"}
    assert {(one.shapes, one.in_loop) for one in found} == {
        (("f32[16,4]",), True),
        (("f32[]",), False),
    }
    assert {axes(one, mesh.shape) for one in found} == {("data",)}


def test_members_do_not_communicate(mesh):
    found = compiled(jax.vmap(lambda row: row / row.sum()), mesh, ((8, 64), P("member")))
    assert found == []


def test_devices_in_another_order(mesh):
    """XLA writes groups over the second axis first with a transposition."""
    (found,) = compiled(lambda x: x.sum(0), mesh, ((8, 3), P(("data", "member"))))
    assert axes(found, mesh.shape) == ("member", "data")
    total = compiled(lambda x: x.sum(1), mesh, ((2, 4), P(None, "data")))
    assert {axes(one, mesh.shape) for one in total} == {("data",)}


HEADER = "HloModule jit_f, is_scheduled=true, num_partitions=8\n\n"
ENTRY = "ENTRY %main.1 (p: f32[2]) -> f32[2] {{\n  {}\n}}\n"


def one_of(operation: str) -> Collective:
    """The collective of a program with one operation."""
    (found,) = collectives(HEADER + ENTRY.format(operation))
    return found


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", ROWS),
        ("{}", ((*ROWS[0], *ROWS[1]),)),
        ("[2,4]<=[8]", ROWS),
        ("[4,2]<=[2,4]T(1,0)", COLUMNS),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", ROWS),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", COLUMNS),
        ("mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_1'}", COLUMNS),
        ("mesh['axis_0'=2,'axis_1'=4], device_ids=(4,5,6,7,0,1,2,3) {'axis_1'}", ROWS[::-1]),
        ("mesh['a'=8] {'a':(1)2}", COLUMNS),
        ("mesh['a'=8] {'a':(2)4}", ROWS),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", ((0, 1, 4, 5), (2, 3, 6, 7))),
    ],
)
def test_forms_of_groups(written, groups):
    line = f"%r = f32[2]{{0}} all-reduce(%p), channel_id=1, replica_groups={written}, to_apply=%add"
    assert one_of(line).groups == groups


@pytest.mark.parametrize(
    ("type_and_name", "kind", "shapes", "size"),
    [
        ("f32[2]{0} all-reduce-start", "all-reduce", ("f32[2]",), 8),
        ("(f32[2]{0:T(128)}, bf16[3,5]{1,0:T(8,128)(2,1)S(1)}) all-reduce-start", "all-reduce",
         ("f32[2]", "bf16[3,5]"), 8 + 30),
        ("(s8[2]{0}, s8[16]{0:T(128)}) all-gather-start", "all-gather", ("s8[16]",), 16),
        ("((f32[2], f32[3]), (f32[16], f32[24])) all-gather-start", "all-gather",
         ("f32[16]", "f32[24]"), 160),
        ("(pred[2]{0}, pred[2]{0}, u32[]{:S(2)}, u32[]) collective-permute-start",
         "collective-permute", ("pred[2]",), 2),
        ("((f32[16]{0}), f32[2]{0}, s32[]) reduce-scatter-start", "reduce-scatter",
         ("f32[2]",), 8),
        ("(s4[3]{0}, /*index=1*/c64[2]{0}) all-to-all", "all-to-all", ("s4[3]", "c64[2]"), 18),
        ("u8[64]{0} ragged-all-to-all", "ragged-all-to-all", ("u8[64]",), 64),
        ("f8e4m3fn[6]{0} collective-broadcast", "collective-broadcast", ("f8e4m3fn[6]",), 6),
    ],
)  # fmt: skip
def test_bytes_are_those_of_the_results(type_and_name, kind, shapes, size):
    found = one_of(f"%r = {type_and_name}(%p, %q), channel_id=1, replica_groups={{}}")
    assert (found.kind, found.shapes, found.bytes) == (kind, shapes, size)


def test_lines_that_are_not_collectives():
    quoted = 'metadata={op_name="f32[2] all-reduce(x), replica_groups={}"}'
    done = "%r = f32[2]{0} all-reduce-done(%s)"
    assert collectives(HEADER + ENTRY.format(f"{done}\n  %f = f32[2] negate(%r), {quoted}")) == []


def test_a_computation_called_in_a_loop_is_in_the_loop():
    """In TPU programs the loop's body calls a branch, which calls a fusion."""
    program = """HloModule jit_f, num_partitions=2

%fused (p: f32[2]) -> f32[2] {
  ROOT %r = f32[2]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}

%branch (p: f32[2]) -> f32[2] {
  ROOT %f = f32[2]{0} fusion(%p), kind=kCustom, calls=%fused
}

%body (p: (s32[], f32[2])) -> (s32[], f32[2]) {
  %c = f32[2]{0} conditional(%i, %x, %x), branch_computations={%other, %branch}
}

ENTRY %main (p: f32[2]) -> f32[2] {
  %w = (s32[], f32[2]{0}) while(%t), condition=%less, body=%body
  %g = f32[4]{0} all-gather(%p), replica_groups={{0,1}}, dimensions={0}
}
"""
    assert [(one.kind, one.in_loop) for one in collectives(program)] == [
        ("all-reduce", True),
        ("all-gather", False),
    ]


def test_an_unknown_form_of_groups_raises():
    with pytest.raises(ValueError, match="unknown form of groups: 'everyone, to_apply"):
        one_of("%r = f32[2]{0} all-reduce(%p), replica_groups=everyone, to_apply=%add")


def test_a_group_of_one_is_along_no_axis():
    alone = tuple((device,) for device in range(8))
    assert axes(Collective("all-reduce", ("f32[]",), 4, False, "", alone), SHAPE) == ()
