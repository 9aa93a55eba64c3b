"""Run workers over many hostile files and collect the outcomes."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conftest import ROOT

WORKERS = 2


def run(count: int, first: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read mutants `first` to `first + count`; return their lines and the largest memory growth."""
    with ThreadPoolExecutor(WORKERS) as pool:
        spans = [range(first + part, first + count, WORKERS) for part in range(WORKERS)]
        parts = list(pool.map(_span, spans))
    lines = [line for part, _ in parts for line in part]
    return sorted(lines, key=lambda line: line["number"]), max(growth for _, growth in parts)


def _span(numbers: range) -> tuple[list[dict[str, Any]], int]:
    """Run a worker, and a new one after each mutant that ends it."""
    lines: list[dict[str, Any]] = []
    growth = 0
    while numbers:
        found, end = worker(
            f"--first={numbers.start}", f"--last={numbers.stop}", f"--step={numbers.step}"
        )
        lines += found
        growth = max(growth, end.get("growth", 0))
        if end.get("changed"):
            raise AssertionError(f"a mutant of {numbers} changes {end['changed']}")
        numbers = numbers[len(found) :]
    return lines, growth


def worker(*options: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run a worker; return its lines and its last one. A mutant that ended it has failed."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="h", dir=memory) as folder:
        process = subprocess.run(
            [sys.executable, "-m", "tests.stress.hostile", f"--folder={folder}", *options],
            cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": ""},
        )  # fmt: skip
    lines, begun, end = [], None, {}
    for text in process.stdout.splitlines():
        line = json.loads(text)
        if not isinstance(line, dict):
            begun = line
        elif "number" in line:
            lines.append(line)
            begun = None
        else:
            end = line
    if begun is not None:
        message = f"the worker ended with {process.returncode}: {process.stderr[-2000:]}"
        lines.append(
            {"number": begun, "outcome": "failed", "message": message, "family": "", "what": ""}
        )
    elif not end:
        raise AssertionError(f"no worker: {process.stderr[-3000:]}")
    return lines, end
