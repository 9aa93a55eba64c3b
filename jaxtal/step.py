"""One training step as a pure function: (state, hyper-parameters, data) to (state, metrics)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtal.methods.method import Context, Method
from jaxtal.sampling import PackedVideos


class TrainState(NamedTuple):
    """Everything that the next step depends on, and so what a checkpoint holds.

    Attributes:
        step: int32, updates tried so far; with the seed it gives every random key.
        params: the model's parameters.
        model_state: the model's variables without gradient.
        opt_state: Adam's moments.
        skipped: int32, updates left out because the loss or its gradient was not finite.
        skipped_in_row: int32, how many of those came last without a good one between.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    skipped: jax.Array
    skipped_in_row: jax.Array


class Hyper(NamedTuple):
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


def hyper_from(config) -> Hyper:
    """The hyper-parameters of a config, as device scalars."""
    weights = {name: jnp.float32(value) for name, value in config.loss.weights.items()}
    return Hyper(
        jnp.uint32(config.seed),
        jnp.float32(config.optimizer.learning_rate),
        jnp.float32(config.optimizer.weight_decay),
        weights,
    )


def adam(learning_rate, weight_decay) -> optax.GradientTransformation:
    """Adam with the decay added to the gradient before the moments (PyTorch's Adam, not AdamW)."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )


def init_state(model, hyper: Hyper, feature_width: int) -> TrainState:
    """Fresh parameters from the seed; traceable, so it can be jitted and vmapped over seeds."""
    snippet = jnp.zeros((1, 1, feature_width), jnp.float32)
    variables = model.init(jax.random.key(hyper.seed), snippet, jnp.ones((1, 1), bool))
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    opt_state = adam(hyper.learning_rate, hyper.weight_decay).init(params)
    zero = jnp.int32(0)
    return TrainState(zero, params, model_state, opt_state, zero, zero)


def objective(
    params, batch, context: Context, dropout_key, hyper: Hyper, model, method: Method, config
):
    """Weighted total loss; auxiliary: the unweighted terms and the model's new state."""
    variables = {"params": params, **context.state}
    outputs = model.apply(
        variables, batch.features, batch.mask, train=True, rngs={"dropout": dropout_key}
    )
    terms, model_state = method.loss_terms(outputs, batch, context, config)
    total = sum(hyper.loss_weights[name] * term for name, term in terms.items())
    return total, (terms, model_state)


def train_step(state: TrainState, hyper: Hyper, data: PackedVideos, *, model, method, config):
    """Sample a batch, take one Adam step; an update that is not finite is left out and counted.

    Returns:
        The next state, and {"loss": total, each loss term, "gradient_norm": ...} as scalars.
    """
    seed_key = jax.random.key(hyper.seed)
    key = jax.random.fold_in(seed_key, state.step)
    sample_key, dropout_key, loss_key = jax.random.split(key, 3)
    run_key = jax.random.fold_in(seed_key, jnp.uint32(2**32 - 1))  # no step has this number
    context = Context(state.step, sample_key, run_key, state.model_state)
    batch = method.sample(context, data, config)
    context = context._replace(key=loss_key)
    (loss, (terms, model_state)), gradient = jax.value_and_grad(objective, has_aux=True)(
        state.params, batch, context, dropout_key, hyper, model, method, config
    )
    norm = optax.tree.norm(gradient)
    updates, opt_state = adam(hyper.learning_rate, hyper.weight_decay).update(
        gradient, state.opt_state, state.params
    )
    updates = method.limit_updates(updates, state.step, config)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = (optax.apply_updates(state.params, updates), model_state, opt_state)
    old = (state.params, state.model_state, state.opt_state)
    params, model_state, opt_state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    bad = jnp.where(finite, 0, 1)
    skipped, in_row = state.skipped + bad, (state.skipped_in_row + 1) * bad
    state = TrainState(state.step + 1, params, model_state, opt_state, skipped, in_row)
    return state, {"loss": loss, **terms, "gradient_norm": norm}
