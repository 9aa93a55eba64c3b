"""Runs for tests of the report, localized from random activations, and a browser."""

import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

from benchmarks.workloads import THUMOS14, Size, draw_activations
from configs import co2net_thumos
from jaxtal import methods
from jaxtal.data.activations import Activations
from jaxtal.data.dataset import Dataset, Video
from jaxtal.methods.base import Method
from jaxtal.reporting import tables
from jaxtal.reporting.runs import Curves, Model, Run
from jaxtal.training import evaluator


def drawn_runs(videos: int, count: int, classes: int = 20) -> list[Run]:
    """Return runs on the same random videos with THUMOS14's lengths, each with its own noise."""
    size = dataclasses.replace(THUMOS14, videos=videos, classes=classes)
    truth, outputs = draw_activations(size)
    dataset = _dataset(size, truth, [len(output["cas"]) for output in outputs])
    config = co2net_thumos.get_config()
    method = methods.get(config.method)
    return [_run(f"run_{seed}", dataset, outputs, method, config, seed) for seed in range(count)]


def _dataset(size: Size, truth, lengths: Sequence[int]) -> Dataset:
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
    durations = np.array([video.duration for video in dataset.test])
    saved = Activations(names, dataset.classes, outputs, snippets, dataset.grid, durations)
    losses = [
        {"step": step, **{term: float(rng.random()) for term in ("loss", *config.loss.weights)}}
        for step in range(20, 4001, 20)
    ]
    result = tables.parse(content, name)
    curves = Curves(saved, method.score_spec(config))
    model = Model(name, dataset, result.official, found, curves)
    return Run(name, result, [*losses, evaluated], dataset, [model], [], "")


def chromium() -> str | None:
    """Return the path of Chromium, None if it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def browse(program: str, address: str, *options: str) -> tuple[str, str]:
    """Return the DOM of a page after its scripts have run, and its console messages."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={folder}", "--enable-logging=stderr",
            "--window-size=1400,2400", *options, "--dump-dom", address,
        ]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout, "\n".join(re.findall(r".*:CONSOLE.*", done.stderr))
