"""Prepare a run: validate the config, load the data set, make the mesh, place the features."""

import dataclasses
import logging
import os
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.config import at_least, at_most, below, one_of
from jaxtal.data.dataset import Dataset, in_words
from jaxtal.data.examination import examine
from jaxtal.data.examination.times import origin_of_grid
from jaxtal.data.findings import report
from jaxtal.data.io import json_files
from jaxtal.data.io.files import unwritable_folder
from jaxtal.data.layouts import in_memory_from_config, load_from_config
from jaxtal.data.reading import THREE, subsets_in_words
from jaxtal.data.validation import check_trainable, validated
from jaxtal.errors import CheckpointError, ConfigError
from jaxtal.input_pipeline.placement import DTYPES, PlacedVideos, place_features, trim_host_memory
from jaxtal.methods.base import Method
from jaxtal.parallel import multihost
from jaxtal.parallel.mesh import FEATURE_PLACEMENTS, mesh_from_config
from jaxtal.training import checkpoint_integrity, population
from jaxtal.training.checkpoint_fit import find_difference, network_shapes
from jaxtal.training.checkpoints import saved_run, saved_shapes
from jaxtal.training.evaluator import pick_protocols
from jaxtal.training.model_description import ModelDescription
from jaxtal.training.workdir import Workdir, fingerprint, summary_writer

_LOG = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")


class Setup(NamedTuple):
    """The prepared inputs of a run.

    Attributes:
        config: the validated config.
        method: selected by `config.method`.
        dataset: the data set, with the packed features.
        placed: the placed features of each part that has videos; without "train" if all steps are
            done.
        mesh: the devices.
        files: the work directory.
        results: the folder of the results: the work directory, or with mode "eval" one in its
            evaluations/.
        changed: settings of the evaluation that differ from the run's, {field: value}.
        saved_step: step of the checkpoint to start from; -1 if there is none.
        save_results: whether evaluations are logged and saved as checkpoints.
    """

    config: ConfigDict
    method: Method
    dataset: Dataset
    placed: dict[str, PlacedVideos]
    mesh: Mesh
    files: Workdir
    results: Workdir
    changed: dict[str, Any]
    saved_step: int
    save_results: bool

    @property
    def judged(self) -> str:
        """The part that is evaluated during training, "validation" or "test"; "" for none."""
        if self.dataset.validation:
            return "validation"
        return "test" if self.dataset.has_ground_truth else ""


def prepare(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    mode: str = "train",
    dataset: Dataset | None = None,
    checkpoint: int | str = "last",
) -> Setup:
    """Validate the config against data, devices and work directory, and place the features.

    Nothing is written before all checks have passed.

    Args:
        config: the whole config of the run.
        workdir: folder of the run.
        mode: "train" or "eval".
        dataset: data set with all features; None to load the one that `config.data` names.
        checkpoint: the checkpoint to evaluate: "last", "best" or its step.

    Raises:
        ConfigError: the config is invalid, or does not fit the data or the devices.
        DataError: the data set cannot be read.
        CheckpointError: the work directory belongs to a different run.
    """
    method = methods.get(config.method)
    files = Workdir(workdir, writes=multihost.is_primary_process())
    _check_writable(files)
    _check_config(config, method)
    training = mode == "train"
    saved_step = _last_good_step(files) if training else files.checkpoint(checkpoint)
    saved = saved_run(files.checkpoints, saved_step) if saved_step >= 0 else {}
    files.check_unedited(saved)
    changed = files.check_config(config.to_dict(), mode, saved.get("config"))
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    _log_mesh(mesh)
    generated = dataset is None and not config.data.dir
    dataset = _loaded(dataset, config)
    config = with_steps(config, dataset)
    _check_not_beyond(files, saved_step if training else -1, config)
    found = examine(dataset)
    report(found, dataset.name, config.data.strict, "config.data.")
    _check_dataset(dataset, method, config)
    if saved_step >= 0:
        changed |= _check_protocols(files, method, dataset, config, mode)
    results = files if training else files.evaluation_dir(saved_step, changed)
    seen = fingerprint(dataset, generated)
    multihost.check_same_on_all_processes(
        json_files.to_text({"config": config.to_dict(), "data": seen})
    )
    files.check_data(seen)
    files.check_model(dataset.classes, dataset.feature_width)
    _check_checkpoint(files, method, config, dataset, saved_step)
    data = {**seen, "findings": [one.to_json() for one in found]}
    _open_workdir(files, results, saved.get("config", config.to_dict()), config, dataset, data)
    if not training:
        files = Workdir(workdir, writes=False)
    to_train = training and saved_step != config.train.steps
    dataset, placed = _place(dataset, config, mesh, to_train)
    return Setup(
        config, method, dataset, placed, mesh, files, results, changed, saved_step, training
    )


