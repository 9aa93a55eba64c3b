"""Run every speed benchmark on the device that JAX finds, for example an accelerator.

    python -m benchmarks.everything [--folder benchmarks/results] [--dry-run]

Each benchmark runs in a separate process and writes its rows to FOLDER/DEVICE_BENCHMARK.jsonl (or
.json). Expect about half an hour on a GPU and hours on a CPU, most of them for the THUMOS14-sized
training; --without omits programs. The PyTorch references need the extra `torch`; without it the
training steps are compared with their floor only.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

# File name of the rows: command-line arguments.
PROGRAMS = {
    "train_step.json": ["train_step"],
    "train_step_bfloat16.json": ["train_step", "--precision", "bfloat16", "--reference", "none"],
    "input.jsonl": ["input"],
    "population.jsonl": ["population", "--members", "1", "2", "4", "8", "16", "--until_full"],
    "scaling.jsonl": ["scaling"],
    "memory.jsonl": ["memory"],
    "end_to_end.jsonl": ["end_to_end"],
    "end_to_end_thumos.jsonl": ["end_to_end", "--shape", "thumos"],
    "end_to_end_thumos_bfloat16.jsonl": [
        "end_to_end", "--shape", "thumos", "--set", "precision=bfloat16"
    ],
}  # fmt: skip


def commands(folder: Path, device: str, without: list[str]) -> list[list[str]]:
    """Return the command lines in the order in which they run.

    Args:
        folder: where the rows go.
        device: name of the device, a part of the file names.
        without: names of programs to omit.
    """
    device = "_".join(device.lower().split())
    lines = []
    for file, arguments in PROGRAMS.items():
        if arguments[0] not in without:
            line = [sys.executable, "-m", f"benchmarks.speed.{arguments[0]}", *arguments[1:]]
            if arguments == ["train_step"] and not importlib.util.find_spec("torch"):
                line += ["--reference", "none"]
            lines.append([*line, "--json", str(folder / f"{device}_{file}")])
    return lines


def device_kind() -> str:
    """Return the device's name, queried in another process: JAX would keep a GPU's memory."""
    query = "import jax; print(jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", query], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    """Run all benchmarks, continuing after a failure; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("benchmarks/results"),
        help="of the rows; default: benchmarks/results",
    )  # fmt: skip
    names = sorted({arguments[0] for arguments in PROGRAMS.values()})
    parser.add_argument("--without", nargs="+", choices=names, default=[], help="programs to omit")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for command in commands(options.folder, device_kind(), options.without):
        print("$", *command[1:], flush=True)
        failed |= not options.dry_run and subprocess.run(command, check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
