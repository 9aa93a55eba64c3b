"""Properties of every method: masking, order of videos, finite gradients in edge cases.

A new method, or a variant with code of its own, adds a line to CASES. Results that must be equal
are compared in double precision, where rounding crosses no threshold and is not amplified by
condition numbers. Results that must be finite are computed in single precision, as in training.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import (
    acmnet_thumos,
    basnet_thumos,
    co2net_thumos,
    d2net_anet12,
    d2net_thumos,
    hybrid_thumos,
    twostream_thumos,
    wtalc_thumos,
)
from jaxtal import methods
from jaxtal.input_pipeline.packing import Batch
from jaxtal.input_pipeline.sampling import in_pairs
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import loss_fn
from tests.helpers.contexts import context
from tests.helpers.localizing import localize

B, T = 6, 14
PAIRS = 2  # for methods that use pairs; `in_pairs` selects their rows

# Name: (config, changed fields, classes, features of a snippet).
CASES = {
    "co2net": (co2net_thumos, {}, 4, 16),
    "co2net, one class": (co2net_thumos, {}, 1, 2),
    "co2net, ActivityNet": (co2net_thumos, {"model.pool_window": 5, "loss.topk_divisor": 5}, 9, 6),
    "co2net, the paper's readings": (
        co2net_thumos,
        {
            "model.attention_unit": "paper",
            "model.classifier": "paper",
            "model.ccm_dropout": "paper",
            "loss.suppression": "product",
            "loss.opposition_reduction": "sum",
            "loss.norm_reduction": "sum",
            "loss.mutual_metric": "js",
        },
        4,
        10,
    ),
    "hybrid": (hybrid_thumos, {}, 4, 16),
    "d2net": (d2net_thumos, {}, 4, 16),
    "d2net, one class": (d2net_thumos, {}, 1, 2),
    "d2net, ActivityNet": (d2net_anet12, {}, 9, 6),
    "d2net, the paper's readings": (
        types.SimpleNamespace(get_config=lambda: d2net_thumos.get_config("paper")),
        {},
        4,
        10,
    ),
    "d2net, focal and DMI": (
        d2net_thumos,
        {"loss.classification": "focal", "loss.denoising": "dmi", "model.residual": False},
        4,
        10,
    ),
    "wtalc": (wtalc_thumos, {}, 4, 16),
    "basnet": (basnet_thumos, {}, 4, 16),
    "acmnet": (acmnet_thumos, {}, 4, 16),
    "twostream": (twostream_thumos, {}, 4, 16),
    "twostream, the other options": (
        twostream_thumos,
        {
            "model.embedding": "plain",
            "model.attention": "sigmoid",
            "model.share_fc": True,
            "model.branches": "attention",
            "loss.fusion": "losses",
            "loss.label_norm": False,
            "loss.guide_reduction": "sum",
            "loss.guide_stop_attention": True,
        },
        1,
        6,
    ),
    "d2net, cross-entropy and BCE": (
        d2net_thumos,
        {"loss.classification": "cross_entropy", "loss.denoising": "bce"},
        4,
        10,
    ),
}

# The features of these cases are no two equal halves.
STREAMS = {
    "co2net, one stream": (7,),
    "co2net, two widths": (3, 6),
    "d2net, one stream": (7,),
    "d2net, two widths": (6, 3),
    "hybrid, one stream": (7,),
}
_MODULES = {"co2net": co2net_thumos, "d2net": d2net_thumos, "hybrid": hybrid_thumos}
CASES |= {name: (_MODULES[name.split(",")[0]], {}, 3, sum(STREAMS[name])) for name in STREAMS}


def in_float64(test):
    """Run a test in double precision."""

    @functools.wraps(test)
    def wrapped(*arguments, **named):
        with jax.enable_x64(True):
            test(*arguments, **named)

    return wrapped


def build(name: str) -> types.SimpleNamespace:
    """Build a small model of the case and its compiled functions of a batch."""
    return _build(name, jax.config.jax_enable_x64)


@functools.cache
def _build(name: str, float64: bool) -> types.SimpleNamespace:
    module, changes, num_classes, width = CASES[name]
    config = module.get_config()
    config.update_from_flattened_dict(changes)
    config.train.batch_size = B
    if "pairs" in config.train:
        config.train.pairs = PAIRS
    if "denoising_start" in config.loss:
        config.loss.update(denoising_start=0, denoising_every=1)
    method = methods.get(config.method)
    method.validate_config(config)
    model = method.build(config.model, num_classes, STREAMS.get(name, ()))
    # LLVM's optimizations take a quarter of the time and change no equation. In single precision
    # they stay on, as they are on for users.
    quick = {"xla_backend_optimization_level": 0}
    variables = jax.jit(functools.partial(begin, model, width), compiler_options=quick)()
    params = variables.pop("params")
    hyper = hyperparams_from_config(config)
    late = context(variables, step=10**6)  # all terms are active

    def evaluated(params, batch):
        """Compute the total, outputs and loss terms with dropout off."""
        outputs = model.apply({"params": params, **variables}, batch.features, batch.mask)
        terms, _ = method.loss_terms(outputs, batch, late, config)
        total = sum(hyper.loss_weights[name] * term for name, term in terms.items())
        return total, (outputs, terms)

    def trained(params, batch):
        """Compute the total as in a training step, with dropout on."""
        return loss_fn(params, batch, late, jax.random.key(2), hyper, model, method, config)

    def compiled(function):
        function = jax.value_and_grad(function, has_aux=True)
        return functools.partial(
            jax.jit(function, compiler_options=quick if float64 else {}), params
        )

    return types.SimpleNamespace(
        method=method, config=config, evaluate=compiled(evaluated), train=compiled(trained)
    )


def begin(model, width: int) -> dict:
    """Initialize a model's variables in one program, which compiles faster than many."""
    variables = model.init(jax.random.key(1), jnp.zeros((1, 1, width)), jnp.ones((1, 1), bool))
    # Biases start at 0, where leaky ReLU of zero features is not differentiable.
    return jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), variables
    )