def _loaded(dataset: Dataset | None, config: ConfigDict) -> Dataset:
    """Return the given data set, or else the one that `config.data` names."""
    if dataset is None:
        dataset = load_from_config(config.data)
    else:
        why = "dataset=... is in memory; give it to jaxtal.load_dataset"
        dataset = in_memory_from_config(validated(dataset), config.data, why)
    _log_dataset(dataset)
    return dataset


def _place(
    dataset: Dataset, config: ConfigDict, mesh: Mesh, training: bool
) -> tuple[Dataset, dict[str, PlacedVideos]]:
    """Place the features of each part, and return the data set with the packed features.

    The features that were read are freed part by part, so that memory holds one copy.
    """
    placed: dict[str, PlacedVideos] = {}
    count, used = len(dataset.classes), 0
    for part, what in THREE.items():
        if (part == "train" and not training) or not getattr(dataset, part):
            continue
        found = place_features(getattr(dataset, part), count, config, what, used, mesh)
        dataset = dataset.with_parts({part: found.videos})
        if (features := found.data.features) is not None:
            used += features.addressable_shards[0].data.nbytes
        placed[part] = found
    trim_host_memory()
    return dataset, placed


_MINIMUMS = {
    "seed": 0,
    "population": 1,
    "mesh.member": -1,
    "mesh.data": -1,
    "data.device_share": 0,
    "data.num_snippets": 1,
    "data.min_snippets": 0,
    "train.steps": 0,
    "train.epochs": 0,
    "train.batch_size": 1,
    "train.log_every": 1,
    "train.eval_every": 1,
    "optimizer.learning_rate": 0,
    "optimizer.weight_decay": 0,
    "evaluation.plot_videos": 0,
}


def _check_config(config: ConfigDict, method: Method) -> None:
    """Raise ConfigError for a config that is invalid for every data set."""
    at_least(config, _MINIMUMS)
    at_most(config, {"data.device_share": 1})
    one_of(
        config,
        {"precision": PRECISIONS, "data.device_dtype": DTYPES, "mesh.features": FEATURE_PLACEMENTS},
    )
    weights = dict.fromkeys((f"loss.weights.{name}" for name in config.loss.weights), 0)
    for member in population.members_of(config):
        at_least(member, _MINIMUMS | weights)
        below(member, {"seed": 2**32})
        method.validate_config(member)
    if config.train.tensorboard:
        summary_writer()


