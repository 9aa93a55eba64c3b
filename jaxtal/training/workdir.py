"""The files of a run's work directory. Whole files appear at once or not at all."""

import dataclasses
import itertools
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.config import complete
from jaxtal.data import activations, activitynet
from jaxtal.data import detections as detection_files
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.io import json_files
from jaxtal.data.segments import Segments
from jaxtal.errors import CheckpointError, short_repr, warn
from jaxtal.extras import required
from jaxtal.training import checkpoint_integrity


def fingerprint(dataset: Dataset, generated: bool) -> dict[str, int]:
    """What must stay the same for a run on `dataset` to be continued: sizes and a checksum.

    The checksum is over names, training labels and every video's first snippet, so that it costs
    nothing and still tells features that were extracted again. Test annotations are not in it:
    evaluating a run with corrected ones is legitimate. Neither are `generated` features: they
    follow from the config, but on another processor the last bit may differ.
    """
    videos = (*dataset.train, *dataset.test)
    checksum = zlib.crc32(repr(dataset.classes).encode())
    for video in dataset.train:
        checksum = zlib.crc32(video.labels.astype("<i8").tobytes(), checksum)
    for video in videos:
        checksum = zlib.crc32(video.name.encode(), checksum)
        if not generated:
            checksum = zlib.crc32(video.features[:1].tobytes(), checksum)
    return {
        "classes": len(dataset.classes),
        "training videos": len(dataset.train),
        "test videos": len(dataset.test),
        "features a snippet": dataset.feature_width,
        "snippets": sum(len(video.features) for video in videos),
        "checksum": checksum,
    }


def summary_writer() -> type:
    """TensorBoard's writer; CheckpointError where the extra is not installed."""
    with required("tensorboard", "config.train.tensorboard"):
        from tensorboardX import SummaryWriter
    return SummaryWriter


class ModelDescription(NamedTuple):
    """What model.json holds, see `Workdir.write_model`."""

    classes: tuple[str, ...]
    grid: TimeGrid
    feature_width: int
    data: str


