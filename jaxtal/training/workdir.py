"""Read and write the files of a run's work directory; complete files are written atomically."""

import itertools
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.config import complete
from jaxtal.data import activations, activitynet_writer
from jaxtal.data import detections as detection_files
from jaxtal.data.dataset import Dataset
from jaxtal.data.io import json_files
from jaxtal.data.reading import THREE
from jaxtal.data.segments import Segments
from jaxtal.errors import CheckpointError, short_repr, warn
from jaxtal.extras import required
from jaxtal.training import (
    best_checkpoint,
    checkpoint_integrity,
    comparison,
    metrics_file,
    model_description,
)
from jaxtal.training.comparison import of_evaluation
from jaxtal.training.model_description import ModelDescription

_EVALUATIONS = "evaluations"  # folder of all evaluations with mode=eval


def fingerprint(dataset: Dataset, generated: bool) -> dict[str, int]:
    """Compute the fingerprint of a data set, which must not change when a run is resumed.

    The checksum covers names, training labels and the first snippet of every video, so that it is
    cheap and still detects features that were extracted again. It excludes test annotations:
    evaluating a run with corrected ones is legitimate. It excludes generated features: they follow
    from the config, but the last bit may differ on another processor.

    Args:
        dataset: data set with all features.
        generated: whether the features are generated.

    Returns:
        Sizes and checksum; the content of data.json.
    """
    videos = dataset.videos
    checksum = zlib.crc32(repr(dataset.classes).encode())
    for video in dataset.train:
        checksum = zlib.crc32(video.labels.astype("<i8").tobytes(), checksum)
    for video in videos:
        checksum = zlib.crc32(video.name.encode(), checksum)
        if not generated:
            checksum = zlib.crc32(video.features[:1].tobytes(), checksum)
    return {
        "classes": len(dataset.classes),
        **{f"{THREE[part]} videos": len(mine) for part, mine in dataset.parts.items()},
        "features a snippet": dataset.feature_width,
        "snippets": sum(len(video.features) for video in videos),
        "checksum": checksum,
    }


def summary_writer() -> type:
    """Import TensorBoard's writer; raise JaxtalError if the extra is not installed."""
    with required("tensorboard", "config.train.tensorboard"):
        from tensorboardX import SummaryWriter
    return SummaryWriter