def draw(name: str, seed: int, mask: np.ndarray) -> Batch:
    """Random features (noise where the mask is false) and labels; the pairs share a class."""
    *_, num_classes, width = CASES[name]
    rng = np.random.default_rng(seed)
    labels = (rng.random((B, num_classes)) < 0.3).astype(float)
    labels[in_pairs(np.arange(B), PAIRS), 0] = 1
    features = rng.random((*mask.shape, width))
    return Batch(jnp.asarray(features), jnp.asarray(mask), jnp.asarray(labels))


def same(got, wanted, tolerance: float = 1e-8) -> None:
    """Assert that losses and gradients of two results of `evaluate` are equal."""
    (total, (_, terms)), gradient = got
    (wanted_total, (_, wanted_terms)), wanted_gradient = wanted
    np.testing.assert_allclose(total, wanted_total, atol=tolerance)
    for name, term in wanted_terms.items():
        np.testing.assert_allclose(terms[name], term, atol=tolerance, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), gradient, wanted_gradient
    )


def valid(outputs: dict, mask) -> list[dict[str, np.ndarray]]:
    """Select each video's outputs at its valid snippets; outputs per video are unchanged."""
    return [
        {
            name: np.asarray(x)[row] if name.endswith("scores") else np.asarray(x)[row, m]
            for name, x in outputs.items()
        }
        for row, m in enumerate(mask)
    ]


def same_outputs(got, wanted, got_mask, mask) -> list:
    """Assert equal outputs at the valid snippets; return them in pairs, video by video."""
    pairs = list(zip(valid(got[0][1][0], got_mask), valid(wanted[0][1][0], mask), strict=True))
    for ours, theirs in pairs:
        for output, value in theirs.items():
            np.testing.assert_allclose(ours[output], value, atol=1e-8, err_msg=output)
    return pairs


