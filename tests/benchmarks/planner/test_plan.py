"""Plans for TPU slices: rows of compiled programs, and the search for the number of members."""

import json

import pytest

from benchmarks.planner import plan as planning
from benchmarks.planner.cases import Case
from benchmarks.planner.compile import planned
from benchmarks.planner.plan import next_count, plan
from benchmarks.planner.report import CODE, bound, buffers, markdown, row
from jaxtal.errors import JaxtalError

ASSIGNMENT = """BufferAssignment:
allocation 0: size 512, page 0, thread-local:
 value: <1 compare.277 @0> (size=512,offset=0): pred[]{:T(512)}
allocation 1: size 1000, page 0, parameter 92, shape |f16[125000,2048]| at ShapeIndex {}:
allocation 2: size 300, page 0, parameter 75, shape |f32[1,3]| at ShapeIndex {}, maybe-live-out:
allocation 3: size 40, page 0, maybe-live-out:
allocation 4: size 8, page 0, output shape is |(s32[1], f32[1,512])|, maybe-live-out:
allocation 5: size 7000, page 0, preallocated-temp:
allocation 6: size 99999, page 0, color 1, preallocated-temp:
allocation 7: size 99999, color 6, thread-local:
allocation 8: size 16, page 0, constant:
"""
PROGRAM = """HloModule jit_f, num_partitions=16

ENTRY %main (p: f32[2]) -> f32[2] {
  %a = f32[2]{0} all-reduce(%p), replica_groups=[8,2]<=[16], to_apply=%add
  %b = f32[2]{0} all-reduce(%a), replica_groups=[8,2]<=[16], to_apply=%add
  %c.remat2 = f32[2]{0} negate(%b)
}
"""
FACTS = {"chips": 16, "flops": 197e12, "available": 8364 + CODE}


def test_buffers_by_what_they_are_for():
    assert buffers(ASSIGNMENT) == {
        "arguments": 1300,
        "donated": 300,
        "temporaries": 7016,
        "results": 48,
    }


def test_a_row():
    case = Case("v5e:4x4", "co2net", members=3, data=2)
    found = row(case, FACTS, ASSIGNMENT, PROGRAM)
    assert found["mesh"] == {"member": 8, "data": 2}
    assert found["population"] == 24
    assert found["bytes"]["total"] == 1300 + 7016 + 48
    assert found["fits"]
    assert found["rematerialized"]
    assert found["collectives"] == [
        {"kind": "all-reduce", "axes": ["data"], "in_loop": False, "bytes": 8, "count": 2}
    ]
    assert not row(case, {**FACTS, "available": 8363 + CODE}, ASSIGNMENT, PROGRAM)["fits"]
    assert not row(case, {**FACTS, "refused": "RESOURCE_EXHAUSTED"}, ASSIGNMENT, PROGRAM)["fits"]
    assert not row(case, {**FACTS, "refused": "RESOURCE_EXHAUSTED"})["fits"]