class Workdir:
    """The files of a run: config.json, data.json, model.json, metrics.jsonl, result.json and more.

    model.json holds what predictions need beside config and parameters: classes, time grid, width
    of the features and of their streams, and the name of the data. The folders are checkpoints/,
    plots/, members/<number>/ with the detections of each member of a population, ensemble/,
    evaluations/ with the files of evaluations (mode=eval), profile/ with a profiler trace,
    tensorboard/, and damaged/ with damaged checkpoints.

    Attributes:
        path: the work directory.
        writes: whether the methods write files; False in all but the primary process of a job.
        checkpoints: folder of the checkpoints.
        plots: folder of the plots.
        profile: folder of the profiler trace.
    """

    def __init__(self, path: str | os.PathLike[str], writes: bool = True):
        self.path = path = Path(path)
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.plots = path / "plots"
        self.profile = path / "profile"
        self._metrics = path / "metrics.jsonl"
        self._board: Any = None
        self._found: dict[int, str] = {}  # step -> damage of its checkpoint

    def member_dir(self, member: int) -> "Workdir":
        """Create and return the folder for the detections and activations of a member."""
        return self._folder("members", str(member))

    def ensemble_dir(self) -> "Workdir":
        """Create and return the folder of the ensemble of a population's members."""
        return self._folder("ensemble")

    def _folder(self, *names: str) -> "Workdir":
        files = Workdir(self.path.joinpath(*names), self.writes)
        if self.writes:
            files.path.mkdir(parents=True, exist_ok=True)
        return files

    def evaluation_dir(self, step: int, changed: dict[str, Any]) -> "Workdir":
        """Return the folder of an evaluation of the run, in which training writes nothing.

        Args:
            step: the evaluated step.
            changed: settings that differ from the run's, as returned by `check_config`.
        """
        name = comparison.folder_name({"step": step, **changed})
        return Workdir(self.path / _EVALUATIONS / name, self.writes)

    def check_config(
        self, config: dict[str, Any], mode: str = "train", saved: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Raise CheckpointError if the directory holds a run with a different config.

        The number of steps, logs, plots, saved activations, the placement on devices and the place
        of the data may differ; with mode "eval" also localization, protocol and time grid. Fields
        that a config.json of an earlier version lacks are added, see `jaxtal.config.complete`.

        Args:
            config: the whole config of the run.
            mode: "train" or "eval".
            saved: the config in the checkpoint, which replaces a missing config.json.

        Returns:
            The settings of the evaluation that differ from the run's, {field: value}; {} with mode
            "train".
        """
        if (before := self._read_earlier("config.json") or saved) is None:
            return {}
        found = comparison.differences(complete(before), complete(comparison.as_json(config)))
        changed = {field: here for field, (_, here) in found.items() if of_evaluation(field)}
        if mode == "eval":
            found = {field: values for field, values in found.items() if field not in changed}
        if found:
            hint = "or the same values"
            if mode != "eval" and len(changed) == len(found):
                hint += ", or mode=eval, which evaluates the run with these, beside its own results"
            raise CheckpointError(
                f"{self.path} holds a run with a different config: "
                f"{comparison.in_words(found, 'config.')}; give another workdir=..., {hint}"
            )
        return changed

    def check_data(self, data: dict[str, Any]) -> None:
        """Raise CheckpointError if the directory holds a run on different data.

        Args:
            data: as returned by `fingerprint`.
        """
        if (before := self._read_earlier("data.json")) is None:
            return
        for content in (before, data := comparison.as_json(data)):
            content.pop("findings", None)
        if found := comparison.differences(before, data):
            raise CheckpointError(
                f"{self.path} holds a run on different data: {comparison.in_words(found)}; "
                "give another workdir=..., or the same data"
            )

    def check_model(self, classes: tuple[str, ...], feature_width: int) -> None:
        """Raise CheckpointError if model.json has different classes or another feature width.

        The model.json of a converted checkpoint exists before any data have been used.

        Args:
            classes: class names of the data set.
            feature_width: feature width of the data set, 2D.
        """
        path = self.path / "model.json"
        if not path.is_file():
            return
        model = self.read_model()
        there, here = (
            f"{count} classes and {width} features a snippet"
            for count, width in (
                (len(model.classes), model.feature_width),
                (len(classes), feature_width),
            )
        )
        if there == here:
            names = zip(model.classes, classes, strict=True)
            of_class = [
                (f"class {index} (counted from 0) is {short_repr(old)}", short_repr(new))
                for index, (old, new) in enumerate(names)
                if old not in (None, new)
            ]
            there, here = of_class[0] if of_class else (there, here)
        if there != here:
            raise CheckpointError(
                f"{path}: the model was trained on different data: {there} in model.json, {here} "
                "in this data set; give another workdir=..., or data with the model's features and "
                "its classes in the same order"
            )

    def _read_earlier(self, name: str) -> dict[str, Any] | None:
        """Return the content of a file of an earlier run, None if there is none."""
        path = self.path / name
        if not path.is_file():
            return None
        form = "a file that a run wrote; delete it, so that the run writes it again"
        return json_files.load(path, f"{form}, or give another workdir=...")

    def check_unedited(self, saved: dict[str, Any]) -> None:
        """Raise CheckpointError if the files are not of a checkpoint, see `comparison`."""
        files = (self._read_earlier(name) for name in ("config.json", "model.json"))
        comparison.check_unedited(self.path, saved, *files)

    def open(self, config: dict[str, Any], data: dict[str, Any]) -> None:
        """Create or reuse the directory, and write config.json and data.json.

        Args:
            config: the whole config of the run.
            data: as returned by `fingerprint`.

        Raises:
            CheckpointError: the directory cannot be written.
        """
        if not self.writes:
            return
        try:
            self.plots.mkdir(parents=True, exist_ok=True)
            self._write("config.json", json_files.to_sealed_text(config))
            self._write("data.json", json_files.to_sealed_text(data))
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: the work directory cannot be written ({error.strerror}); "
                "give another workdir=..."
            ) from None

    def write_model(self, model: ModelDescription) -> None:
        """Write model.json."""
        self._write("model.json", json_files.to_sealed_text(model.to_json()))

    def read_model(self) -> ModelDescription:
        """Read model.json.

        Raises:
            CheckpointError: the file is missing, or has invalid values.
            DataError: the file is not a JSON object, or lacks an entry.
        """
        path = self.path / "model.json"
        if self.path.parent.name == _EVALUATIONS:
            raise CheckpointError(
                f"{self.path}: an evaluation of the run {self.path.parent.parent}; give that run"
            )
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such file; the run is of an earlier version: evaluate it again "
                "(mode=eval) to write it"
            )
        return model_description.from_json(json_files.load(path, model_description.FORM), f"{path}")

    def read_config(self) -> dict[str, Any]:
        """Read config.json.

        Returns:
            The config of the run, with lists in place of tuples.

        Raises:
            CheckpointError: there is no config.json.
        """
        path = self.path / "config.json"
        if not path.is_file():
            raise CheckpointError(
                f"{self.path}: not the work directory of a run: it has no config.json; give the "
                "workdir=... of a training run"
            )
        return json_files.load(path, "the config that a run wrote")

    def add_missing(
        self, config: dict[str, Any], data: dict[str, Any], model: ModelDescription
    ) -> None:
        """Write config.json, data.json and model.json where they are missing, and nothing else.

        A model.json without the names of the classes, as of a converted checkpoint, is replaced.

        Args:
            config: the whole config of the run.
            data: as returned by `fingerprint`.
            model: the content of model.json.
        """
        for name, content in (("config.json", config), ("data.json", data)):
            if not (self.path / name).exists():
                self._write(name, json_files.to_sealed_text(content))
        if not (self.path / "model.json").exists() or None in self.read_model().classes:
            self.write_model(model)

    def latest_step(self) -> int | None:
        """Return the step of the last checkpoint that is not truncated, None if there is none."""
        return checkpoint_integrity.latest_complete_step(self.checkpoints)

    def checkpoint(self, which: int | str = "last") -> int:
        """Return the step of the checkpoint to use, see `best_checkpoint.choose`."""
        return best_checkpoint.choose(self.checkpoints, which)

    def latest_good_step(self) -> int | None:
        """Return the step of the last undamaged checkpoint, None if there is none."""
        steps = reversed(checkpoint_integrity.checkpoint_steps(self.checkpoints))
        return next((step for step in steps if not self._damage(step)), None)

    def _damage(self, step: int) -> str:
        """Return the damage of a checkpoint, whose files are read once."""
        if step not in self._found:
            folder = self.checkpoints / str(step)
            self._found[step] = checkpoint_integrity.find_damage(folder)
        return self._found[step]

    def quarantine_damaged(self) -> None:
        """Move damaged checkpoints to damaged/, so that their steps are repeated.

        Raises:
            CheckpointError: a folder cannot be moved.
        """
        steps = checkpoint_integrity.checkpoint_steps(self.checkpoints) if self.writes else []
        for step in steps:
            if how := self._damage(step):
                folder = self.checkpoints / str(step)
                self._set_aside(folder, f"this checkpoint is damaged ({how})")

    def _set_aside(self, path: Path, why: str) -> None:
        """Move a damaged file or folder to damaged/, with a warning."""
        names = (f"{path.name}.{number}" if number else path.name for number in itertools.count())
        aside = next(one for name in names if not (one := self.path / "damaged" / name).exists())
        warn(f"{path}: {why}; moving it to {aside}")
        try:
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be moved ({error.strerror})") from None

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, and its numbers to an open TensorBoard log.

        Args:
            line: JSON object with "step".
        """
        if not self.writes:
            return
        metrics_file.append(self._metrics, line)
        if self._board:
            for name, value in _flatten(line).items():
                if isinstance(value, (int, float)) and name != "step":
                    self._board.add_scalar(name.replace(".", "/", 1), value, line["step"])
            self._board.flush()

    def open_tensorboard(self, step: int) -> None:
        """Open the TensorBoard log; entries of steps after `step` are discarded."""
        if self.writes:
            self._board = summary_writer()(str(self.path / "tensorboard"), purge_step=step + 1)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, without a truncated last one.

        Raises:
            CheckpointError: a line is damaged.
        """
        lines, damage = metrics_file.read(self._metrics)
        if damage:
            raise CheckpointError(
                f"{self._metrics}: {damage}; delete the line, or the file to do without it"
            )
        return lines

    def repair_metrics(self, step: int) -> None:
        """Remove the lines of steps after `step`, as they will be repeated, and damaged lines.

        A file with damaged lines is kept in damaged/, with a warning.
        """
        lines, damage = metrics_file.read(self._metrics)
        if damage and self.writes:
            self._set_aside(self._metrics, f"{damage}; its other lines are kept")
        kept = [line for line in lines if line["step"] <= step]
        self._write("metrics.jsonl", "".join(map(metrics_file.to_text, kept)))

    def intact_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl without damaged ones."""
        return metrics_file.read(self._metrics)[0]

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json."""
        self._write("result.json", json_files.to_sealed_text(result))

    def write_detections(self, detections: Segments, dataset: Dataset) -> None:
        """Write detections in the test videos, in seconds, to detections.json."""
        names = [video.name for video in dataset.test]
        self._write("detections.json", detection_files.to_json(detections, names, dataset.classes))

    def write_annotations(self, dataset: Dataset) -> None:
        """Write the ground truth of the test videos to annotations.json."""
        self._write("annotations.json", activitynet_writer.to_json(dataset))

    def write_activations(
        self, outputs: Sequence[dict[str, np.ndarray]], dataset: Dataset, names: tuple[str, ...]
    ) -> None:
        """Write outputs of the model for the test videos to activations.npz.

        Args:
            outputs: {name: (T, n)} for every test video, {} for a skipped one.
            dataset: data set with the test videos.
            names: names of the outputs to write.
        """
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
                durations=np.array([video.duration for video in dataset.test], np.float64),
            ),
        )

    def _write(self, name: str, text: str) -> None:
        if self.writes:
            json_files.write(self.path / name, text)


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