@pytest.mark.parametrize("name", CASES)
@given(
    seed=st.integers(0, 2**20),
    lengths=st.lists(st.integers(0, T), min_size=B, max_size=B),
    shape=st.sampled_from([(1, T - 1), (T, 50)]),  # few programs to compile
)
@in_float64
def test_padding_changes_nothing(name, seed, lengths, shape):
    case, lengths, (time, extra) = build(name), np.array(lengths), shape
    short = draw(name, seed, np.arange(time) < lengths[:, None])
    long = draw(name, seed + 1, np.arange(time + extra) < np.minimum(lengths, time)[:, None])
    features = np.array(long.features)
    features[:, :time] = np.where(short.mask[..., None], short.features, features[:, :time])
    long = Batch(jnp.asarray(features), long.mask, short.labels)
    wanted, got = case.evaluate(short), case.evaluate(long)
    same(got, wanted)
    for ours, theirs in same_outputs(got, wanted, long.mask, short.mask):
        if len(theirs["cas"]):
            same_detections(case, ours, theirs)


def same_detections(case, ours: dict, theirs: dict) -> None:
    """Assert equal classes, starts and ends, and scores that are equal up to rounding."""
    scores = [case.method.video_scores(output, case.config) for output in (ours, theirs)]
    np.testing.assert_allclose(*scores, atol=1e-8)
    ours, theirs = (localize(case.method, output, case.config) for output in (ours, theirs))
    keys = [np.lexsort((s.score.round(9), s.end, s.start, s.label)) for s in (ours, theirs)]
    ours, theirs = ours.take(keys[0]), theirs.take(keys[1])
    for column in ("label", "start", "end"):
        np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column))
    np.testing.assert_allclose(ours.score, theirs.score, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**20))
@in_float64
def test_masked_features_change_nothing(name, seed):
    """For any mask, with holes, and any finite values behind it."""
    case, rng = build(name), np.random.default_rng(seed)
    batch = draw(name, seed, rng.random((B, T)) < rng.random((B, 1)))
    noise = 100 * rng.normal(size=batch.features.shape)
    features = np.where(batch.mask[..., None], batch.features, noise)
    other = batch._replace(features=jnp.asarray(features))
    wanted, got = case.evaluate(batch), case.evaluate(other)
    same(got, wanted)
    same_outputs(got, wanted, batch.mask, batch.mask)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**20), lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
@in_float64
def test_permuting_a_batch_permutes_the_result(name, seed, lengths):
    """The order of pairs, of the videos of a pair, and of single videos changes.

    D2-Net's discriminative loss draws random pairs: see tests/nn/test_discriminative_loss.py.
    """
    case = build(name)
    batch = draw(name, seed, np.arange(T) < np.array(lengths)[:, None])
    first, second = in_pairs(np.arange(B), PAIRS)
    pairs, singles = np.concatenate([first, second]), np.setdiff1d(np.arange(B), [first, second])
    order = np.arange(B)
    order[pairs], order[singles] = [*second[::-1], *first], singles[::-1]
    shuffled = Batch(*(jnp.asarray(np.asarray(x)[order]) for x in batch))
    wanted, got = case.evaluate(batch), case.evaluate(shuffled)
    if case.config.loss.get("classification") != "discriminative":
        same(got, wanted)
    for output, value in wanted[0][1][0].items():
        np.testing.assert_allclose(got[0][1][0][output], value[order], atol=1e-8, err_msg=output)


EDGES = {
    "no valid snippet": lambda b: b._replace(mask=b.mask & False),
    "one video without a valid snippet": lambda b: b._replace(mask=b.mask.at[0].set(False)),
    "single snippets": lambda b: b._replace(mask=b.mask.at[:, 1:].set(False)),
    "zero features": lambda b: b._replace(features=b.features * 0),
    "constant features": lambda b: b._replace(features=b.features * 0 + 1),
    "huge features": lambda b: b._replace(features=b.features * 1e4),
    "classes without videos": lambda b: b._replace(labels=b.labels.at[:, 1:].set(0)),
    "videos without labels": lambda b: b._replace(labels=b.labels * 0),
    "every class in every video": lambda b: b._replace(labels=b.labels * 0 + 1),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_at_the_edges(name, edge):
    case = build(name)
    batch = EDGES[edge](draw(name, 3, np.ones((B, T), bool)))
    for function in (case.evaluate, case.train):
        (total, _), gradient = function(batch)
        assert np.isfinite(total)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