def test_a_step_takes_as_long_as_the_slower_of_products_and_memory():
    """A v5e has 197 TFLOP/s and 819 GB/s; 4 members are on each of 8 places."""
    case = Case("v5e:4x4", "co2net", members=4, data=2)
    fast = bound(case, 197e12, 819 * 10**9 // 4, 8)
    assert fast["member_steps_a_second"] == pytest.approx(4 * 8)
    assert fast["member_steps_a_second_a_chip"] == pytest.approx(2)
    slow = bound(case, 197e12, 819 * 10**9, 8)
    assert slow["member_steps_a_second"] == pytest.approx(4 * 8 / 2)


def compiler(most: int, bend: float = 0):
    """A substitute of `planned`; a chip has memory for 40 members of 100 bytes.

    Args:
        most: number of members that fit.
        bend: additional bytes, times the square of the number of members.
    """

    def planned(case: Case) -> dict:
        members = case.members
        content = {"members_a_chip": members, "program": case.program, "fits": members <= most,
                   "bytes_available": 4300 + CODE}  # fmt: skip
        if members < 60:  # more are refused before their bytes are known
            content["bytes"] = {"total": 300 + 100 * members + bend * members**2}
        return content

    return planned


@pytest.mark.parametrize("most", [0, 1, 3, 4, 39, 40, 41, 47])
@pytest.mark.parametrize("guess", [None, 1, 40, 100])
def test_the_largest_number_of_members_is_verified(most, guess, monkeypatch):
    monkeypatch.setattr(planning, "planned", compiler(most))
    rows = list(plan(Case("v5e:4x4", "co2net"), [] if guess else [1, 2, 4], guess))
    training = {r["members_a_chip"]: r["fits"] for r in rows if r["program"] == "training"}
    assert training[most + 1] is False
    assert most == 0 or training[most]
    evaluated = [r["members_a_chip"] for r in rows if r["program"] == "evaluation"]
    assert evaluated == ([most] if most else [])


def test_a_straight_line_needs_two_more_programs(monkeypatch):
    monkeypatch.setattr(planning, "planned", compiler(40))
    rows = list(plan(Case("v5e:4x4", "co2net"), [1, 2, 4], None))
    assert [r["members_a_chip"] for r in rows] == [1, 2, 4, 40, 41, 40]


def test_the_search_follows_a_bent_line():
    """28 members take 4,276 bytes, 29 would take 4,461."""
    planned = compiler(28, bend=1.5)
    rows = [planned(Case("v5e:4x4", "co2net", members=members)) for members in (2, 4)]
    tried = []
    while (members := next_count(rows, None)) is not None:
        tried.append(members)
        rows.append(planned(Case("v5e:4x4", "co2net", members=members)))
    assert tried[0] == 36  # by the straight line
    assert tried[-1] in (28, 29)
    assert len(tried) < 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--topology v9:4x4", "topology 'v9:4x4'; wanted KIND:SHAPE, like v4:2x2x4"),
        ("--topology v5e:big", "topology 'v5e:big'; wanted KIND:SHAPE"),
        ("--population 24", "--population=24 cannot be divided over the 16 places of v5e:4x4"),
        ("--population 16 --data 5", "--population=16 cannot be divided over the 3 places"),
    ],
)
def test_a_user_error_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        planning.main(arguments.split())
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1


def test_the_table(monkeypatch, capsys, tmp_path):
    """The files are complete after every row; one population fits, the other does not."""
    full = row(Case("v5e:4x4", "d2net"), FACTS, ASSIGNMENT, PROGRAM)
    refused = row(Case("v5e:4x4", "d2net", members=9), {**FACTS, "refused": "RESOURCE_EXHAUSTED"})
    monkeypatch.setattr(planning, "planned", {1: full, 9: refused}.__getitem__)
    monkeypatch.setattr(planning, "populations", lambda case, wanted: [1, 9])
    table, rows = tmp_path / "plan.md", tmp_path / "plan.json"
    planning.main(["--method=d2net", "--population=1", f"--markdown={table}", f"--json={rows}"])
    assert json.loads(rows.read_text()) == [full, refused]
    lines = table.read_text().splitlines()
    assert lines == markdown([full, refused]).splitlines()
    assert [line.count("|") for line in lines] == [16] * 4
    assert "| yes, rematerialized |" in lines[2]
    assert "| v5e:4x4 | 16 x 1 | d2net | training | 9 | 144 |  |  |  |  | 0.25 | no |" in lines[3]
    assert capsys.readouterr().out.endswith(table.read_text() + "\n")


def test_an_error_of_the_compiling_process_is_reported():
    with pytest.raises(JaxtalError, match=r"^v9:4x4, co2net: topology 'v9:4x4'; wanted KIND:SHAPE"):
        planned(Case("v9:4x4", "co2net"))


@pytest.mark.parametrize(("method", "weights"), [("co2net", 1982), ("twostream", 1035)])
def test_on_tpus_only_devices_that_share_a_batch_communicate(method, weights):
    """A tiny model on 2 x 2 chips: each chip has two members and half of their batches."""
    pytest.importorskip("libtpu")
    fields: tuple = (("train.batch_size", 12), ("data.num_snippets", 12))
    fields += (("train.pairs", 4),) if method == "co2net" else ()
    found = planned(Case("v5e:2x2", method, 2, data=2, shape="tiny", fields=fields))
    assert found["fits"]
    assert (found["chips"], found["population"]) == (4, 4)
    # One all-reduce of all gradients, and those of the losses' counts.
    assert {(one["kind"], *one["axes"]) for one in found["collectives"]} == {("all-reduce", "data")}
    assert any(one["in_loop"] for one in found["collectives"])
    assert 0 < found["bytes"]["donated"] < found["bytes"]["arguments"]
    # About 6 FLOPs per weight and snippet (forward and both gradients), and those of the losses.
    products = weights * 2 * 6 * 12
    assert 6 * products < found["flops_a_chip"] < 10 * products
    assert 15 * 2**30 < found["bytes_available"] < 16 * 2**30
