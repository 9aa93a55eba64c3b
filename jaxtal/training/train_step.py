"""Training steps as pure functions of state, hyperparameters and data."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from jaxtal.input_pipeline.packing import Batch, BatchIndices, PackedVideos, gather
from jaxtal.input_pipeline.sampling import Context, sample_batch_indices, step_rngs
from jaxtal.methods.base import Method
from jaxtal.nn.layers import cast_params
from jaxtal.parallel.mesh import MEMBER_SPEC, REPLICATED
from jaxtal.parallel.sharding import replicated, run_replicated, vmap_members
from jaxtal.training import population
from jaxtal.training.train_state import Hyperparams, TrainState


def adam(
    learning_rate: float | jax.Array, weight_decay: float | jax.Array
) -> optax.GradientTransformation:
    """Return Adam with L2 decay added to the gradient, as in PyTorch's Adam (not AdamW).

    Args:
        learning_rate: scalar, may be traced.
        weight_decay: scalar, may be traced; the decay is weight_decay times the parameter.

    Source: [docs][methods-optimizer].
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )


def init_state(model: nn.Module, hyper: Hyperparams, feature_width: int) -> TrainState:
    """Initialize the training state from the seed; can be jitted, and vmapped over seeds.

    Args:
        model: the method's network.
        hyper: hyperparameters of one member.
        feature_width: 2D.
    """
    snippet = jnp.zeros((1, 1, feature_width), jnp.float32)
    variables = model.init(jax.random.key(hyper.seed), snippet, jnp.ones((1, 1), bool))
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    opt_state = adam(hyper.learning_rate, hyper.weight_decay).init(params)
    zero = jnp.int32(0)
    return TrainState(zero, params, model_state, opt_state, zero, zero)


