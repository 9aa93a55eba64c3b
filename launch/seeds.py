"""Run one config with several seeds, one after another, and print mean and spread as Markdown.

    python launch/seeds.py --seeds 0 1 2 --workdir runs/demo -- --config configs/co2net_demo.py

What follows `--` goes to `python -m jaxtal.main`. Seed s runs in WORKDIR/seed_s; finished seeds are
not run again, interrupted ones continue.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path


def run(workdir: Path, seed: int, arguments: list[str]) -> dict:
    """One run of the entry point; its result.json."""
    folder = workdir / f"seed_{seed}"
    command = [sys.executable, "-m", "jaxtal.main", *arguments]
    command += [f"--workdir={folder}", f"--config.seed={seed}"]
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)
    return json.loads((folder / "result.json").read_text())


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (n - 1), in per cent."""
    values = [100 * value for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def table(results: list[dict]) -> str:
    """Rows: last step, best on test, last step under the official protocol."""
    averages = list(results[0]["average"])
    rows = {
        f"last step, {results[0]['protocol']}": results,
        f"best on test, {results[0]['protocol']}": [r["best_on_test"] for r in results],
        f"last step, {results[0]['official']['protocol']}": [r["official"] for r in results],
    }
    lines = [
        "| mAP, per cent | " + " | ".join(averages) + " |",
        "|---" * (len(averages) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [spread([r["average"][key] for r in row]) for key in averages]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    classification = spread([r["classification_map"] for r in results])
    f1 = spread([r["f1"] for r in results])
    middle = averages[len(averages) // 2]
    seeds = ", ".join(f"{100 * r['average'][middle]:.1f}" for r in results)
    lines.append("")
    lines.append(f"video-level mAP {classification}; F1 at 0.5 {f1}; {middle} by seed: {seeds}")
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("arguments", nargs="+", metavar="-- ARGUMENTS OF jaxtal.main")
    options = parser.parse_args()
    results = [run(options.workdir, seed, options.arguments) for seed in options.seeds]
    print(table(results))


if __name__ == "__main__":
    main()
