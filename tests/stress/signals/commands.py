"""The commands that are disturbed, their inputs, and the comparison of their files."""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtal.data import conversion
from tests.stress import conversion_kills
from tests.stress.faults import events

_TINY = (
    "--config=configs/co2net_demo.py",
    "--config.data.generator=demo num_train=12 num_test=6",
    "--config.train.steps=40",
    "--config.train.eval_every=20",
    "--config.train.log_every=10",
)
NAMES = ("train", "predict", "export", "report", "convert")
_CHANGING = ("metrics.jsonl", "damaged", "checkpoints")  # complete at the end of a run only


class Inputs(NamedTuple):
    """Input files of the commands.

    Attributes:
        run: work directory of a finished run.
        features: folder of feature files.
        dataset: data set in the layout acmnet.
        compiled: folder of the compilation cache.
    """

    run: Path
    features: Path
    dataset: Path
    compiled: Path


def inputs_in(folder: Path) -> Inputs:
    """Return the paths of the inputs in a folder."""
    return Inputs(*(folder / name for name in ("finished", "features", "acmnet", "compiled")))


def write_inputs(inputs: Inputs) -> None:
    """Write the features and the data set; the run is that of the command train."""
    rng = np.random.default_rng(0)
    inputs.features.mkdir()
    for number in range(30):
        features = rng.random((300 + number, 256)).astype(np.float32)
        np.save(inputs.features / f"video_{number}.npy", features)
    size = argparse.Namespace(videos=400, snippets=40, width=64)
    conversion.convert(conversion_kills.make(size), "acmnet", inputs.dataset)


def words_of(name: str, inputs: Inputs, out: Path) -> list[str]:
    """Return a command that writes into the folder `out`."""
    compiled = f"--compilation_cache_dir={inputs.compiled}"
    run = f"--workdir={inputs.run}"
    jaxtal = [sys.executable, "-m", "jaxtal"]
    match name:
        case "train":
            return [*jaxtal[:2], "jaxtal.main", *_TINY, f"--workdir={out}", compiled]
        case "predict":
            outputs = f"--output={out / 'found.json'}", f"--plots={out / 'plots'}"
            return [*jaxtal, name, run, f"--features={inputs.features}", *outputs, compiled]
        case "export":
            return [*jaxtal, name, run, f"--output={out / 'model.jaxtal'}"]
        case "report":
            return [*jaxtal, name, run, f"--output={out / 'report.html'}"]
    return [*jaxtal, "data", "convert", str(inputs.dataset), f"{out / 'basnet'}", "--to=basnet"]


def incomplete(name: str, ours: Path, reference: Path) -> list[str]:
    """Return the files under a final name that differ from those of the undisturbed command."""
    wrong = []
    for path in sorted(ours.rglob("*")):
        inner = path.relative_to(ours)
        hidden = any(part.startswith(".") for part in inner.parts)
        if path.is_dir() or hidden or (name == "train" and inner.parts[0] in _CHANGING):
            continue
        if content_of(path) != content_of(reference / inner):
            wrong.append(str(inner))
    if name == "train" and (ours / "metrics.jsonl").exists():
        lines, all_lines = ((at / "metrics.jsonl").read_text() for at in (ours, reference))
        if not all_lines.startswith(lines):
            wrong.append("metrics.jsonl")
    return wrong


def content_of(path: Path) -> object:
    """Return the content of a file for comparison, None if it does not exist."""
    if not path.is_file():
        return None
    if path.name != "result.json":
        return path.read_bytes()
    try:
        result = json.loads(path.read_text())
    except ValueError:
        return "not complete"
    return {field: value for field, value in result.items() if field not in ("seconds", "sha256")}


def differing(name: str, ours: Path, reference: Path) -> list[str]:
    """Return the differences of a finished command from the undisturbed one."""
    files = {path.relative_to(at) for at in (ours, reference) for path in at.rglob("*")}
    if name != "train":
        return [
            str(file)
            for file in sorted(files)
            if (reference / file).is_dir() != (ours / file).is_dir()
            or content_of(ours / file) != content_of(reference / file)
        ]
    return [*incomplete(name, ours, reference), *events.differences(ours, reference)]
