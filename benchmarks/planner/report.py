"""Rows of compiled programs: bytes, collectives, a bound of the speed; and a table of rows."""

import re
from collections import Counter
from typing import Any

from benchmarks.planner.cases import Case, chip_of
from benchmarks.planner.collectives import axes, collectives
from benchmarks.timing import markdown_table

NEEDED = ("arguments", "temporaries", "results")
CODE = 2**28  # bytes of HBM reserved for machine code; CO2-Net's on a v5e had 31 to 178 MB


def buffers(text: str) -> dict[str, int]:
    """Sum the bytes of HBM by purpose.

    Args:
        text: XLA's dump of a buffer assignment. Buffers in other memories have a color, and
            "thread-local" marks buffers inside an operation; both are omitted.

    Returns:
        Bytes of "arguments"; of "donated" arguments, which results replace; of other "results";
        and of "temporaries", constants included.
    """
    found = dict.fromkeys(("arguments", "donated", "temporaries", "results"), 0)
    for size, kind in re.findall(r"^allocation \d+: size (\d+), (.*)$", text, re.MULTILINE):
        if re.match(r"(?:page \d+, )?color [1-9]", kind) or "thread-local" in kind:
            continue
        if re.search(r"\bparameter \d+", kind):
            found["arguments"] += int(size)
            found["donated"] += int(size) * ("maybe-live-out" in kind)
        elif "maybe-live-out" in kind or "output shape is" in kind:
            found["results"] += int(size)
        else:
            found["temporaries"] += int(size)
    return found


def communication(text: str, mesh: dict[str, int]) -> list[dict]:
    """Count equal collectives of a program.

    Args:
        text: text of the optimized program.
        mesh: sizes of the mesh axes.
    """
    found = Counter(
        (one.kind, axes(one, mesh), one.in_loop, one.bytes) for one in collectives(text)
    )
    return [
        {"kind": kind, "axes": list(along), "in_loop": in_loop, "bytes": size, "count": count}
        for (kind, along, in_loop, size), count in sorted(found.items())
    ]


def row(case: Case, facts: dict, assignment: str = "", program: str = "") -> dict[str, Any]:
    """Return the row of a program.

    Args:
        case: compiled program.
        facts: content of facts.json.
        assignment: dump of the buffer assignment; empty if the program was refused before.
        program: text of the optimized program; empty if it was refused before.
    """
    places = facts["chips"] // case.data
    content: dict[str, Any] = {
        **{name: getattr(case, name) for name in ("topology", "method", "program", "shape")},
        "set": dict(case.fields),
        "chips": facts["chips"],
        "mesh": {"member": places, "data": case.data},
        "members_a_chip": case.members,
        "population": places * case.members,
        "flops_a_chip": facts["flops"],
        "bytes_available": facts["available"],
        "refused": facts.get("refused"),
    }
    if assignment:
        sizes = buffers(assignment)
        total = sum(sizes[name] for name in NEEDED)
        content["bytes"] = {**sizes, "total": total}
        content["rematerialized"] = bool(re.search(r"%\S*\.remat\d* = ", program))
        content["collectives"] = communication(program, content["mesh"])
        if case.program == "training":
            content["upper_bound"] = bound(case, facts["flops"], sizes["donated"], places)
    fits = "bytes" in content and content["bytes"]["total"] + CODE <= facts["available"]
    content["fits"] = fits and not content["refused"]
    return {**content, **{k: facts[k] for k in ("machine_code",) if k in facts}}


def bound(case: Case, flops: float, state: int, places: int) -> dict[str, float]:
    """Compute the upper bound of the member-steps per second; see `benchmarks.planner.plan`.

    Args:
        case: compiled program.
        flops: FLOPs of a chip's step.
        state: bytes on a chip that every step reads and writes.
        places: number of chips, or of groups of chips that share a batch.
    """
    chip = chip_of(case.topology)
    seconds = {"flops": flops / chip.flops, "state": 2 * state / chip.bandwidth}
    rate = case.members / max(seconds.values())
    return {
        "seconds_by_flops": seconds["flops"],
        "seconds_by_state": seconds["state"],
        "member_steps_a_second": rate * places,
        "member_steps_a_second_a_chip": rate / case.data,
    }


def markdown(rows: list[dict]) -> str:
    """Format rows as a Markdown table."""
    head = (
        "topology", "mesh", "method", "program", "members per chip", "population", "arguments, GiB",
        "temporaries", "results", "total", "available", "fits", "GFLOP per chip",
        "collectives in the loop, outside", "upper bound, member-steps/s",
    )  # fmt: skip
    return markdown_table(head, map(cells, rows)) + "\n"


def cells(one: dict) -> list[str]:
    """Return the cells of a row."""
    sizes = one.get("bytes")
    gib = [f"{sizes[name] / 2**30:.2f}" if sizes else "" for name in (*NEEDED, "total")]
    fits = "no" if not one["fits"] else "yes, rematerialized" if one["rematerialized"] else "yes"
    found = one.get("collectives")
    inside = sum(c["count"] for c in found or () if c["in_loop"])
    outside = sum(c["count"] for c in found or ()) - inside
    rate = (
        one["upper_bound"]["member_steps_a_second"] if one["fits"] and "upper_bound" in one else 0
    )
    return [
        one["topology"], " x ".join(map(str, one["mesh"].values())), one["method"],
        one["program"], str(one["members_a_chip"]),
        f"{one['population']:,}", *gib, f"{one['bytes_available'] / 2**30:.2f}", fits,
        f"{one['flops_a_chip'] / 1e9:,.0f}", "" if found is None else f"{inside}, {outside}",
        f"{rate:,.0f}" if rate else "",
    ]  # fmt: skip
