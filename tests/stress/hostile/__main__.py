"""Worker: read hostile files one after the other, and print a line of JSON for each.

A line is {"number", "family", "what", "outcome", "message", "seconds"}. Before every mutant its
number is printed alone, so that a mutant that ends the process is known.
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxtal.cli import logs
from tests.stress.hostile import families, guard, unsafe

# Modules that Python and NumPy import on first use: for names of old archives, for old pickles.
_LATE = "encodings.cp437", "linecache", "numpy.char", "numpy.core.multiarray", "unicodedata"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.hostile", description=__doc__)
    parser.add_argument("--only", type=int, help="one mutant, by its number")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=100, help="end of the range, not read")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="with --only: copy its files to this new folder")
    parser.add_argument("--folder", type=Path, help="for temporary files")
    parser.add_argument(
        "--unsafe", action="store_true", help="run readers with one fault each instead"
    )
    options = parser.parse_args()
    numbers = range(options.first, options.last, options.step)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="h", dir=options.folder) as temporary:
        # os.path.realpath, as readers may resolve their paths.
        folder = Path(os.path.realpath(temporary))
        logs.install()
        _warm(folder / "valid")
        os.chdir(folder)
        watch = guard.Guard(folder)
        _expect_valid(watch, folder / "valid")
        watch.changed()  # caches are filled now
        if options.unsafe:
            _judge_unsafe(watch, folder / "m")
        failed = 0
        for number in numbers:
            line = _one(watch, folder / "m", number)
            failed += line["outcome"] == "failed"
            print(json.dumps(line), flush=True)
            if options.only is not None:
                print(f"{line['what']}\n{line['outcome']}: {line['message']}", file=sys.stderr)
            if options.keep:
                shutil.copytree(folder / "m", options.keep, symlinks=True)
            _empty(folder)
        print(json.dumps({"growth": watch.growth, "changed": watch.changed()}))
    return failed > 0


def _warm(folder: Path) -> None:
    """Import and cache everything that reading needs, before it is watched."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LATE:
            importlib.import_module(name)
    folder.mkdir()
    for mutant in families.valid(folder):
        with contextlib.redirect_stderr(None):
            mutant.use()
    shutil.rmtree(folder)


def _expect_valid(watch: guard.Guard, folder: Path) -> None:
    folder.mkdir()
    for mutant in families.valid(folder):
        outcome, message = watch.judge(mutant.use, mutant.path)
        if outcome != "loaded":
            raise SystemExit(f"{mutant.what}, a valid file, is {outcome}: {message}")
    shutil.rmtree(folder)


def _judge_unsafe(watch: guard.Guard, folder: Path) -> None:
    guard.SECONDS = 1.0
    for name, (reader, _) in unsafe.READERS.items():
        print(json.dumps(name), flush=True)
        folder.mkdir()
        path = folder / "a.npy"
        outcome, message = watch.judge(lambda r=reader, p=path: r(p), path)
        if changed := watch.changed():
            outcome, message = "failed", f"{message}, changes {changed}"
        print(json.dumps({"number": name, "outcome": outcome, "message": message}), flush=True)
        _empty(folder.parent)


def _one(watch: guard.Guard, folder: Path, number: int) -> dict:
    print(number, flush=True)
    faulthandler.dump_traceback_later(60, exit=True)
    folder.mkdir()
    family, mutant = families.mutant(number, folder)
    start = time.process_time()
    outcome, message = watch.judge(mutant.use, mutant.path)
    faulthandler.cancel_dump_traceback_later()
    return {
        "number": number,
        "family": family,
        "what": ascii(mutant.what),
        "outcome": outcome,
        "message": message.replace(str(folder), "..."),
        "seconds": round(time.process_time() - start, 3),
    }


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


if __name__ == "__main__":
    sys.exit(main())
