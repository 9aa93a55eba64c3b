"""Conversion between checkpoints of the published PyTorch programs and work directories."""

import functools
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.checkpoint_conversion import parameter_names, torch_writer
from jaxtal.checkpoint_conversion.parameter_names import Widths
from jaxtal.data import layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io import json_files, object_arrays, torch_files
from jaxtal.data.io.files import check_unique, open_regular, storage_fault
from jaxtal.errors import CheckpointError, JaxtalError, warn
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.model_description import ModelDescription
from jaxtal.training.train_state import TrainState, hyperparams_from_config
from jaxtal.training.train_step import adam, init_state
from jaxtal.training.unfinished import remove_unfinished
from jaxtal.training.workdir import Workdir


class Converted(NamedTuple):
    """Result of a conversion.

    Attributes:
        widths: Sizes of the network.
        parameters: Number of trainable parameters, without those that have no counterpart here.
        named: True if the names of the classes are known.
    """

    widths: Widths
    parameters: int
    named: bool


def from_torch(
    method: str,
    source: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    config: ConfigDict | None = None,
    classes: tuple[str, ...] = (),
) -> Converted:
    """Convert a checkpoint of a published program to step 0 of a work directory.

    A run in the work directory evaluates the checkpoint (mode=eval) or continues its training. The
    shapes of the parameters do not determine D2-Net's dilation and CO2-Net's pool_window, which
    differ between the data sets: the config of the run must match the checkpoint.

    Args:
        method: "co2net" or "d2net".
        source: File of a state dict, as written by `torch.save`.
        workdir: Work directory to write.
        config: Config of later runs, written to config.json; None if the first run is to write it.
        classes: Class names in the order of the outputs, written to model.json; () for those of
            the config's data set, if it can be read and has as many. Otherwise the names remain
            unknown (null), and model.json holds their number.

    Returns:
        The sizes and the number of parameters of the network.

    Raises:
        CheckpointError: The file is not a checkpoint of the method, the config or the classes do
            not match it, or the work directory has a checkpoint or cannot be written.
    """
    parameter_names.program(method)
    files = Workdir(workdir)
    if files.latest_step() is not None:
        raise CheckpointError(f"{workdir} has a checkpoint already; give another workdir=...")
    grid = _grid(config)
    if config is not None:
        _check_config(method, config)
        files.check_config(config.to_dict())
    state_dict = torch_files.load(Path(source))
    variables, widths = parameter_names.to_variables(method, state_dict, f"{source}")
    if classes and len(classes) != widths.classes:
        raise CheckpointError(
            f"{source} has {widths.classes} classes, but {len(classes)} names are given "
            f"({', '.join(classes)[:60]}, ...); wanted the names of its training, in their order"
        )
    if config is not None:
        _check_fits(config, variables["params"], widths, f"{source}")
    names = classes or _classes_of_data(config, widths.classes, f"{source}")
    _write(files, variables, config)
    name = "" if config is None else config.data.name
    files.write_model(ModelDescription(names, grid, 2 * widths.features, name))
    leaves = jax.tree.leaves(variables["params"])
    return Converted(widths, sum(math.prod(leaf.shape) for leaf in leaves), None not in names)


def _classes_of_data(config: ConfigDict | None, count: int, where: str) -> tuple[str | None, ...]:
    """Return the classes of the config's data set; None for each name that remains unknown."""
    unknown = (None,) * count
    if config is None or not config.data.dir:
        return unknown
    folder = Path(config.data.dir)
    try:
        names = layouts.read_from_config(config.data, features=False).dataset.classes
    except JaxtalError as error:
        if folder.exists():
            warn(f"class names are not written to model.json: {error}")
        return unknown
    if len(names) == count:
        return names
    warn(
        f"{where} has {count} classes, but {folder} has {len(names)}: it is not the data set that "
        "the checkpoint was trained on, and cannot be evaluated with it; class names are not "
        "written to model.json"
    )
    return unknown


def _grid(config: ConfigDict | None) -> TimeGrid:
    """Return the time grid of the published programs, with the values that the config sets."""
    if config is None:
        return TimeGrid()
    times = [config.data.get(name, 0) for name in ("fps", "stride", "window")]
    try:
        return TimeGrid().replaced(*times)
    except JaxtalError as error:
        raise CheckpointError(f"{error} (config.data)") from None


def _check_config(method: str, config: ConfigDict) -> None:
    if config.method != method:
        raise CheckpointError(
            f"config.method is {config.method}, but method={method}; make them equal"
        )
    if config.population != 1:
        raise CheckpointError(
            f"config.population is {config.population}, but a PyTorch checkpoint holds one "
            "model; set it to 1"
        )
    methods.get(method).validate_config(config)


