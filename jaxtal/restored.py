"""A trained model from a run's work directory, as a `Predictor`."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal import inference, methods
from jaxtal.checkpoints import Checkpoints
from jaxtal.errors import UserError
from jaxtal.localization import LocalizationConfig
from jaxtal.methods.method import Method
from jaxtal.predictor import Predictor
from jaxtal.step import hyper_from, init_state
from jaxtal.workdir import Workdir


def load(folder: Path, member: int | None = None) -> Predictor:
    """The latest checkpoint's model; neither the run's data nor its config file are needed.

    Args:
        folder: the work directory.
        member: of a population, counted from 0; None where there is one.

    Raises:
        UserError: something is missing, damaged or of another version; there is no such member, or
            its training has diverged.
    """
    files = Workdir(folder)
    config = config_from(files.read_config())
    method = methods.get(config.method)
    method.check(config)
    member = _pick(member, config.population, folder)
    described = files.read_model()
    model = method.build(config.model, len(described.classes))
    variables = _variables(files, config, model, described.feature_width, member)
    settings = method.localization(**config.localization)
    of_all = {field.name for field in dataclasses.fields(LocalizationConfig)}
    return Predictor(
        method=method.name,
        classes=described.classes,
        grid=described.grid,
        feature_width=described.feature_width,
        min_snippets=config.data.min_snippets,
        row_limits=method.row_limits(config),
        recipe=method.recipe(config),
        localized=method.localized,
        localization=LocalizationConfig(**{name: getattr(settings, name) for name in of_all}),
        variables=variables,
        program=jax.jit(program_of(method, model, config.precision)),
    )


def program_of(method: Method, model, precision: str):
    """`inference.forward` as `Predictor.program` is: lengths in place of a mask."""
    forward = inference.forward(method, model, precision)

    def program(variables, features, lengths):
        mask = jnp.arange(features.shape[1])[None] < lengths[:, None]
        return forward(variables, jnp.where(mask[..., None], features, 0), mask)

    return program


def config_from(saved: dict[str, Any]) -> ConfigDict:
    """The config that config.json was written from: JSON has lists where it has tuples."""

    def with_tuples(value):
        if isinstance(value, dict):
            return {key: with_tuples(entry) for key, entry in value.items()}
        return tuple(map(with_tuples, value)) if isinstance(value, list) else value

    return ConfigDict(with_tuples(saved))


def _pick(member: int | None, population: int, folder: Path) -> int:
    if member is None and population > 1:
        raise UserError(
            f"{folder} holds a population of {population}; say which with --member, 0 to "
            f"{population - 1} (result.json has everyone's result)"
        )
    if not 0 <= (member or 0) < population:
        raise UserError(
            f"--member is {member}, but {folder} holds a population of {population}; wanted 0 to "
            f"{population - 1}"
        )
    return member or 0


def _variables(files: Workdir, config, model, feature_width: int, member: int) -> dict[str, Any]:
    """{"params": ..., ...} of one member from the latest checkpoint."""
    step = files.latest_step()
    if step is None:
        raise UserError(f"{files.path} has no checkpoint; train first, with jaxtal.main")
    state = jax.eval_shape(lambda: init_state(model, hyper_from(config), feature_width))
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.population, *leaf.shape), leaf.dtype),
        {"params": state.params, "model_state": state.model_state},
    )
    checkpoints = Checkpoints(files.checkpoints)
    try:
        saved, progress = checkpoints.restore_variables(step, like)
    finally:
        checkpoints.close()
    if progress["diverged"][member] is not None:
        raise UserError(
            f"{files.path}: member {member}'s training has diverged before step "
            f"{progress['diverged'][member]}; give another --member"
        )
    of_member = jax.tree.map(lambda leaf: leaf[member], saved)
    return {"params": of_member["params"], **of_member["model_state"]}
