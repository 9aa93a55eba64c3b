"""The communication in a compiled program, read from its text.

    from benchmarks.planner.collectives import axes, collectives

    found = collectives(compiled.as_text())  # compiled: of jax.jit(...).lower(...).compile()
    in_steps = [one for one in found if one.in_loop]
    over_data = [one for one in found if "data" in axes(one, mesh.shape)]

The text is XLA's, as CPUs, GPUs and TPUs give it. An operation in two halves, `-start` and `-done`,
counts once, a variadic one as a single one of the sum of its bytes.
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
    """An operation that devices take part in together.

    Attributes:
        kind: of `KINDS`.
        shapes: of its results on one device, such as "f32[2,16]".
        bytes: of these results; of a reduce-scatter that is the device's share, of an all-gather
            the whole.
        in_loop: it is in the body or condition of a `while`, or in what these call.
        op_name: where it comes from, as JAX says it, or "".
        groups: the devices that communicate with each other, by their places in
            `mesh.devices.flat`; of a collective-permute the pairs (source, target).
    """

    kind: str
    shapes: tuple[str, ...]
    bytes: int
    in_loop: bool
    op_name: str
    groups: tuple[tuple[int, ...], ...]


def collectives(text: str) -> list[Collective]:
    """Find all collectives of a program, in the text's order.

    Args:
        text: `compiled.as_text()`.

    Raises:
        ValueError: the devices of one are written in an unknown way.
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
    """Return the axes of a mesh that a collective communicates along; none if everyone is alone.

    Args:
        mesh: sizes of the axes, in order, as of `Mesh.shape`.
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
    """The lines of each computation; its header begins at the line's first letter, they do not."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line):
            lines = found[header[1]] = []
        elif line.startswith(" "):
            lines.append(line)
    return found


def _called(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(how, computation) of every computation that these lines name."""
    for line in lines:
        for how, names in _CALL.findall(line):
            for name in re.findall(r"[\w.\-]+", names):
                yield how, name


def _loops(computations: dict[str, list[str]]) -> set[str]:
    """Bodies and conditions of all loops."""
    return {
        name
        for lines in computations.values()
        for how, name in _called(lines)
        if how in ("body", "condition")
    }


def _reached(computations: dict[str, list[str]], starts: set[str]) -> set[str]:
    """These computations and all that they call."""
    reached: set[str] = set()
    pending = set(starts)
    while pending:
        name = pending.pop()
        reached.add(name)
        pending |= {other for _, other in _called(computations.get(name, ()))} - reached
    return reached


def _collective(match: re.Match, in_loop: bool, devices: int) -> Collective:
    """A collective of the parts of its line."""
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
    """The results in the type of a first half: (operands, results, state...), except that of an
    all-reduce, which names no operands unless it is wrapped.
    """
    parts = _split(text)
    return text if kind == "all-reduce" and not parts[0].startswith("(") else parts[1]


def _split(text: str) -> list[str]:
    """The elements of a tuple's type; a type that is no tuple is its only element."""
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
    """Return the bytes of an array, whose element type's name has its bits (pred: 8, token: 0)."""
    bits = re.match(r"[a-z]+(\d+)", element)
    each = int(bits[1]) if bits else 8 * (element == "pred")
    return -(-each * math.prod(int(size) for size in re.findall(r"\d+", sizes)) // 8)


def _groups(attributes: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """The groups of an operation's attributes; `{}` are all devices."""
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
    """The groups of axes of a mesh, such as 'a'=2,'b'=4 and 'b', or 'b':(1)2, the first factor 2
    of b.

    Args:
        device_ids: the mesh's devices, if they are not in order: [4,2]T(1,0) or 0,2,1,3.
        grouped: the axes.
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
    """Numbers from 0 in the order of [4,2] or, transposed, [4,2]T(1,0); flat."""
    sizes, order = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()  # type: ignore[union-attr]
    shape = _integers(sizes)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    return (numbers.transpose(_integers(order)) if order else numbers).reshape(-1)


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _tuples(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(group) for group in groups.tolist())
