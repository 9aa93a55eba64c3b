"""Training steps as pure functions: (state, hyper-parameters, data) to (state, metrics)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtal import mesh as meshes
from jaxtal.methods.method import Context, Method
from jaxtal.sampling import Draw, Index, PackedVideos, gather


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


def in_precision(params: Any, precision: str) -> Any:
    """The parameters as the forward and backward passes see them.

    Args:
        params: float32; they, Adam's moments and everything outside of matrix products stay so.
        precision: "float32", or "bfloat16": the kernels of all layers are rounded to it, and so are
            what `layers.temporal_conv` multiplies them with and their gradients; sums are float32.
    """

    def cast(path, leaf):
        return leaf.astype(precision) if path[-1].key == "kernel" else leaf

    return params if precision == "float32" else jax.tree_util.tree_map_with_path(cast, params)


def objective(
    params, batch, context: Context, dropout_key, hyper: Hyper, model, method: Method, config
):
    """Weighted total loss; auxiliary: the unweighted terms and the model's new state."""
    variables = {"params": in_precision(params, config.precision), **context.state}
    outputs = model.apply(
        variables, batch.features, batch.mask, train=True, rngs={"dropout": dropout_key}
    )
    terms, model_state = method.loss_terms(outputs, batch, context, config)
    total = sum(hyper.loss_weights[name] * term for name, term in terms.items())
    return total, (terms, model_state)


class Keys(NamedTuple):
    """The random keys of a step: for what is drawn, dropout, losses; and that of the whole run."""

    sample: jax.Array
    dropout: jax.Array
    loss: jax.Array
    run: jax.Array


def keys_of(seed: jax.Array, step: jax.Array) -> Keys:
    """All randomness of a run follows from these, so from (seed, step)."""
    seed_key = jax.random.key(seed)
    sample_key, dropout_key, loss_key = jax.random.split(jax.random.fold_in(seed_key, step), 3)
    run_key = jax.random.fold_in(seed_key, jnp.uint32(2**32 - 1))  # no step has this number
    return Keys(sample_key, dropout_key, loss_key, run_key)


def draw(seed: jax.Array, step: jax.Array, index: Index, method: Method, config) -> Draw:
    """What the batch of a step is made of."""
    keys = keys_of(seed, step)
    return method.sample(Context(step, keys.sample, keys.run, {}), index, config)


def train_step(
    state: TrainState,
    hyper: Hyper,
    data: PackedVideos,
    streamed: tuple[Draw, jax.Array] | None = None,
    active: jax.Array | bool = True,
    *,
    model,
    method: Method,
    config,
):
    """Take one Adam step; an update that is not finite is left out and counted.

    Args:
        state: before the step.
        hyper: the numbers that may differ between members.
        data: the training videos.
        streamed: the step's draw and the features of its rows [B, T, 2D], where they are not on the
            device; else both are found here.
        active: False to leave the state as it is.
        model, method, config: what is compiled.

    Returns:
        The next state, and {"loss": total, each loss term, "gradient_norm": ...} as scalars.
    """
    keys = keys_of(hyper.seed, state.step)
    drawing = meshes.everywhere(functools.partial(draw, method=method, config=config))
    drawn, rows = streamed or (drawing(hyper.seed, state.step, data.videos), None)
    batch = gather(data, meshes.whole(drawn), rows, config.mesh.features == "sharded")
    context = Context(state.step, keys.loss, keys.run, state.model_state)
    (loss, (terms, model_state)), gradient = jax.value_and_grad(objective, has_aux=True)(
        state.params, batch, context, keys.dropout, hyper, model, method, config
    )
    norm = optax.tree.norm(gradient)
    updates, opt_state = adam(hyper.learning_rate, hyper.weight_decay).update(
        gradient, state.opt_state, state.params
    )
    updates = method.limit_updates(updates, state.step, config)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = (optax.apply_updates(state.params, updates), model_state, opt_state)
    old = (state.params, state.model_state, state.opt_state)
    params, model_state, opt_state = jax.tree.map(
        lambda n, o: jnp.where(finite & active, n, o), new, old
    )
    bad = jnp.where(finite, 0, 1)
    counters = (state.step + 1, state.skipped + bad, (state.skipped_in_row + 1) * bad)
    before = (state.step, state.skipped, state.skipped_in_row)
    step, skipped, in_row = (jnp.where(active, n, o) for n, o in zip(counters, before, strict=True))
    state = TrainState(step, params, model_state, opt_state, skipped, in_row)
    return state, {"loss": loss, **terms, "gradient_norm": norm}


def train_steps(
    state: TrainState,
    hyper: Hyper,
    stop: jax.Array,
    data: PackedVideos,
    streamed: tuple[Draw, jax.Array] | None = None,
    *,
    steps: int,
    **compiled,
):
    """The steps up to `stop`, at most `steps` of them, as one loop on the device.

    Every step of a run goes through the same loop body, wherever a loop starts or stops, so that an
    interrupted run ends as an undisturbed one, on the CPU bit for bit. Steps from `stop` on are
    computed, but change nothing: a loop with a known number of turns never waits for the host on an
    accelerator.

    Args:
        stop: int32, the step to stop at.
        streamed: as for `train_step`, with a leading axis of `steps`.
        compiled: `model`, `method` and `config` of `train_step`.

    Returns:
        The state, the means of the steps' metrics, and the largest `skipped_in_row` on the way.
    """

    def body(state, streamed):
        active = state.step < stop
        state, metrics = train_step(state, hyper, data, streamed, active, **compiled)
        return state, (active, metrics, state.skipped_in_row)

    state, (active, metrics, in_row) = jax.lax.scan(body, state, streamed, length=steps)
    count = active.sum()
    means = {name: jnp.where(active, values, 0).sum() / count for name, values in metrics.items()}
    return state, means, in_row.max()


def over_members(
    function: Callable, members: int, axes: tuple, mesh: jax.sharding.Mesh | None = None
) -> Callable:
    """`function` for all members of a population at once, over a leading axis M.

    Args:
        function: of one model.
        members: M; a single one goes through `function` itself, without batched products.
        axes: for each argument 0, or None where all members share it.
        mesh: the devices that share them, see `mesh.arrange`; None for one device.

    Returns:
        A function whose arguments of axis 0 and whose results have the leading axis.
    """
    if mesh is not None and mesh.size > 1:
        mine = over_members(function, members // mesh.shape[meshes.MEMBER], axes)
        return meshes.over_axis(mine, mesh, axes)
    if members > 1:
        return jax.vmap(function, in_axes=axes)

    def alone(*arguments):
        mine = [
            jax.tree.map(lambda leaf: leaf[0], argument) if axis == 0 else argument
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*mine))

    return alone
