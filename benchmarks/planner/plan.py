"""Plan training on a TPU slice by the TPU's compiler, without a TPU.

    python -m benchmarks.pod_plan --topology v5e:16x16 v4:2x2x4 [--method co2net] [--markdown FILE]

Needs libtpu (the extra `tpu-plan`), whose compiler runs on any x86 machine. For every topology and
method the programs that `jaxtal.main` compiles are compiled for 1, 2 and 4 members a chip; the
number of members that fills a chip's memory is predicted from the last two and then sought by
compiling there and around it, until one number fits and the next does not. Last the evaluation
program is compiled for that number. Per chip there are reported:

- bytes of HBM: arguments, temporaries, and results that do not take a donated argument's place, as
  the compiler's buffer assignment has them; and how many it lets a program have (its own number,
  from its refusal of an absurd program). Of these 256 MiB are left for the machine code;
- FLOPs of a step, as XLA counts them in the program before optimization;
- the collectives of the optimized program (`benchmarks.planner.collectives`), and whether the
  compiler computes values twice to save memory ("rematerialised");
- an upper bound of the steps of members in a second: no step is faster than its FLOPs at the
  published peak of bfloat16 products, as which TPUs multiply float32 by default, nor than reading
  and writing the donated state (unless it stays on the chip, as tiny ones do) once at the
  published bandwidth. It is a prediction, not a measurement, and real steps are slower: they
  read and write activations, too. The compiler's own estimate (`optimal_seconds`) is no use here:
  it is negative for these programs.

A program is compiled as far as its buffer assignment, some ten seconds; writing the machine code,
which changes none of this, takes minutes. `--machine_code` does it and adds what only then is
known: the code's bytes, and the compiler's bytes accessed and seconds.
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
    """Predict the most members on a chip by a straight line through the bytes of two rows."""
    members = [one["members_a_chip"] for one in (first, second)]
    slope, rest = np.polyfit(members, [one["bytes"]["total"] for one in (first, second)], 1)
    return int((first["bytes_available"] - CODE - rest) / slope)


def next_count(rows: list[dict], guess: int | None) -> int | None:
    """Return the members a chip to try next; None if one number fits and the next is known not to.

    Args:
        rows: what is known.
        guess: to begin with; None to predict from the two numbers next to where it ends.
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
        case: of the training program.
        counts: members a chip.
        guess: the number that fills a chip, if one of its kind has been planned.
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
    """Return by (kind of chip, method, data) the most members found to fit on a chip."""
    found: dict[tuple[str, str, int], int] = {}
    for one in rows:
        if one["fits"] and one["program"] == "training" and "sought" in one:
            key = (one["topology"].partition(":")[0], one["method"], one["mesh"]["data"])
            found[key] = max(found.get(key, 0), one["members_a_chip"])
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--topology", nargs="+", default=["v5e:4x4"], help="default: v5e:4x4")
    parser.add_argument("--method", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--members", nargs="+", type=int, default=[1, 2, 4], help="a chip")
    parser.add_argument(
        "--population", nargs="+", type=int, default=[],
        help="plan these alone, instead of --members and what fills a chip",
    )  # fmt: skip
    parser.add_argument("--data", type=int, default=1, help="chips that share a batch")
    parser.add_argument("--shape", choices=list(SHAPES), default="thumos", help="of the data set")
    parser.add_argument("--config", default="", metavar="FILE", help="instead of the method's own")
    add_set(parser, "train.batch_size=12")
    parser.add_argument("--machine_code", action="store_true", help="compile to the end: minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def planned_rows(options: argparse.Namespace) -> Iterator[dict]:
    """Yield all rows that a command line asks for."""
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

    Raises:
        JaxtalError: one cannot be divided over the topology's chips.
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
    """Plan all, writing the files anew after every row."""
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
