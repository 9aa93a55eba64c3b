"""Damage files that the program has written, and read them back.

    python -m tests.stress.damage --flips 2000 --truncations 500

A run, an evaluation, an exported model, predictions and converted data sets are made once. Then a
bit of a random file is flipped, or the file is truncated, and everything that the program reads
back from it is read: each damage must be refused with the file's name, be set aside with a warning
that names it, or have no effect on anything that is read. The exit code is 1 otherwise.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
from rich.table import Table

from benchmarks.timing import show
from tests.stress.damage import artifacts
from tests.stress.damage.campaign import FAILED, Campaign, Outcome

ENDINGS = ("refused", "set aside", "no effect", *FAILED)


def kind_of(name: str) -> str:
    """Return a file's name with placeholders for numbers and digests."""
    name = re.sub(r"[0-9a-f]{32}", "*", name)
    name = re.sub(r"(checkpoints|step=)(/?)\d+", r"\1\2N", name)
    return re.sub(r"video_[^/.]*", "*", name)


def table(outcomes: list[Outcome]) -> Table:
    """Return the numbers of outcomes by kind of file and reader."""
    counts: dict[tuple[str, str], Counter] = {}
    for outcome in outcomes:
        key = kind_of(outcome.file), outcome.reader
        counts.setdefault(key, Counter())[outcome.ended] += 1
    shown = Table("file", "read by", *ENDINGS)
    for (kind, reader), found in sorted(counts.items()):
        shown.add_row(kind, reader, *(str(found[ending] or "") for ending in ENDINGS))
    total = Counter(outcome.ended for outcome in outcomes)
    shown.add_section()
    shown.add_row("all", "", *(str(total[ending]) for ending in ENDINGS))
    return shown


def main(argv: list[str] | None = None) -> int:
    """Damage and read the files, print the numbers and the failures, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flips", type=int, default=2000, help="flipped bits; default: 2000")
    parser.add_argument("--truncations", type=int, default=500, help="default: 500")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory(prefix="jaxtal_damage_") as name:
        folder = Path(name).resolve()
        artifacts.make(folder / "whole")
        campaign = Campaign(folder / "whole", folder / "copy")
        outcomes = [
            *campaign.run("flip", range(options.flips), options.seed),
            *campaign.run("truncate", range(options.truncations), options.seed),
        ]
    show(table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.ended in FAILED]
    for outcome in failed:
        print(f"{outcome.how} {outcome.number}, {outcome.file}, {outcome.reader}: {outcome.ended}")
        print(outcome.message)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
