"""python -m tests: everything that a change must pass, in the order of speed."""

import subprocess
import sys

STEPS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    # A file's tests share what they train. Each process has threads for all cores anyway.
    ["pytest", "--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"],
)

for step in STEPS:
    print("$ python -m", *step, flush=True)
    code = subprocess.run([sys.executable, "-m", *step], check=False).returncode
    if code:
        sys.exit(code)
