"""Restoring of a `Model` from the work directory of a run."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.config import at_least, complete
from jaxtal.errors import CheckpointError, JaxtalError
from jaxtal.inference.model import Model
from jaxtal.localization.config import LocalizationConfig
from jaxtal.methods.base import Method
from jaxtal.training import comparison, evaluator, population
from jaxtal.training.checkpoint_fit import Shapes, find_difference, network_shapes
from jaxtal.training.checkpoints import Checkpoints, saved_run, saved_shapes
from jaxtal.training.workdir import Workdir


def load_work_directory(
    folder: str | os.PathLike[str],
    member: int | None = None,
    ensemble: bool = False,
    checkpoint: int | str = "last",
) -> Model:
    """Load the model of a checkpoint; data and config file of the run are not needed.

    Args:
        folder: Work directory of the run.
        member: Member of a population, counted from 0; None for a run with one model, or with
            `ensemble`.
        ensemble: Average the outputs of all members of a population that have not diverged.
        checkpoint: "last", "best" (see `best_checkpoint.best_step`), or a step.

    Returns:
        The model.

    Raises:
        CheckpointError: A file is missing, damaged or of another version, the member does not
            exist, or its training has diverged.
    """
    folder = Path(folder)
    files = Workdir(folder)
    saved, where = files.read_config(), folder / "config.json"
    with _naming(where):
        config = config_from(saved)
        method = methods.get(config.method)
        at_least(config, {"population": 1, "data.min_snippets": 0})
        method.validate_config(config)
        from_config = _from_config(config, method)
    if ensemble:
        _check_ensemble(member, config, folder)
    else:
        member = _pick(member, config.population, folder)
    described = files.read_model()
    classes = _known(described.classes, folder / "model.json")
    network = functools.cache(
        functools.partial(network_shapes, method, config, described.stream_widths)
    )
    sizes = len(classes), described.feature_width
    with _naming(where):
        network(*sizes)
        model = method.build(config.model, len(classes), described.stream_widths)
        program = program_of(method, model, config.precision, ensemble)
    step = files.checkpoint(checkpoint)
    comparison.check_unedited(
        folder, saved_run(files.checkpoints, step), saved, described.to_json()
    )
    _check_checkpoint(files.checkpoints, step, network, sizes)
    return Model(
        classes=classes,
        time_grid=described.grid,
        feature_width=described.feature_width,
        stream_widths=described.stream_widths,
        variables=_variables(files, step, member),
        apply_fn=jax.jit(program),
        **from_config,
    )


def _known(classes: Sequence[str | None], path: Path) -> tuple[str, ...]:
    """Return the names of the classes; raise CheckpointError if they are unknown."""
    known = tuple(name for name in classes if name is not None)
    if len(known) < len(classes):
        raise CheckpointError(
            f"{path}: the names of the {len(classes)} classes are unknown; evaluate the checkpoint "
            "on its data set (mode=eval), or convert it again with classes=..."
        )
    return known


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Report errors of an edited or outdated config as a CheckpointError that names its file."""
    try:
        yield
    except JaxtalError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {str(error)[:200]}; wanted the config as a run writes it; delete it and "
            "evaluate the run again (mode=eval) to write it"
        ) from None


def _from_config(config: ConfigDict, method: Method) -> dict[str, Any]:
    """Return the fields of a `Model` that depend on the config only."""
    settings = method.localization_config_cls(**config.localization)
    of_all = {field.name for field in dataclasses.fields(LocalizationConfig)}
    return {
        "method": method.name,
        "min_snippets": config.data.min_snippets,
        "test_length_limits": method.test_length_limits(config),
        "score_spec": method.score_spec(config),
        "localization_inputs": method.localization_inputs,
        "rescaled": config.data.get("time") == "rescaled",
        "localization": LocalizationConfig(**{name: getattr(settings, name) for name in of_all}),
    }


