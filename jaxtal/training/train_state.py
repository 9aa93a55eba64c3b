"""Training state and hyperparameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


class TrainState(NamedTuple):
    """Everything that the next step depends on; the content of a checkpoint.

    Attributes:
        step: int32, number of attempted updates; every random key is derived from it and the seed.
        params: the model's parameters.
        model_state: the model's variables that have no gradient.
        opt_state: Adam's moments.
        skipped: int32, number of updates skipped because the loss or its gradient was not finite.
        consecutive_skipped: int32, number of updates skipped since the last good one.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    skipped: jax.Array
    consecutive_skipped: jax.Array


class Hyperparams(NamedTuple):
    """Hyperparameters that may differ between members of a population; traced, not compiled in.

    Attributes:
        seed: uint32.
        learning_rate: float32.
        weight_decay: float32.
        loss_weights: {name: float32} for every loss term.
    """

    seed: Any
    learning_rate: Any
    weight_decay: Any
    loss_weights: dict[str, Any]


def hyperparams_from_config(config: ConfigDict) -> Hyperparams:
    """Return the hyperparameters of a config as device scalars.

    Args:
        config: config of a run of one model, or of one member of a population.
    """
    weights = {name: jnp.float32(value) for name, value in config.loss.weights.items()}
    return Hyperparams(
        jnp.uint32(config.seed),
        jnp.float32(config.optimizer.learning_rate),
        jnp.float32(config.optimizer.weight_decay),
        weights,
    )
