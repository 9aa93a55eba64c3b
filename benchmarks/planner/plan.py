"""Plan training on a TPU slice with the TPU's compiler, without a TPU.

    python -m benchmarks.pod_plan --topology v5e:16x16 v4:2x2x4 [--method co2net] [--markdown FILE]

Needs libtpu (extra `tpu-plan`), whose compiler runs on any x86 machine. For every topology and
method the training programs of `jaxtal.main` are compiled for 1, 2 and 4 members per chip. The
largest number of members that fits a chip's memory is predicted from the last two and then searched
by compiling, until one number fits and the next does not. The evaluation program is compiled for
that number. The rows have, per chip:

- bytes of HBM in the compiler's buffer assignment: arguments, temporaries, and results that do not
  replace a donated argument; and the bytes that the compiler grants a program. 256 MiB of these are
  reserved for the machine code;
- FLOPs of a step, counted by XLA in the program before optimization;
- the collectives of the optimized program (`benchmarks.planner.collectives`), and whether the
  compiler computes values twice to save memory ("rematerialized");
- an upper bound of the member-steps per second. A step is not faster than its FLOPs at the
  published peak of bfloat16 products (the default precision of float32 products on TPUs), nor than
  one read and write of the donated state at the published bandwidth. The bound is a prediction, not
  a measurement: real steps are slower, as they also read and write activations. The compiler's own
  estimate, `optimal_seconds`, is negative for these programs and not used.

A program is compiled up to its buffer assignment, about ten seconds. Machine code takes minutes and
does not change these numbers; `--machine_code` writes it and adds its size and the compiler's
`bytes accessed` and seconds.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.planner.cases import SHAPES, Case, chip_of, chips_in, config_in
from benchmarks.planner.compile import compile_case, planned
from benchmarks.planner.report import CODE, markdown
from benchmarks.timing import add_set
from benchmarks.workloads import CONFIGS
from jaxtal.errors import JaxtalError


def predicted(first: dict, second: dict) -> int:
    """Predict the number of members that fit a chip, linear in the bytes of two rows.

    Args:
        first: row of fewer members.
        second: row of more members.
    """
    members = [one["members_a_chip"] for one in (first, second)]
    slope, rest = np.polyfit(members, [one["bytes"]["total"] for one in (first, second)], 1)
    return int((first["bytes_available"] - CODE - rest) / slope)


def next_count(rows: list[dict], guess: int | None) -> int | None:
    """Return the members per chip to try next; None if the largest number is known.

    Args:
        rows: rows of the numbers tried so far.
        guess: number to begin with; None predicts it from the rows.
    """
    by_members = {one["members_a_chip"]: one for one in rows}
    fitting = sorted(members for members, one in by_members.items() if one["fits"])
    failing = sorted(by_members.keys() - set(fitting))
    low, high = fitting[-1] if fitting else 0, failing[0] if failing else None
    if high == low + 1:
        return None
    near = [by_members[members] for members in (*fitting[-2:], *failing[:1])]
    known = [one for one in near if "bytes" in one][-2:]
    if guess is None and len(known) == 2:
        guess = predicted(*known)
    if high is None:
        return max(low + 1, guess or 0)
    return min(max(low + 1, guess or (low + high) // 2), high - 1)


def plan(case: Case, counts: list[int], guess: int | None) -> Iterator[dict]:
    """Yield the rows of a topology and a method.

    Args:
        case: training program.
        counts: members per chip to compile first.
        guess: largest number on a chip of the same kind, if known.
    """
    rows = []
    for members in counts:
        rows.append(planned(case._replace(members=members)))
        yield rows[-1]
    while (wanted := next_count(rows, guess)) is not None:
        rows.append({**planned(case._replace(members=wanted)), "sought": True})
        guess = None
        yield rows[-1]
    most = max((one["members_a_chip"] for one in rows if one["fits"]), default=0)
    if most:
        yield planned(case._replace(members=most, program="evaluation"))


def most_members(rows: list[dict]) -> dict[tuple[str, str, int], int]:
    """Return the largest number of members per chip by (kind of chip, method, data)."""
    found: dict[tuple[str, str, int], int] = {}
    for one in rows:
        if one["fits"] and one["program"] == "training" and "sought" in one:
            key = (one["topology"].partition(":")[0], one["method"], one["mesh"]["data"])
            found[key] = max(found.get(key, 0), one["members_a_chip"])
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--topology", nargs="+", default=["v5e:4x4"], metavar="KIND:SHAPE",
        help="default: v5e:4x4",
    )  # fmt: skip
    parser.add_argument(
        "--method", nargs="+", choices=list(CONFIGS), default=list(CONFIGS), help="default: all"
    )
    parser.add_argument(
        "--members", nargs="+", type=int, default=[1, 2, 4], metavar="M",
        help="members per chip to compile first; default: 1 2 4",
    )  # fmt: skip
    parser.add_argument(
        "--population", nargs="+", type=int, default=[],
        help="plan only these populations, without a search for the largest one",
    )  # fmt: skip
    parser.add_argument("--data", type=int, default=1, help="chips that share a batch; default: 1")
    parser.add_argument(
        "--shape", choices=list(SHAPES), default="thumos", help="data set size; default: thumos"
    )
    parser.add_argument(
        "--config", default="", metavar="FILE", help="config file, instead of --method"
    )
    add_set(parser, "train.batch_size=12")
    parser.add_argument(
        "--machine_code", action="store_true", help="also write machine code: minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def planned_rows(options: argparse.Namespace) -> Iterator[dict]:
    """Yield the rows of a command line."""
    rows: list[dict] = []
    names = [config_in(options.config).method] if options.config else options.method
    for topology, method in itertools.product(options.topology, names):
        case = Case(
            topology, method, 1, options.data, "training", options.shape, options.config,
            tuple(options.set), options.machine_code,
        )  # fmt: skip
        if options.population:
            found: Iterator[dict] = map(planned, populations(case, options.population))
        else:
            kind = (topology.partition(":")[0], method, options.data)
            guess = most_members(rows).get(kind)
            found = plan(case, [] if guess else options.members, guess)
        for one in found:
            rows.append(one)
            yield one


def populations(case: Case, wanted: list[int]) -> list[Case]:
    """Return the cases of whole populations.

    Args:
        case: training program.
        wanted: sizes of the populations.

    Raises:
        JaxtalError: a size cannot be divided over the topology's chips.
    """
    places = chips_in(case.topology) // case.data
    for population in wanted:
        if population < 1 or population % places:
            raise JaxtalError(
                f"--population={population} cannot be divided over the {places} places of "
                f"{case.topology} with --data={case.data}; give a multiple of {places}"
            )
    return [case._replace(members=population // places) for population in wanted]


def main(arguments: list[str] | None = None) -> None:
    """Plan; rewrite the output files after every row."""
    options = parse(arguments)
    try:
        for topology in options.topology:
            chip_of(topology)
        if options.case:
            text, folder = options.case
            compile_case(Case(*json.loads(text)), Path(folder))
            return
        rows = []
        for one in planned_rows(options):
            rows.append(one)
            print(json.dumps(one), flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
            if options.markdown:
                options.markdown.write_text(markdown(rows))
    except JaxtalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(markdown(rows))


if __name__ == "__main__":
    main()
