"""Measure the parts of a whole run, from the config to the last result, in seconds.

    python -m benchmarks.speed.end_to_end [--method co2net] [--shape demo] [--population M]

Runs `trainer.train_and_evaluate` in a temporary work directory: generating the data, compiling,
training, evaluating, saving checkpoints, plotting. The first run compiles all programs (cold); the
others find them in the compilation cache (warm), like a second `python -m jaxtal.main`. Importing
Python modules and initializing the device are not included. Prints one JSON row per run, with the
parts' fractions of the total in `shares`, and a table. The output of the run itself goes to stderr.

--shape thumos: generated videos with THUMOS14's number, lengths and width, 5,000 steps and 25
evaluations; this takes hours on a few CPU cores.
"""

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from absl import logging
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict
from rich.table import Table

from benchmarks.timing import Rows, add_set, numbers_table, parser_of, row, show
from benchmarks.workloads import CONFIGS, THUMOS
from jaxtal.data import synthetic
from jaxtal.evaluation import detection_map
from jaxtal.training import evaluator, setup, trainer
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.visualization import plots

# Parts that the trainer does not report: these functions, none of which calls another, are wrapped
# during a run. The trainer's "evaluate" is forward, localize and evaluate together. "checkpoints"
# is the time that the run waits for; most of a checkpoint is written in the background.
WRAPPED = (
    (setup, "load_from_config", "data"),
    (setup, "place_features", "data"),
    (evaluator.Evaluator, "__call__", "forward"),
    (evaluator, "localize", "localize"),
    (detection_map, "evaluate", "evaluate"),
    (detection_map, "classification_map", "evaluate"),
    (Checkpoints, "save", "checkpoints"),
    (Checkpoints, "close", "checkpoints"),
    (plots, "draw", "plots"),
)
PARTS = (
    "data", "compile", "train", "forward", "localize", "evaluate", "checkpoints",
    "plots", "other",
)  # fmt: skip


def config_of(options: argparse.Namespace) -> ConfigDict:
    """Return the config of a run."""
    demo, thumos, _ = CONFIGS[options.method]
    if options.shape == "demo":
        config = demo.get_config()
    else:
        config = thumos.get_config()
        config.data.update(dir="", name="Synthetic")
        config.data.generator = THUMOS
        config.train.update(steps=5000, eval_every=200)
    config.population = options.population
    config.train.steps = options.steps or config.train.steps
    config.train.eval_every = options.eval_every or config.train.eval_every
    config.update_from_flattened_dict(dict(options.set))
    return config


def timed(function: Callable, seconds: dict[str, float], part: str) -> Callable:
    """Return a function that also adds the seconds of its calls to `seconds[part]`.

    Args:
        function: function to wrap.
        seconds: seconds by part.
        part: key of `seconds`.
    """

    @functools.wraps(function)
    def wrapper(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] += time.perf_counter() - start

    return wrapper


@contextlib.contextmanager
def wrapped(seconds: dict[str, float]) -> Iterator[None]:
    """Within the context, add the seconds of the functions of `WRAPPED` to their parts."""
    with contextlib.ExitStack() as stack:
        for owner, name, part in WRAPPED:
            function = timed(getattr(owner, name), seconds, part)
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


@contextlib.contextmanager
def compiled_programs_kept() -> Iterator[None]:
    """Within the context, cache compiled programs in an initially empty temporary folder."""
    before = jax.config.values["jax_compilation_cache_dir"]
    with tempfile.TemporaryDirectory(prefix="jaxtal_compiled_") as folder:
        try:
            jax.config.update("jax_compilation_cache_dir", folder)
            compilation_cache.reset_cache()  # JAX reads the option only once
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", before)
            compilation_cache.reset_cache()


def run(config: ConfigDict) -> dict[str, float]:
    """Measure the seconds of a run's parts and of the total, key "total"."""
    seconds = dict.fromkeys(PARTS, 0.0)
    jax.clear_caches()  # programs compiled by earlier runs of this process
    with tempfile.TemporaryDirectory(prefix="jaxtal_run_") as folder, wrapped(seconds):
        start = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            result = trainer.train_and_evaluate(config, Path(folder) / "run")
        total = time.perf_counter() - start
    reported = result["seconds"]
    seconds.update(compile=reported["compile"], train=reported["train"])
    seconds["other"] = max(0.0, total - sum(seconds.values()))
    return {**seconds, "total": total}


def shapes_of(config: ConfigDict) -> dict[str, Any]:
    """Return the sizes of a run."""
    generator = synthetic.parse(config.data.generator)
    return {
        "method": config.method, "steps": config.train.steps, "eval_every": config.train.eval_every,
        "population": config.population, "batch": config.train.batch_size,
        "snippets": config.data.num_snippets, "features": 2 * generator.feature_width,
        "classes": generator.num_classes, "training_videos": generator.num_train,
        "test_videos": generator.num_test,
    }  # fmt: skip


def row_of(name: str, shapes: dict[str, Any], seconds: dict[str, float], cache: str) -> dict:
    """Return the row of a run.

    Args:
        name: name of the case.
        shapes: sizes of the run.
        seconds: seconds by part.
        cache: "cold" or "warm".
    """
    parts = {part: round(seconds[part], 4) for part in PARTS}
    shares = {part: round(value / seconds["total"], 4) for part, value in parts.items()}
    return row(name, shapes, [seconds["total"]], cache=cache, seconds_of=parts, shares=shares)


def table_of(title: str, runs: dict[str, dict[str, float]]) -> Table:
    """Return a table with a column of seconds and one of fractions for every run.

    Args:
        title: title of the table.
        runs: seconds by part of each run.
    """
    columns = [column for name in runs for column in (f"{name}, s", "share")]
    table = numbers_table(title, "part", *columns)
    for part in (*PARTS, "total"):
        cells: list[str] = []
        for seconds in runs.values():
            cells += [f"{seconds[part]:.2f}", f"{100 * seconds[part] / seconds['total']:.1f} %"]
        if part == "total":
            table.add_section()
        table.add_row(part, *cells)
    return table


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_of(__doc__, repeats=2)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net", help="default: co2net")
    parser.add_argument("--shape", choices=["demo", "thumos"], default="demo", help="default: demo")
    parser.add_argument("--steps", type=int, help="default: the demo config's; thumos: 5000")
    parser.add_argument(
        "--eval_every", type=int, help="steps; default: the demo config's; thumos: 200"
    )
    parser.add_argument("--population", type=int, default=1, metavar="M", help="default: 1")
    add_set(parser, "data.generator='demo num_test=20'")
    return parser.parse_args()


def main() -> None:
    """Measure the runs; print the rows and a table."""
    options = parse()
    config, rows = config_of(options), Rows(options.json)
    logging.set_verbosity(logging.WARNING)  # as in jaxtal.main
    name = f"{options.method}, {options.shape}"
    runs: dict[str, dict[str, float]] = {}
    with compiled_programs_kept():
        for number in range(1, options.repeats + 1):
            kind = "cold" if number == 1 else "warm"
            runs[f"run {number}, {kind}"] = seconds = run(config)
            rows(row_of(f"{name}, {kind}", shapes_of(config), seconds, kind))
    title = f"{name}: {config.train.steps} steps, population of {config.population}"
    show(table_of(title, runs))


if __name__ == "__main__":
    main()
