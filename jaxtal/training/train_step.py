"""Training steps as pure functions: (state, hyper-parameters, data) to (state, metrics)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from jaxtal.input_pipeline.packing import BatchIndices, PackedVideos, gather
from jaxtal.input_pipeline.sampling import Context, sample_batch_indices, step_rngs
from jaxtal.methods.base import Method
from jaxtal.nn.layers import cast_params
from jaxtal.parallel.mesh import MEMBER_SPEC, REPLICATED
from jaxtal.parallel.sharding import replicated, run_replicated, vmap_members
from jaxtal.training import population
from jaxtal.training.train_state import Hyperparams, TrainState


def adam(learning_rate, weight_decay) -> optax.GradientTransformation:
    """Adam with the decay added to the gradient before the moments (PyTorch's Adam, not AdamW)."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )


def init_state(model, hyper: Hyperparams, feature_width: int) -> TrainState:
    """Fresh parameters from the seed; traceable, so it can be jitted and vmapped over seeds."""
    snippet = jnp.zeros((1, 1, feature_width), jnp.float32)
    variables = model.init(jax.random.key(hyper.seed), snippet, jnp.ones((1, 1), bool))
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    opt_state = adam(hyper.learning_rate, hyper.weight_decay).init(params)
    zero = jnp.int32(0)
    return TrainState(zero, params, model_state, opt_state, zero, zero)


def loss_fn(
    params, batch, context: Context, dropout_key, hyper: Hyperparams, model, method: Method, config
):
    """Weighted total loss; auxiliary: the unweighted terms and the model's new state."""
    variables = {"params": cast_params(params, config.precision), **context.state}
    outputs = model.apply(
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
        The state, the means of the steps' metrics, and the largest `consecutive_skipped` on the
        way.
    """

    def body(state, streamed):
        active = state.step < stop
        state, metrics = train_step(state, hyper, data, streamed, active, **compiled)
        return state, (active, metrics, state.consecutive_skipped)

    state, (active, metrics, in_row) = jax.lax.scan(body, state, streamed, length=steps)
    count = active.sum()
    means = {name: jnp.where(active, values, 0).sum() / count for name, values in metrics.items()}
    return state, means, in_row.max()


def init_fn(model, config, mesh: Mesh, feature_width: int):
    """A jitted function: all members' hyper-parameters, leaves [M], to fresh `TrainState`s."""
    of_one = functools.partial(init_state, model, feature_width=feature_width)
    of_members = vmap_members(of_one, config.population, (0,))
    return jax.jit(of_members, out_shardings=NamedSharding(mesh, MEMBER_SPEC))


def train_fn(model, method, config, mesh: Mesh, steps: int):
    """A jitted function: up to `steps` steps of all members, see `train_step.train_steps`.

    Its arguments are state, hyper-parameters, the step to stop at, the data and, if they are
    streamed, the steps' batches; the state is donated, and has leading axes M like the hyper-
    parameters, the batches and what is returned.
    """
    loop = functools.partial(train_steps, steps=steps, model=model, method=method, config=config)
    of_members = vmap_members(loop, config.population, (0, 0, None, None, 0), mesh)
    shared = NamedSharding(mesh, MEMBER_SPEC)
    return jax.jit(of_members, donate_argnums=0, out_shardings=shared)


def abstract_state(model, config, mesh: Mesh, feature_width: int) -> tuple[TrainState, Any]:
    """Shapes and places of the members' states and hyper-parameters, for `train_fn`."""
    hyper = jax.eval_shape(lambda: population.hypers(population.members_of(config)))
    state = jax.eval_shape(init_fn(model, config, mesh, feature_width), hyper)
    return with_sharding(mesh, (state, hyper), MEMBER_SPEC)


def with_sharding(mesh: Mesh, shapes: Any, spec=REPLICATED) -> Any:
    """The shapes of arrays that `sharding.device_put` would have placed."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )


def step_number() -> jax.ShapeDtypeStruct:
    """The shape of the step to stop at."""
    return jax.ShapeDtypeStruct((), jnp.int32)
