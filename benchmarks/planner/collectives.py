"""Read the collectives of a compiled program from its text.

    from benchmarks.planner.collectives import axes, collectives

    found = collectives(compiled.as_text())  # compiled: of jax.jit(...).lower(...).compile()
    in_steps = [one for one in found if one.in_loop]
    over_data = [one for one in found if "data" in axes(one, mesh.shape)]

The text is XLA's for CPUs, GPUs and TPUs. An operation in two halves, `-start` and `-done`, counts
once; a variadic operation counts once with the sum of its bytes.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


class Collective(NamedTuple):
    """Operation in which several devices communicate.

    Attributes:
        kind: one of `KINDS`.
        shapes: shapes of the results on one device, such as "f32[2,16]".
        bytes: bytes of these results: a device's shard for a reduce-scatter, the whole array for an
            all-gather.
        in_loop: True in the body or condition of a `while` and in computations called from there.
        op_name: JAX's name of the source operation, or "".
        groups: groups of communicating devices, as indices into `mesh.devices.flat`; pairs (source,
            target) of a collective-permute.
    """

    kind: str
    shapes: tuple[str, ...]
    bytes: int
    in_loop: bool
    op_name: str
    groups: tuple[tuple[int, ...], ...]


def collectives(text: str) -> list[Collective]:
    """Return all collectives of a program in the order of the text.

    Args:
        text: result of `compiled.as_text()`.

    Raises:
        ValueError: the groups of a collective have an unknown form.
    """
    header = text.partition("\n")[0]
    counts = re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", header)
    devices = math.prod(int(count) for count in counts)
    computations = _computations(text)
    looped = _reached(computations, _loops(computations))
    return [
        _collective(match, name in looped, devices)
        for name, lines in computations.items()
        for line in lines
        if (match := _OPERATION.match(line))
    ]


def axes(collective: Collective, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Return the mesh axes along which a collective communicates.

    Args:
        collective: collective of a program on the mesh.
        mesh: sizes of the axes in order, such as `Mesh.shape`.

    Returns:
        Names of the axes; empty if every group has one device.
    """
    places = [np.unravel_index(group, tuple(mesh.values())) for group in collective.groups]
    return tuple(
        name
        for axis, name in enumerate(mesh)
        if any((place[axis] != place[axis][0]).any() for place in places)
    )


_OPERATION = re.compile(
    r"\s+(?:ROOT )?\S+ = (?P<type>[^\"%]*?) "
    rf"(?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\((?P<rest>.*)"
)
_CALL = re.compile(
    r"\b(body|condition|calls|to_apply|called_computations|branch_computations"
    r"|true_computation|false_computation)=(\{[^}]*\}|[^\s,]+)"
)
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")


def _computations(text: str) -> dict[str, list[str]]:
    """Return the lines of each computation; headers are not indented, lines are."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line):
            lines = found[header[1]] = []
        elif line.startswith(" "):
            lines.append(line)
    return found


def _called(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (attribute, computation) for every computation that the lines name."""
    for line in lines:
        for attribute, names in _CALL.findall(line):
            for name in re.findall(r"[\w.\-]+", names):
                yield attribute, name


def _loops(computations: dict[str, list[str]]) -> set[str]:
    """Return the bodies and conditions of all loops."""
    return {
        name
        for lines in computations.values()
        for attribute, name in _called(lines)
        if attribute in ("body", "condition")
    }


def _reached(computations: dict[str, list[str]], starts: set[str]) -> set[str]:
    """Return the computations `starts` and all that they call."""
    reached: set[str] = set()
    pending = set(starts)
    while pending:
        name = pending.pop()
        reached.add(name)
        pending |= {other for _, other in _called(computations.get(name, ()))} - reached
    return reached


def _collective(match: re.Match, in_loop: bool, devices: int) -> Collective:
    """Return the collective of a matched line."""
    results = _results(match["type"], match["kind"]) if match["start"] else match["type"]
    shapes = _SHAPE.findall(results)
    op_name = re.search(r'op_name="([^"]*)"', match["rest"])
    return Collective(
        match["kind"],
        tuple(f"{element}[{sizes}]" for element, sizes in shapes),
        sum(_bytes(element, sizes) for element, sizes in shapes),
        in_loop,
        op_name[1] if op_name else "",
        _groups(match["rest"], devices),
    )