class Workdir:
    """config.json, data.json, model.json, metrics.jsonl, result.json, detections.json, ... .

    model.json is what predictions need beside config and parameters: classes, time grid, feature
    width, the name of the data. Beside the files are checkpoints/ and plots/; a population's
    detections are in members/<number>/, a trace in profile/. Where `writes` is false, as in all
    processes of a job but one, nothing is written.
    """

    def __init__(self, path: str | os.PathLike[str], writes: bool = True):
        self.path = path = Path(path)
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.plots = path / "plots"
        self.profile = path / "profile"
        self._metrics = path / "metrics.jsonl"
        self._board: Any = None

    def member_dir(self, member: int) -> "Workdir":
        """The folder of a population's member, for detections and activations; created."""
        return self._folder("members", str(member))

    def ensemble_dir(self) -> "Workdir":
        """The same folder of what a population's members find together; created."""
        return self._folder("ensemble")

    def _folder(self, *names: str) -> "Workdir":
        files = Workdir(self.path.joinpath(*names), self.writes)
        if self.writes:
            files.path.mkdir(parents=True, exist_ok=True)
        return files

    def check_config(self, config: dict[str, Any]) -> None:
        """Raise CheckpointError if another config has been run here; changes nothing.

        The number of steps and what is only shown may differ. What a config.json of an earlier
        version lacks is what its run did, see `jaxtal.config.complete`.
        """
        if (before := self._read_earlier("config.json")) is None:
            return
        differing = _differences(complete(before), complete(_as_json(config)), "config.")
        if differing:
            raise CheckpointError(
                f"{self.path} holds a run with another config: {'; '.join(differing)}; "
                "give another workdir=..., or the same values"
            )

    def check_data(self, data: dict[str, Any]) -> None:
        """Raise CheckpointError if other data have been used here; changes nothing."""
        if (before := self._read_earlier("data.json")) is None:
            return
        if differing := _differences(before, _as_json(data)):
            raise CheckpointError(
                f"{self.path} holds a run on other data: {'; '.join(differing)}; "
                "give another workdir=..., or the same data"
            )

    def check_model(self, classes: tuple[str, ...], feature_width: int) -> None:
        """Raise CheckpointError if model.json is of other classes or features; changes nothing.

        That of a converted checkpoint is there before any data have been used.
        """
        path = self.path / "model.json"
        if not path.is_file():
            return
        model = self.read_model()
        pairs: dict[str, tuple] = {"feature_width": (model.feature_width, feature_width)}
        for index, names in enumerate(itertools.zip_longest(model.classes, classes)):
            pairs[f"class {index} (counted from 0)"] = names
        for what, (there, here) in pairs.items():
            if there != here:
                raise CheckpointError(
                    f"{path}: the model there is not of these data: {what} is {short_repr(there)} "
                    f"there, {short_repr(here)} here; give another workdir=..., or data with the "
                    "model's features, and its classes in its order"
                )

    def _read_earlier(self, name: str) -> dict[str, Any] | None:
        """Return the content of an earlier run's file, None where there was no run."""
        path = self.path / name
        if not path.is_file():
            return None
        return json_files.load(path, "what a run writes; give another workdir=...")

    def open(self, config: dict[str, Any], data: dict[str, Any]) -> None:
        """Create the directory, or continue in it; CheckpointError if it cannot be written."""
        if not self.writes:
            return
        try:
            self.plots.mkdir(parents=True, exist_ok=True)
            self._write("config.json", json_files.to_text(config))
            self._write("data.json", json_files.to_text(data))
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: the work directory cannot be written ({error.strerror}); "
                "give another workdir=..."
            ) from None

    def write_model(self, classes, grid: TimeGrid, feature_width: int, data: str) -> None:
        """Write model.json.

        Args:
            classes: names in the order of the model's outputs.
            grid: of the training data; predictions assume it where nothing else is said.
            feature_width: 2D.
            data: the name of the training data.
        """
        content = {
            "data": data,
            "feature_width": feature_width,
            "grid": dataclasses.asdict(grid),
            "classes": list(classes),
        }
        self._write("model.json", json_files.to_text(content))

    def read_model(self) -> ModelDescription:
        """What model.json says; CheckpointError where it is missing or something in it is."""
        path = self.path / "model.json"
        form = (
            "model.json as a run writes it; delete it and evaluate the run again (mode=eval) to "
            "write it"
        )
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file; the run there is older than this file: evaluate it again "
                "(mode=eval) to write it"
            )
        content = json_files.load(path, form)
        data, width, grid, classes = (
            json_files.field(content, key, f"{path}", form)
            for key in ("data", "feature_width", "grid", "classes")
        )
        try:
            return ModelDescription(
                tuple(map(str, classes)), TimeGrid(**grid), int(width), str(data)
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}; wanted {form}") from None

    def read_config(self) -> dict[str, Any]:
        """The config of the run, lists for tuples; CheckpointError where there was none."""
        path = self.path / "config.json"
        if not path.is_file():
            raise CheckpointError(
                f"{self.path}: no run's work directory, as there is no config.json in it; give "
                "the workdir=... of a training run"
            )
        return json_files.load(path, "the config that a run writes")

    def latest_step(self) -> int | None:
        """The last complete checkpoint's step."""
        return checkpoint_integrity.latest_complete_step(self.checkpoints)

    def last_checkpoint(self) -> int:
        """The same; CheckpointError where there is none, or none that is complete."""
        step = self.latest_step()
        if step is not None:
            return step
        for broken in checkpoint_integrity.checkpoint_steps(self.checkpoints)[-1:]:
            how = checkpoint_integrity.find_corruption(self.checkpoints / str(broken))
            raise CheckpointError(
                f"{self.checkpoints / str(broken)}: this checkpoint is cut short ({how}), and none "
                "is complete; train again, or give another workdir=..."
            )
        raise CheckpointError(f"{self.path} has no checkpoint; train first, or give another folder")

    def quarantine_truncated(self) -> None:
        """Move checkpoints that were cut short to damaged/, so that their steps are done again."""
        for step in checkpoint_integrity.checkpoint_steps(self.checkpoints):
            folder = self.checkpoints / str(step)
            if how := checkpoint_integrity.find_corruption(folder):
                aside = self.path / "damaged" / str(step)
                warn(f"{folder}: this checkpoint is cut short ({how}); it goes to {aside}")
                try:
                    shutil.rmtree(aside, ignore_errors=True)
                    aside.parent.mkdir(exist_ok=True)
                    folder.rename(aside)
                except OSError as error:
                    raise CheckpointError(f"{folder}: cannot be moved ({error.strerror})") from None

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, and to TensorBoard's log if that is open."""
        if not self.writes:
            return
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(json_files.finite(line)) + "\n")
        if self._board:
            for name, value in _flatten(line).items():
                if isinstance(value, (int, float)) and name != "step":
                    self._board.add_scalar(name.replace(".", "/", 1), value, line["step"])
            self._board.flush()

    def open_tensorboard(self, step: int) -> None:
        """From now on log to tensorboard/ too, in place of what it says of steps after `step`."""
        if self.writes:
            self._board = summary_writer()(str(self.path / "tensorboard"), purge_step=step + 1)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last one that was cut short by a kill is left out."""
        if not self._metrics.is_file():
            return []
        lines = self._metrics.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def truncate_metrics(self, step: int) -> None:
        """Forget what metrics.jsonl says of steps after `step`, which will be done again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        self._write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json."""
        self._write("result.json", json_files.to_text(result))

    def write_detections(self, detections: Segments, dataset: Dataset) -> None:
        """Write detections.json, ActivityNet form, from detections in seconds."""
        names = [video.name for video in dataset.test]
        self._write("detections.json", detection_files.to_json(detections, names, dataset.classes))

    def write_annotations(self, dataset: Dataset) -> None:
        """Write annotations.json, the ground truth that the detections are judged against."""
        self._write("annotations.json", activitynet.to_json(dataset))

    def write_activations(self, outputs, dataset: Dataset, names: tuple[str, ...]) -> None:
        """Write those outputs for the test videos to activations.npz."""
        if not self.writes:
            return
        activations.write(
            self.path / "activations.npz",
            activations.Activations(
                videos=tuple(video.name for video in dataset.test),
                classes=dataset.classes,
                outputs=[{name: output[name] for name in names if output} for output in outputs],
                snippets=np.array([len(video.features) for video in dataset.test]),
                grid=dataset.grid.of(dataset.test),
            ),
        )

    def _write(self, name: str, text: str) -> None:
        if self.writes:
            json_files.write(self.path / name, text)


_MAY_DIFFER = (
    "train.steps",
    "train.log_every",
    "train.tensorboard",
    "evaluation.plot_videos",
    "evaluation.save_activations",
    "profile",
    "data.device_share",
    "mesh.member",
    "mesh.data",
    "mesh.features",
)


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json_files.to_text(content))


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return what differs from an earlier run's file, as `config.a.b: 1 there, 2 here`."""
    differing = []
    for key in sorted(before.keys() | now.keys()):
        field, there, here = prefix + key, before.get(key), now.get(key)
        if all(value is None or isinstance(value, dict) for value in (there, here)):
            differing += _differences(there or {}, here or {}, f"{field}.")
        elif there != here and field.removeprefix("config.") not in _MAY_DIFFER:
            differing.append(f"{field}: {_short(there)} there, {_short(here)} here")
    return differing


def _short(value: Any) -> str:
    """Return a field's value; of several fields, where there is one now, only a few."""
    return short_repr(value) if isinstance(value, dict) else str(value)


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
