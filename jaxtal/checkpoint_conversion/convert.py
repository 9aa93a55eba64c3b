"""Checkpoints of the published PyTorch programs as work directories of ours, and back."""

import functools
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxtal import methods
from jaxtal.checkpoint_conversion import parameter_names, torch_files
from jaxtal.checkpoint_conversion.parameter_names import Widths
from jaxtal.data import layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io import json_files, object_arrays
from jaxtal.data.io.files import check_unique, open_regular
from jaxtal.errors import CheckpointError, JaxtalError
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.train_state import TrainState, hyperparams_from_config
from jaxtal.training.train_step import adam, init_state
from jaxtal.training.workdir import Workdir


class Converted(NamedTuple):
    """What was read.

    Attributes:
        widths: of the network.
        parameters: how many numbers are trained, as we count them: without what has no counterpart.
    """

    widths: Widths
    parameters: int


def from_torch(
    method: str,
    source: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    config=None,
    classes: tuple[str, ...] = (),
) -> Converted:
    """Make a published program's checkpoint the first one, step 0, of a work directory.

    Shapes do not tell everything: D2-Net's dilation and CO2-Net's pool_window, by which the
    networks of the two data sets differ, are what the config says.

    Args:
        method: "co2net" or "d2net".
        source: a state dict as `torch.save` writes it.
        workdir: a run there then evaluates it (mode=eval), or trains on.
        config: of the runs there, written to config.json; None to leave that to the first run.
        classes: names in the order of the outputs; with them model.json is written.

    Raises:
        CheckpointError: the file is not the method's, the config or the classes do not fit it, or
            the directory has a checkpoint already or cannot be written.
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
            f"{source} is of {widths.classes} classes, but {len(classes)} names are given "
            f"({', '.join(classes)[:60]}, ...); wanted those it was trained with, in their order"
        )
    if config is not None:
        _check_fits(config, variables["params"], widths, f"{source}")
    _write(files, variables, config)
    if classes:
        name = "" if config is None else config.data.name
        files.write_model(classes, grid, 2 * widths.features, name)
    leaves = jax.tree.leaves(variables["params"])
    return Converted(widths, sum(math.prod(leaf.shape) for leaf in leaves))


def _grid(config) -> TimeGrid:
    """The published programs' time grid, but for what the config says of the features'."""
    if config is None:
        return TimeGrid()
    times = [config.data.get(name, 0) for name in ("fps", "stride", "window")]
    try:
        return TimeGrid().replaced(*times)
    except JaxtalError as error:
        raise CheckpointError(f"{error} (config.data)") from None


def _check_config(method: str, config) -> None:
    if config.method != method:
        raise CheckpointError(f"config.method is {config.method}, but method={method}; give one")
    if config.population != 1:
        raise CheckpointError(
            f"config.population is {config.population}, but a checkpoint of PyTorch holds one "
            "model; set it to 1"
        )
    methods.get(method).validate_config(config)


def _check_fits(config, params: dict, widths: Widths, where: str) -> None:
    """Raise CheckpointError unless the config's network has parameters of these shapes."""
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
    """The fields on which shapes depend, with the values of a published checkpoint."""
    if not widths.taps:
        return parameter_names.CO2NET_AS_PUBLISHED
    hidden, last = widths.taps
    return f"config.model.kernel_size={hidden} and config.model.classifier_kernel_size={last}"


def _write(files: Workdir, variables: dict[str, Any], config) -> None:
    try:
        files.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{files.path}: the work directory cannot be written ({error.strerror}); give another "
            "workdir=..."
        ) from None
    if config is not None:
        json_files.write(files.path / "config.json", json_files.to_text(config.to_dict()))
    progress: dict[str, list] = {name: [None] for name in ("evaluation", "best", "diverged")}
    checkpoints = Checkpoints(files.checkpoints, writes=True)
    try:
        # Worse than any evaluation: it does not stay for having been the best.
        checkpoints.save(_state(variables), 0, progress, -1.0)
    finally:
        checkpoints.close()


def _state(variables: dict[str, Any]) -> TrainState:
    """That of a population of one that has not been trained here."""
    params = variables["params"]
    others = {name: value for name, value in variables.items() if name != "params"}
    zero = jnp.int32(0)
    state = TrainState(zero, params, others, adam(0.0, 0.0).init(params), zero, zero)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names in the order of a model's outputs.

    Args:
        path: a text file with a name a line, a classlist.npy, an ActivityNet-form JSON file, or a
            folder in any layout that has annotations.

    Raises:
        CheckpointError: it is none of these, or a name is there twice.
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
                    f"{path}: not a text file; wanted a class name a line"
                ) from None
        names = [line.strip() for line in lines if line.strip()]
    check_unique(names, f"{path}")
    if not names:
        raise CheckpointError(f"{path}: no class names; wanted one a line")
    return tuple(names)


def _text(value: Any, path: Path) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise CheckpointError(f"{path}: {value!r:.40} among the class names; wanted names alone")
    return str(value)


def to_torch(
    method: str,
    workdir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    member: int | None = None,
) -> int:
    """Write the latest checkpoint's parameters as a state dict for the published program.

    What that program has and ours does not, the outer taps of CO2-Net's global layers and its
    unused feat_encoder, is zero.

    Args:
        method: "co2net" or "d2net".
        workdir: of a run.
        target: the file.
        member: which of a population; None for the first.

    Returns:
        How many members the checkpoint has.

    Raises:
        CheckpointError: there is no checkpoint, no such member, or no such published network, or
            the file cannot be written.
    """
    parameter_names.program(method)
    variables = latest_variables(workdir)
    members = len(jax.tree.leaves(variables)[0])
    if not 0 <= (member or 0) < members:
        raise CheckpointError(f"member={member}: {workdir} holds members 0 to {members - 1}")
    one = jax.tree.map(lambda leaf: leaf[member or 0], variables)
    torch_files.save(Path(target), parameter_names.from_variables(method, one, f"{workdir}"))
    return members


def latest_variables(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """All members' variables in a work directory's latest checkpoint, whatever its config was.

    Returns:
        {"params": ..., and the model's other collections}, NumPy arrays with a leading axis M.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
    """
    files = Workdir(workdir)
    step = files.last_checkpoint()
    checkpoints = Checkpoints(files.checkpoints)
    try:
        return checkpoints.restore_variables(step)[0]
    finally:
        checkpoints.close()