def _results(text: str, kind: str) -> str:
    """Return the result part of a `-start` operation's type.

    The type is (operands, results, state...), but an all-reduce has operands only if it is wrapped.
    """
    parts = _split(text)
    return text if kind == "all-reduce" and not parts[0].startswith("(") else parts[1]


def _split(text: str) -> list[str]:
    """Return the elements of a tuple type; any other type is a single element."""
    if not text.startswith("("):
        return [text]
    parts, depth = [""], 0
    for letter in text[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [re.sub(r"/\*.*?\*/", "", part).strip() for part in parts]


def _bytes(element: str, sizes: str) -> int:
    """Return the bytes of an array; the element type's name has its bits (pred: 8, token: 0)."""
    bits = re.match(r"[a-z]+(\d+)", element)
    each = int(bits[1]) if bits else 8 * (element == "pred")
    return -(-each * math.prod(int(size) for size in re.findall(r"\d+", sizes)) // 8)


def _groups(attributes: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """Return the groups in an operation's attributes; `{}` stands for all devices."""
    match = re.search(r"\b(?:replica_groups|source_target_pairs)=(.*)", attributes)
    if not match:
        raise ValueError(f"no replica_groups in {attributes[:200]!r}")
    written = match[1]
    if mesh := re.match(r"mesh\[([^]]*)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}", written):
        return _groups_of_mesh(mesh[1], mesh[2], mesh[3])
    if re.match(r"\[[\d,]+\]<=\[", written):
        shape, _, source = written.partition("<=")
        return _tuples(_iota(source).reshape(_integers(shape)))
    if listed := re.match(r"\{((?:\{[\d,]*\},?)*)\}", written):
        groups = tuple(tuple(_integers(group)) for group in re.findall(r"\{([\d,]+)\}", listed[1]))
        return groups or (tuple(range(devices)),)
    raise ValueError(
        f"unknown form of groups: {written[:200]!r}; add it to benchmarks/planner/collectives.py"
    )


def _groups_of_mesh(sizes: str, device_ids: str | None, grouped: str) -> tuple:
    """Return the groups along axes of a mesh.

    Args:
        sizes: axes with sizes, such as 'a'=2,'b'=4.
        device_ids: order of the devices, [4,2]T(1,0) or 0,2,1,3; None for ascending order.
        grouped: grouped axes, such as 'b', or 'b':(1)2 for the first factor 2 of b.
    """
    shape = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", sizes)}
    ids = np.arange(math.prod(shape.values()))
    if device_ids:
        ids = _iota(device_ids) if device_ids.startswith("[") else np.array(_integers(device_ids))
    parts: dict[str, list[tuple[int, int]]] = {name: [] for name in shape}
    for name, before, size in re.findall(r"'?([\w.]+)'?(?::\((\d+)\)(\d+))?'?(?:,|$)", grouped):
        parts[name].append((int(before or 1), int(size or shape[name])))
    factors: list[int] = []
    inside: list[int] = []
    for name, size in shape.items():
        done = 1
        for before, part in sorted(parts[name]):
            factors += [before // done, part]
            inside.append(len(factors) - 1)
            done = before * part
        factors.append(size // done)
    outside = [axis for axis in range(len(factors)) if axis not in inside]
    count = math.prod(factors[axis] for axis in outside)
    return _tuples(ids.reshape(factors).transpose(outside + inside).reshape(count, -1))


def _iota(text: str) -> np.ndarray:
    """Return the flat order of [4,2] or, transposed, [4,2]T(1,0), counted from 0."""
    sizes, order = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()  # type: ignore[union-attr]
    shape = _integers(sizes)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    return (numbers.transpose(_integers(order)) if order else numbers).reshape(-1)


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _tuples(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(group) for group in groups.tolist())