def with_steps(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    """Return the config with the number of updates of `config.train.epochs`, unless it is 0.

    An epoch has ceil(V / batch_size) updates, where V is the number of training videos with at
    least `config.data.min_snippets` snippets.

    Args:
        config: the whole config of a run, which is not modified.
        dataset: the data set, with all features.
    """
    if not config.train.epochs:
        return config
    config = config.copy_and_resolve_references()
    videos = sum(len(video.features) >= config.data.min_snippets for video in dataset.train)
    in_epoch = -(-videos // config.train.batch_size)
    config.train.steps = config.train.epochs * in_epoch
    _LOG.info(
        "%d epochs of %d updates: %d steps", config.train.epochs, in_epoch, config.train.steps
    )
    return config


def _last_good_step(files: Workdir) -> int:
    """Return the step of the last undamaged checkpoint on process 0, -1 for none."""
    step = files.latest_good_step() if files.writes else None
    step = multihost.broadcast_from_primary(-1 if step is None else step)
    if step >= 0:
        checkpoint_integrity.warn_without_checksums(files.checkpoints / str(step))
    return step


def _check_not_beyond(files: Workdir, step: int, config: ConfigDict) -> None:
    """Raise ConfigError if training would end before the step of the checkpoint."""
    if step > config.train.steps:
        raise ConfigError(
            f"{files.path} is already at step {step}, beyond config.train.steps="
            f"{config.train.steps}; raise it or give another workdir=..."
        )


def _check_protocols(
    files: Workdir, method: Method, dataset: Dataset, config: ConfigDict, mode: str
) -> dict[str, Any]:
    """Compare the protocols that the name of the data set selects with those of the run.

    Returns:
        {"data.name": the name} if they differ and the mode is "eval", otherwise {}.

    Raises:
        CheckpointError: they differ and the mode is "train".
    """
    before = files.read_model().data if (files.path / "model.json").is_file() else ""
    named = (dataclasses.replace(dataset, name=name) for name in (before, dataset.name))
    there, here = (pick_protocols(method, one, config.evaluation.protocol) for one in named)
    if not before or there == here:
        return {}
    if mode == "eval":
        return {"data.name": dataset.name}
    raise CheckpointError(
        f"{files.path}: the data set was called {before}, which selects the protocol "
        f"{there[0].name}, and is called {dataset.name} now, which selects {here[0].name}; give "
        f"another workdir=..., or config.data.name={before}"
    )


def _check_dataset(dataset: Dataset, method: Method, config: ConfigDict) -> None:
    """Raise an error if the data set does not fit the method and the config."""
    check_trainable(dataset)
    _check_lengths(dataset, config.data.min_snippets)
    method.validate_dataset(dataset, config)
    pick_protocols(method, dataset, config.evaluation.protocol)


def _check_lengths(dataset: Dataset, min_snippets: int) -> None:
    for part, videos in dataset.parts.items():
        longest = max((len(video.features) for video in videos), default=min_snippets)
        if longest < min_snippets:
            raise ConfigError(
                f"{dataset.name}: the longest {THREE[part]} video has {longest} snippets, fewer "
                f"than config.data.min_snippets={min_snippets}; lower it"
            )


def _open_workdir(
    files: Workdir,
    results: Workdir,
    saved: dict[str, Any],
    config: ConfigDict,
    dataset: Dataset,
    data: dict[str, Any],
) -> None:
    """Create or open the work directory, or the folder of an evaluation of it."""
    results.open(config.to_dict(), data)
    if results is files:
        files.write_model(model_of(dataset))
        files.quarantine_damaged()
    else:
        files.add_missing(saved, data, model_of(dataset))
        _LOG.info("the results of training are kept: writing to %s", results.path)


def model_of(dataset: Dataset) -> ModelDescription:
    """Return the description of a model that is trained on a data set."""
    return ModelDescription(
        dataset.classes, dataset.grid, dataset.feature_width, dataset.name, dataset.stream_widths
    )


def _check_checkpoint(
    files: Workdir, method: Method, config: ConfigDict, dataset: Dataset, step: int
) -> None:
    """Raise CheckpointError if the checkpoint of a step is of another network."""
    if step < 0:
        return
    network = partial(network_shapes, method, config, dataset.stream_widths)
    saved = saved_shapes(files.checkpoints, step)
    found = find_difference(saved, network, len(dataset.classes), dataset.feature_width)
    if found is not None:
        raise CheckpointError(
            f"{files.checkpoints / str(step)}: the checkpoint is good, but of another network: it "
            f"has {found[0]}, {dataset.name} with this config {found[1]}; give the data and the "
            "config that it was trained with, or another workdir=..."
        )


_LONGEST_BELOW = 200  # bytes, of a file in an unfinished checkpoint


def _check_writable(files: Workdir) -> None:
    """Raise CheckpointError if the work directory cannot be written, before anything is read."""
    for folder in (files.path, files.checkpoints):
        if why := unwritable_folder(folder, _LONGEST_BELOW):
            raise CheckpointError(
                f"{files.path}: the work directory cannot be written ({why}); give another "
                "workdir=..."
            )


def check_kept(files: Workdir) -> None:
    """Raise CheckpointError if the work directory was moved or deleted since the run has begun.

    Orbax would create it again, without the files of the beginning.

    Args:
        files: the work directory of the run.
    """
    if files.writes and not (files.path / "config.json").is_file():
        raise CheckpointError(
            f"{files.path}: the work directory was moved or deleted while the run wrote to it; "
            "restore it, or delete what is left of it, and run the same command again"
        )


def _log_mesh(mesh: Mesh) -> None:
    """Log the mesh if there are several devices."""
    if jax.device_count() > 1:
        member, data = mesh.devices.shape
        _LOG.info(
            "%d of %d devices in %d processes: member axis %d, data axis %d",
            mesh.size,
            jax.device_count(),
            jax.process_count(),
            member,
            data,
        )


def _grid_in_words(dataset: Dataset) -> str:
    """Return the time grid of a data set that was read, and its origin."""
    if dataset.origin is None:
        return ""
    own = sum(video.fps is not None for video in dataset.videos)
    more = f" ({own} videos have their own)" if own else ""
    fps, stride, _ = dataset.grid.times
    return f", {fps:g} fps{more}, stride {stride:g} ({origin_of_grid(dataset)})"


def _log_dataset(dataset: Dataset) -> None:
    """Log the parts of a data set."""
    unused = subsets_in_words(dataset.origin.unused) if dataset.origin else ""
    _LOG.info(
        "%s: %s%s %d classes, %s features a snippet%s",
        dataset.name,
        dataset.counts_in_words,
        f"; unused: {unused};" if unused else ",",
        len(dataset.classes),
        in_words(dataset.streams),
        _grid_in_words(dataset),
    )
    if not dataset.test:
        _LOG.info("%s: no test videos, so nothing is predicted or tested", dataset.name)
    elif not dataset.has_ground_truth:
        _LOG.info(
            "%s: no test video has an annotated instance, so detections are written without mAP",
            dataset.name,
        )
