"""The report of many videos: how large its page is, and how long writing and opening it takes.

    python -m benchmarks.report [--videos 200] [--runs 4] [--repeats 5] [--json FILE]

The runs are CO2-Net's localization of drawn activations (`untrimmed`), judged as a run judges them.
Prints one JSON row for writing and one for opening the page in headless Chromium, where there is
one: seconds from the start of the navigation to the load event and the first video drawn, whichever
is later; beside them those of the whole process, and of a process that opens an empty page.
"""

import dataclasses
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import untrimmed
from benchmarks.timing import Rows, interleaved, parser_of, row
from configs import co2net_thumos
from jaxtal import methods
from jaxtal.data.activations import Activations
from jaxtal.data.dataset import Dataset, Video
from jaxtal.methods.base import Method
from jaxtal.reporting import html, tables
from jaxtal.reporting.runs import Curves, Model, Run
from jaxtal.train import evaluator


def drawn_runs(videos: int, count: int, classes: int = 20) -> list[Run]:
    """Runs on the same drawn videos of THUMOS14's lengths; each has noise of its own."""
    size = dataclasses.replace(untrimmed.THUMOS14, videos=videos, classes=classes)
    truth, outputs = untrimmed.draw(size)
    dataset = _dataset(size, truth, [len(output["cas"]) for output in outputs])
    config = co2net_thumos.get_config()
    method = methods.get(config.method)
    return [_run(f"run_{seed}", dataset, outputs, method, config, seed) for seed in range(count)]


def _dataset(size: untrimmed.Size, truth, lengths: Sequence[int]) -> Dataset:
    classes = tuple(f"Class{index:02}" for index in range(size.classes))
    dataset = Dataset("Drawn", classes, (), ())
    videos = []
    for index, length in enumerate(lengths):
        own = truth.take(truth.video == index)
        segments = dataset.grid.to_seconds(np.stack([own.start, own.end], axis=1))
        ambiguous = segments[:1] if index % 10 == 0 else np.empty((0, 2))
        videos.append(
            Video(
                name=f"video_test_{index:07}",
                duration=float(dataset.grid.to_seconds(length)),
                labels=np.unique(own.label),
                segments=segments,
                segment_labels=own.label,
                ambiguous=ambiguous,
                features=np.empty((length, 0), np.float32),
            )
        )
    return dataclasses.replace(dataset, test=tuple(videos))


def _run(name: str, dataset: Dataset, outputs, method: Method, config, seed: int) -> Run:
    rng = np.random.default_rng(seed)
    outputs = [
        {"cas": cas + rng.normal(size=cas.shape), "attention": attention ** rng.uniform(0.5, 2)}
        for cas, attention in (output.values() for output in outputs)
    ]
    judged, found = evaluator.evaluate_outputs(method, config, dataset, outputs)
    evaluated = {"step": 4000, **judged}
    content = {
        "method": method.name, "data": dataset.name, **evaluated, "best_on_test": evaluated
    }  # fmt: skip
    snippets = np.array([len(video.features) for video in dataset.test])
    names = tuple(video.name for video in dataset.test)
    saved = Activations(names, dataset.classes, outputs, snippets, dataset.grid)
    losses = [
        {"step": step, **{term: float(rng.random()) for term in ("loss", *config.loss.weights)}}
        for step in range(20, 4001, 20)
    ]
    result = tables.parse(content, name)
    curves = Curves(saved, method.score_spec(config))
    model = Model(name, dataset, result.official, found, curves)
    return Run(name, result, [*losses, evaluated], dataset, [model], [], "")


def chromium() -> str | None:
    """The program, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def browse(program: str, address: str, *options: str) -> tuple[str, str]:
    """The DOM of a page after its scripts have run, and what the browser said on its console."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={folder}", "--enable-logging=stderr",
            "--window-size=1400,2400", *options, "--dump-dom", address,
        ]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout, "\n".join(re.findall(r".*:CONSOLE.*", done.stderr))


def measure_opening(program: str, address: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of opening a page, by what is measured, after one opening that does not count."""
    seconds: dict[str, list[float]] = {"open": [], "drawn": [], "process": [], "empty": []}
    for turn in range(repeats + 1):
        start = time.perf_counter()
        dom, _ = browse(program, address)
        middle = time.perf_counter()
        browse(program, "about:blank")
        end = time.perf_counter()
        loaded, drawn = (
            float(re.findall(rf'data-{name}="([\d.]+)"', dom)[0]) / 1e3
            for name in ("loaded", "ready")
        )
        values = {
            "open": max(loaded, drawn), "drawn": drawn, "process": middle - start,
            "empty": end - middle,
        }  # fmt: skip
        for name, value in values.items() if turn else ():
            seconds[name].append(value)
    return seconds


def main() -> None:
    """Make the runs, write their report, open it, print rows."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    rows = Rows(options.json)
    runs = drawn_runs(options.videos, options.runs)
    shapes = {
        "videos": options.videos,
        "runs": options.runs,
        "detections": sum(len(model.found) for run in runs for model in run.models),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        seconds = interleaved(
            {"write": lambda: html.write(path, runs, options.videos)}, options.repeats
        )
        size = path.stat().st_size / 1e6
        rows(row("write", shapes, seconds["write"], None, megabytes=size))
        if program := chromium():
            opening = measure_opening(program, path.as_uri(), options.repeats)
            medians: dict[str, Any] = {
                f"{name}_s": statistics.median(values)
                for name, values in opening.items()
                if name != "open"
            }
            rows(row("open", shapes, opening["open"], None, **medians))
        else:
            print("no Chromium, so the page is not opened")


if __name__ == "__main__":
    main()
