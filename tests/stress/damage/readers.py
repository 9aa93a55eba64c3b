"""Read an artifact back as the program does, and return a digest of everything that was read."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxtal
from jaxtal.checkpoint_conversion.convert import saved_variables
from jaxtal.data import inspection, layouts
from jaxtal.data.detections import Detections
from jaxtal.errors import DataError
from jaxtal.inference.model import Model
from jaxtal.reporting import runs
from jaxtal.training import best_checkpoint
from jaxtal.training.trainer import train_and_evaluate
from tests.stress.damage import artifacts


def digest(value: Any) -> str:
    """Return a digest of arrays, dataclasses, containers and plain values."""
    state = hashlib.sha256()
    _update(state, value)
    return state.hexdigest()


def _update(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        _update(state, {name: part for name, part in fields.items() if name != "origin"})
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            state.update(str(key).encode())
            _update(state, value[key])
    elif isinstance(value, list | tuple):
        state.update(f"{len(value)}".encode())
        for part in value:
            _update(state, part)
    elif not callable(value):
        state.update(repr(value).encode())


def _of_model(model: Model) -> str:
    video = {"video": np.linspace(-1, 1, 12 * model.feature_width).reshape(12, -1)}
    return digest([model, model.predict(video)])


def predict(folder: Path) -> str:
    """Load the model of the work directory and predict."""
    return _of_model(jaxtal.load_model(folder / "run"))


def load(folder: Path) -> str:
    """Load the model of the work directory, whose equality implies equal predictions."""
    return digest(jaxtal.load_model(folder / "run"))


def exported(folder: Path) -> str:
    """Load the exported model and predict."""
    return _of_model(jaxtal.load_model(folder / "model.jaxtal"))


def resume(folder: Path) -> str:
    """Run the command of the training again, which resumes, and return a digest of its files."""
    result = train_and_evaluate(artifacts.config(), folder / "run")
    return digest([{**result, "seconds": 0}, _checkpoint(folder), report(folder)])


def _checkpoint(folder: Path) -> dict[str, Any]:
    assert best_checkpoint.choose(folder / "run" / "checkpoints") == artifacts.STEPS
    return saved_variables(folder / "run")


def evaluate(folder: Path) -> str:
    """Evaluate the newest checkpoint of the work directory."""
    result = train_and_evaluate(artifacts.config(), folder / "run", "eval")
    return digest({**result, "seconds": 0})


EVALUATION = f"run/evaluations/step={artifacts.STEPS}"


def report(folder: Path) -> str:
    """Read the work directory, and the one of its evaluation, as a report does."""
    return digest(runs.read([folder / "run", folder / EVALUATION]))


def predictions(folder: Path) -> str:
    """Read detections that were written by a prediction."""
    return digest(Detections.from_json(folder / "predicted.json"))


def dataset(layout: str, folder: Path) -> str:
    """Load a converted data set."""
    features = layout != "activitynet"
    source = layouts.read(folder / layout, features=features)
    return digest(source.load() if features else source.dataset)


def sums(layout: str, folder: Path) -> str:
    """Compare a converted data set with its checksums."""
    for finding in inspection.changed_files(folder / layout):
        raise DataError(finding.message)
    return ""


Reader = Callable[[Path], str]
READERS: dict[str, Reader] = {
    "load": load,
    "predict": predict,
    "evaluate": evaluate,
    "resume": resume,
    "report": report,
    "exported": exported,
    "predictions": predictions,
    **{name: functools.partial(dataset, name) for name in (*artifacts.LAYOUTS, "activitynet")},
    **{f"sums of {name}": functools.partial(sums, name) for name in artifacts.LAYOUTS},
}
SLOW = {"predict": 0.1, "evaluate": 0.03, "resume": 0.03}  # share of the damages that are read


def readers_of(name: str) -> list[str]:
    """Return the readers of a file.

    Args:
        name: its path below the folder of `artifacts.make`.
    """
    top = name.partition("/")[0]
    if top == "run":
        return ["load", "report", *SLOW]
    if top in artifacts.LAYOUTS:
        return [top, f"sums of {top}"]
    return {"model.jaxtal": ["exported"], "predicted.json": ["predictions"]}.get(top, [top])
