"""All checks that a change must pass, fastest first: `python -m tests`."""

import subprocess
import sys

STEPS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    # The tests of a file share trained models. Each process has threads for all cores.
    ["pytest", "--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"],
)

for step in STEPS:
    print("$ python -m", *step, flush=True)
    code = subprocess.run([sys.executable, "-m", *step], check=False).returncode
    if code:
        sys.exit(code)