def program_of(
    method: Method, model: nn.Module, precision: str, ensemble: bool = False
) -> Callable[..., dict[str, jax.Array]]:
    """Return the network as a function with the signature of `Model.apply_fn`.

    Args:
        method: Method of the model.
        model: The flax module.
        precision: "float32" or "bfloat16", as in the config.
        ensemble: Average the outputs over the leading axis of the variables, one entry per member.

    Returns:
        A traceable function of variables, features (B, T, 2D) and lengths (B,).
    """
    of_one = evaluator.forward(method, model, precision)

    def of_all(variables, features, mask):
        outputs = jax.vmap(of_one, in_axes=(0, None, None))(variables, features, mask)
        return jax.tree.map(lambda leaf: leaf.mean(0), outputs)

    forward = of_all if ensemble else of_one

    def program(variables, features, lengths):
        mask = jnp.arange(features.shape[1])[None] < lengths[:, None]
        return forward(variables, jnp.where(mask[..., None], features, 0), mask)

    return program


def config_from(saved: dict[str, Any]) -> ConfigDict:
    """Rebuild the config of a run from its config.json, with tuples in place of JSON's lists.

    Fields that were added to jaxtal after the file was written get their former values, see
    `jaxtal.config.complete`.

    Args:
        saved: Content of config.json.
    """

    def with_tuples(value):
        if isinstance(value, dict):
            return {key: with_tuples(entry) for key, entry in value.items()}
        return tuple(map(with_tuples, value)) if isinstance(value, list) else value

    return ConfigDict(with_tuples(complete(saved)))


def _pick(member: int | None, count: int, folder: Path) -> int:
    if member is None and count > 1:
        raise CheckpointError(
            f"{folder} holds a population of {count}; select one with member=..., 0 to {count - 1} "
            "(result.json has the results of all), or ensemble=True for all"
        )
    if not 0 <= (member or 0) < count:
        raise CheckpointError(
            f"member={member}, but {folder} holds a population of {count}; wanted 0 to {count - 1}"
        )
    return member or 0


def _check_ensemble(member: int | None, config: ConfigDict, folder: Path) -> None:
    if member is not None:
        raise CheckpointError(
            f"give either member={member} or ensemble=True, which averages all members"
        )
    if len(population.groups(population.members_of(config), config)) > 1:
        raise CheckpointError(
            f"{folder} holds a population whose members differ in more than the seed: "
            f"{config.vary}; their average was never evaluated, so give a member=..."
        )


def _check_checkpoint(
    folder: Path, step: int, network: Callable[[int, int], Shapes], sizes: tuple[int, int]
) -> None:
    """Raise CheckpointError if the checkpoint is of another network than the files beside it."""
    found = find_difference(saved_shapes(folder, step), network, *sizes)
    if found is not None:
        raise CheckpointError(
            f"{folder / str(step)}: the checkpoint is good, but of another network: it "
            f"has {found[0]}, config.json and model.json {found[1]}; they are of another run or "
            "were edited, so delete them and evaluate the run again (mode=eval) to write them"
        )


def _variables(files: Workdir, step: int, member: int | None) -> dict[str, Any]:
    """Return {"params": ..., ...} of a member in a checkpoint.

    For None, return those of all members that have not diverged, with a leading axis.
    """
    checkpoints = Checkpoints(files.checkpoints)
    try:
        saved, progress = checkpoints.restore_variables(step)
    finally:
        checkpoints.close()
    if member is None:
        left = np.flatnonzero([step is None for step in progress["diverged"]])
        return jax.device_put(jax.tree.map(lambda leaf: leaf[left], saved))
    if progress["diverged"][member] is not None:
        raise CheckpointError(
            f"{files.path}: member {member}'s training has diverged before step "
            f"{progress['diverged'][member]}; give another member=..."
        )
    return jax.device_put(jax.tree.map(lambda leaf: leaf[member], saved))
