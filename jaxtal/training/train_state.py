"""Training state, hyperparameters and the optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class TrainState(NamedTuple):
    """Everything that the next step depends on, and so what a checkpoint holds.

    Attributes:
        step: int32, updates tried so far; with the seed it gives every random key.
        params: the model's parameters.
        model_state: the model's variables without gradient.
        opt_state: Adam's moments.
        skipped: int32, updates left out because the loss or its gradient was not finite.
        consecutive_skipped: int32, how many of those came last without a good one between.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    skipped: jax.Array
    consecutive_skipped: jax.Array


class Hyperparams(NamedTuple):
    """The numbers that may differ between members of a population; traced, never recompiled for.

    Attributes:
        seed: uint32.
        learning_rate, weight_decay: float32.
        loss_weights: {name: float32} for every loss term.
    """

    seed: Any
    learning_rate: Any
    weight_decay: Any
    loss_weights: dict[str, Any]


def hyperparams_from_config(config) -> Hyperparams:
    """The hyper-parameters of a config, as device scalars."""
    weights = {name: jnp.float32(value) for name, value in config.loss.weights.items()}
    return Hyperparams(
        jnp.uint32(config.seed),
        jnp.float32(config.optimizer.learning_rate),
        jnp.float32(config.optimizer.weight_decay),
        weights,
    )