def _check_fits(config: ConfigDict, params: dict, widths: Widths, where: str) -> None:
    """Raise CheckpointError if the parameters of the config's network have other shapes."""
    model = methods.get(config.method).build(config.model, widths.classes)
    init = functools.partial(init_state, model, feature_width=2 * widths.features)
    wanted = jax.eval_shape(init, hyperparams_from_config(config)).params
    ours, theirs = (
        {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}
        for tree in (wanted, params)
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{where}: {name} is {theirs.get(name, 'absent')}, but "
                f"{ours.get(name, 'absent')} in the config's network; set {_as_published(widths)}"
            )


def _as_published(widths: Widths) -> str:
    """Return the fields that determine the shapes, with their published values."""
    if not widths.taps:
        return parameter_names.CO2NET_AS_PUBLISHED
    hidden, last = widths.taps
    return f"config.model.kernel_size={hidden} and config.model.classifier_kernel_size={last}"


def _write(files: Workdir, variables: dict[str, Any], config: ConfigDict | None) -> None:
    try:
        files.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{files.path}: the work directory cannot be written ({error.strerror}); give another "
            "workdir=..."
        ) from None
    if config is not None:
        json_files.write(files.path / "config.json", json_files.to_sealed_text(config.to_dict()))
    progress: dict[str, list] = {name: [None] for name in ("evaluation", "best", "diverged")}
    try:
        with Checkpoints(files.checkpoints, writes=True) as checkpoints:
            # A score below every evaluation, so that it is never kept as the best checkpoint.
            checkpoints.save(_state(variables), 0, progress, -1.0)
    except Exception as error:
        if (fault := storage_fault(error)) is None:
            raise
        remove_unfinished(files)
        raise CheckpointError(
            f"{files.path}: {fault.what}; nothing was converted; {fault.fix}, then repeat it"
        ) from None


def _state(variables: dict[str, Any]) -> TrainState:
    """Return the training state of a population of one, with Adam's moments at zero."""
    params = variables["params"]
    others = {name: value for name, value in variables.items() if name != "params"}
    zero = jnp.int32(0)
    state = TrainState(zero, params, others, adam(0.0, 0.0).init(params), zero, zero)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names in the order of a model's outputs.

    Args:
        path: A text file with one name per line, a classlist.npy, a JSON file in ActivityNet form,
            or a folder in any layout that has annotations.

    Returns:
        The class names.

    Raises:
        JaxtalError: The file is none of these, or a name occurs twice.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".json":
        return layouts.load_annotations(path).classes
    if path.suffix == ".npy":
        names = [_text(value, path) for value in np.ravel(object_arrays.load(path))]
    else:
        with open_regular(path) as file:
            try:
                lines = file.read().decode().splitlines()
            except ValueError:
                raise CheckpointError(
                    f"{path}: not a text file; wanted one class name per line"
                ) from None
        names = [line.strip() for line in lines if line.strip()]
    check_unique(names, f"{path}")
    if not names:
        raise CheckpointError(f"{path}: no class names; wanted one per line")
    return tuple(names)


def _text(value: Any, path: Path) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise CheckpointError(f"{path}: {value!r:.40} among the class names; wanted names only")
    return str(value)


def to_torch(
    method: str,
    workdir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    member: int | None = None,
    checkpoint: int | str = "last",
) -> int:
    """Write the parameters of a checkpoint as a state dict for the published program.

    Parameters without a counterpart here are zero: the outer taps of CO2-Net's global layers and
    its unused feat_encoder.

    Args:
        method: "co2net" or "d2net".
        workdir: Work directory of a run.
        target: PyTorch file to write.
        member: Member of a population, counted from 0; None for the first one.
        checkpoint: "last", "best", or the step of a checkpoint.

    Returns:
        The number of members in the checkpoint.

    Raises:
        CheckpointError: The work directory has no checkpoint, the member does not exist, or the
            network is not the published one.
        DataError: The file cannot be written.
    """
    parameter_names.program(method)
    variables = saved_variables(workdir, checkpoint)
    members = len(jax.tree.leaves(variables)[0])
    if not 0 <= (member or 0) < members:
        raise CheckpointError(f"member={member}: {workdir} holds members 0 to {members - 1}")
    one = jax.tree.map(lambda leaf: leaf[member or 0], variables)
    torch_writer.save(Path(target), parameter_names.from_variables(method, one, f"{workdir}"))
    return members


def saved_variables(
    workdir: str | os.PathLike[str], checkpoint: int | str = "last"
) -> dict[str, Any]:
    """Read the variables of all members in a checkpoint, for any config.

    Args:
        workdir: Work directory of a run.
        checkpoint: "last", "best", or the step of a checkpoint.

    Returns:
        {"params": ...} and the model's other collections, NumPy arrays with a leading axis M
        of members.

    Raises:
        CheckpointError: The work directory has no checkpoint, or it cannot be read.
    """
    files = Workdir(workdir)
    step = files.checkpoint(checkpoint)
    checkpoints = Checkpoints(files.checkpoints)
    try:
        return checkpoints.restore_variables(step)[0]
    finally:
        checkpoints.close()