def loss_fn(
    params: Any,
    batch: Batch,
    context: Context,
    dropout_key: jax.Array,
    hyper: Hyperparams,
    model: nn.Module,
    method: Method,
    config: ConfigDict,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
    """Compute the weighted total loss.

    Args:
        params: tree of the model's parameters, float32; the loss is differentiated by them.
        batch: features [B, T, 2D], mask and labels.
        context: step, random keys and the model's state.
        dropout_key: random key for dropout.
        hyper: hyperparameters of one member.
        model: the method's network.
        method: computes the loss terms.
        config: the whole config of the run.

    Returns:
        The loss, a scalar, and (the unweighted loss terms by name, the model's new state) as
        auxiliary output.
    """
    variables = {"params": cast_params(params, config.precision), **context.state}
    outputs: Any = model.apply(
        variables, batch.features, batch.mask, train=True, rngs={"dropout": dropout_key}
    )
    terms, model_state = method.loss_terms(outputs, batch, context, config)
    total = sum(hyper.loss_weights[name] * term for name, term in terms.items())
    return total, (terms, model_state)


_sample_batch_indices = run_replicated(sample_batch_indices)


def train_step(
    state: TrainState,
    hyper: Hyperparams,
    data: PackedVideos,
    streamed: tuple[BatchIndices, jax.Array] | None = None,
    active: jax.Array | bool = True,
    *,
    model: nn.Module,
    method: Method,
    config: ConfigDict,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Take one Adam step; an update that is not finite is skipped and counted.

    Args:
        state: training state before the step.
        hyper: hyperparameters of the member.
        data: packed training videos.
        streamed: batch indices of the step and their features [B, T, 2D]; None to sample the
            indices here and gather the features on the device.
        active: bool scalar; False to return the state unchanged.
        model: the method's network.
        method: samples batches and computes the loss.
        config: the whole config of the run.

    Returns:
        The next state, and {"loss": total, each loss term, "gradient_norm": ...} as scalars.
    """
    keys = step_rngs(hyper.seed, state.step)
    # The same indices whether features are on the device or streamed: they depend on (seed, step).
    rows = None
    if streamed is None:
        drawn = _sample_batch_indices(
            hyper.seed, state.step, data.videos, sample=method.sample, config=config
        )
    else:
        drawn, rows = streamed
    batch = gather(data, replicated(drawn), rows, config.mesh.features == "sharded")
    context = Context(state.step, keys.loss, keys.run, state.model_state)
    (loss, (terms, model_state)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, batch, context, keys.dropout, hyper, model, method, config
    )
    norm = optax.tree.norm(gradient)
    updates, opt_state = adam(hyper.learning_rate, hyper.weight_decay).update(
        gradient, state.opt_state, state.params
    )
    updates = method.transform_updates(updates, state.step, config)
    # A select, not a branch: under vmap each member keeps or drops its own update.
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = (optax.apply_updates(state.params, updates), model_state, opt_state)
    old = (state.params, state.model_state, state.opt_state)
    params, model_state, opt_state = jax.tree.map(
        lambda n, o: jnp.where(finite & active, n, o), new, old
    )
    bad = jnp.where(finite, 0, 1)
    counters = (state.step + 1, state.skipped + bad, (state.consecutive_skipped + 1) * bad)
    before = (state.step, state.skipped, state.consecutive_skipped)
    step, skipped, in_row = (jnp.where(active, n, o) for n, o in zip(counters, before, strict=True))
    state = TrainState(step, params, model_state, opt_state, skipped, in_row)
    return state, {"loss": loss, **terms, "gradient_norm": norm}


def train_steps(
    state: TrainState,
    hyper: Hyperparams,
    stop: jax.Array,
    data: PackedVideos,
    streamed: tuple[BatchIndices, jax.Array] | None = None,
    *,
    steps: int,
    **compiled: Any,
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    """Take the steps up to `stop`, at most `steps` of them, as one loop on the device.

    Every step of a run uses the same loop body, wherever a loop starts or stops, so that a resumed
    run ends like an uninterrupted one, on the CPU bit for bit. Steps from `stop` on are computed,
    but change nothing: a loop with a static trip count never waits for the host on an accelerator.

    Args:
        state: training state before the first step.
        hyper: hyperparameters of the member.
        stop: int32 scalar, the step to stop at.
        data: packed training videos.
        streamed: see `train_step`, with a leading axis of `steps`.
        steps: trip count of the loop.
        **compiled: `model`, `method` and `config` of `train_step`.

    Returns:
        The state, the means of the steps' metrics (scalars), and the largest
        `consecutive_skipped`.
    """

    def body(state, streamed):
        active = state.step < stop
        state, metrics = train_step(state, hyper, data, streamed, active, **compiled)
        return state, (active, metrics, state.consecutive_skipped)

    state, (active, metrics, in_row) = jax.lax.scan(body, state, streamed, length=steps)
    count = active.sum()
    means = {name: jnp.where(active, values, 0).sum() / count for name, values in metrics.items()}
    return state, means, in_row.max()


def init_fn(
    model: nn.Module, config: ConfigDict, mesh: Mesh, feature_width: int
) -> jax.stages.Wrapped:
    """Build the jitted initialization of all members.

    Args:
        model: the method's network.
        config: the whole config of the run.
        mesh: members are divided over its axis `member`.
        feature_width: 2D.

    Returns:
        A function of `Hyperparams` with arrays [M], which returns a `TrainState` with arrays
        [M, ...].
    """
    of_one = functools.partial(init_state, model, feature_width=feature_width)
    of_members = vmap_members(of_one, config.population, (0,))
    return jax.jit(of_members, out_shardings=NamedSharding(mesh, MEMBER_SPEC))


def train_fn(
    model: nn.Module, method: Method, config: ConfigDict, mesh: Mesh, steps: int
) -> jax.stages.Wrapped:
    """Build the jitted training loop of all members.

    Args:
        model: the method's network.
        method: samples batches and computes the loss.
        config: the whole config of the run.
        mesh: members are divided over its axis `member`, videos of a batch over `data`.
        steps: trip count of the loop, see `train_steps`.

    Returns:
        A function like `train_steps`. The state (which is donated), the hyperparameters, the
        streamed batches and the results have a leading axis M.
    """
    loop = functools.partial(train_steps, steps=steps, model=model, method=method, config=config)
    of_members = vmap_members(loop, config.population, (0, 0, None, None, 0), mesh)
    shared = NamedSharding(mesh, MEMBER_SPEC)
    return jax.jit(of_members, donate_argnums=0, out_shardings=shared)


def abstract_state(
    model: nn.Module, config: ConfigDict, mesh: Mesh, feature_width: int
) -> tuple[TrainState, Hyperparams]:
    """Return shapes, dtypes and shardings of all members' states and hyperparameters.

    Args:
        model: the method's network.
        config: the whole config of the run.
        mesh: see `train_fn`.
        feature_width: 2D.

    Returns:
        Trees of `jax.ShapeDtypeStruct` with a leading axis M.
    """
    hyper = jax.eval_shape(lambda: population.hypers(population.members_of(config)))
    state = jax.eval_shape(init_fn(model, config, mesh, feature_width), hyper)
    return with_sharding(mesh, (state, hyper), MEMBER_SPEC)


def with_sharding(mesh: Mesh, shapes: Any, spec: P = REPLICATED) -> Any:
    """Add shardings to the shapes of arrays, as `sharding.device_put` would place them.

    Args:
        mesh: the devices.
        shapes: tree of `jax.ShapeDtypeStruct`.
        spec: partition of every array.

    Returns:
        The tree with the same shapes and dtypes.
    """
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )


def step_number() -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of the step to stop at."""
    return jax.ShapeDtypeStruct((), jnp.int32)
