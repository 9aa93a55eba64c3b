"""The hybrid's body is CO2-Net, and each added part follows the equations of its paper."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from configs import co2net_thumos, hybrid_thumos
from jaxtal import methods
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline.packing import Batch
from tests.helpers.contexts import context
from tests.helpers.localizing import localize

C, WIDTH, LENGTHS = 3, 12, (9, 14, 6, 11, 14, 7)
PARTS = ("foreground", "background", "semantic", "snippet_denoising", "video_denoising")


def config_of(**changes):
    config = hybrid_thumos.get_config()
    config.train.update(batch_size=len(LENGTHS), pairs=2)
    config.loss.update(denoising_start=5)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


@pytest.fixture(scope="module")
def case():
    """A small model with random parameters, a batch, and its outputs for the batch."""
    rng = np.random.default_rng(0)
    config, method = config_of(), methods.get("hybrid")
    model = method.build(config.model, C)
    init = jax.jit(model.init)
    variables = init(jax.random.key(0), jnp.zeros((1, 1, WIDTH)), jnp.ones((1, 1), bool))
    variables = jax.tree.map(lambda p: p + 0.2 * rng.normal(size=p.shape), variables)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    labels = (rng.random((len(LENGTHS), C)) < 0.4).astype(np.float32)
    labels[:, 0] = 1
    features = rng.random((*mask.shape, WIDTH)).astype(np.float32) * mask[..., None]
    batch = Batch(jnp.asarray(features), jnp.asarray(mask), jnp.asarray(labels))
    outputs = jax.jit(model.apply)(variables, batch.features, batch.mask)
    return types.SimpleNamespace(
        config=config, method=method, model=model, variables=variables, batch=batch,
        outputs=outputs,
    )  # fmt: skip


def terms_of(case, step: int = 10) -> dict:
    terms, _ = case.method.loss_terms(case.outputs, case.batch, context(step=step), case.config)
    return terms


def test_the_body_is_co2net(case):
    """Equal parameters give the outputs and the terms of CO2-Net."""
    config = co2net_thumos.get_config()
    config.train.update(case.config.train)
    co2net = methods.get("co2net")
    model = co2net.build(config.model, C)
    body = {"params": case.variables["params"]["body"]}
    outputs = jax.jit(model.apply)(body, case.batch.features, case.batch.mask)
    for name, value in outputs.items():
        np.testing.assert_allclose(case.outputs[name], value, atol=1e-6, err_msg=name)
    wanted, _ = co2net.loss_terms(outputs, case.batch, context(), config)
    terms = terms_of(case)
    assert set(terms) == set(case.config.loss.weights) == {*wanted, *PARTS}
    for name, value in wanted.items():
        np.testing.assert_allclose(terms[name], value, atol=1e-6, err_msg=name)
        assert case.config.loss.weights[name] == config.loss.weights[name]


def test_branch_and_dictionary_by_hand(case):
    """L_fg, L_bg and L_smt video by video, in NumPy (docs/methods/hybrid.md, hybrid-losses)."""
    out = {name: np.asarray(value, np.float64) for name, value in case.outputs.items()}
    params = jax.tree.map(np.asarray, case.variables["params"])
    foreground, background, semantic = [], [], []
    for video, length in enumerate(LENGTHS):
        enhanced = out["enhanced"][video, :length]
        attention = out["attention"][video, :length, 0]
        probabilities = []
        for weight in (attention, 1 - attention):
            pooled = weight @ enhanced / weight.sum()
            logits = pooled @ params["cls"]["kernel"].reshape(WIDTH, C + 1) + params["cls"]["bias"]
            probabilities.append(special.softmax(logits))
        label = np.asarray(case.batch.labels[video])
        foreground.append(-(label / label.sum()) @ np.log(probabilities[0][:C]))
        background.append(-np.log(probabilities[1][C]))
        chosen = params["dictionary"][out["cas"][video, :length].argmax(1)]
        semantic.append(np.linalg.norm(enhanced - chosen, axis=1).mean())
    terms = terms_of(case, step=10**6)
    np.testing.assert_allclose(terms["foreground"], np.mean(foreground), rtol=1e-5)
    np.testing.assert_allclose(terms["background"], np.mean(background), rtol=1e-5)
    np.testing.assert_allclose(terms["semantic"], np.mean(semantic), rtol=1e-5)
    half = case.config.loss.warmup_steps // 2
    ramped = terms_of(case, step=half)
    np.testing.assert_allclose(ramped["semantic"], terms["semantic"] / 2, rtol=1e-5)


def test_denoising_is_d2net_s(case):
    """Both levels equal NumPy on the T-CAM's softmax; they are 0 before the first step."""
    early = terms_of(case, step=4)
    assert early["snippet_denoising"] == early["video_denoising"] == 0
    terms = terms_of(case, step=5)
    pooled, conditions = [], []
    for video, length in enumerate(LENGTHS):
        probability = special.softmax(np.asarray(case.outputs["cas"][video, :length]), axis=1)
        foreground = np.asarray(case.outputs["attention"][video, :length, 0]) > 0.5
        if foreground.any() and not foreground.all():
            own = probability[:, :C][:, np.asarray(case.batch.labels[video]) > 0].max(axis=1)
            largest = probability[:, :C].max(axis=1)
            means = np.array([own[foreground].mean(), largest[~foreground].mean()])
            conditions.append(np.log(np.linalg.cond(np.stack([means, 1 - means], axis=1))))
        k = math.ceil(length / case.config.loss.topk_divisor)
        top = np.sort(probability[:, :C], axis=0)[::-1][:k]
        pooled.append(np.clip(top.mean(axis=0), 1e-3, 1 - 1e-3))
    np.testing.assert_allclose(terms["snippet_denoising"], np.mean(conditions), rtol=1e-4)
    pooled = np.where(np.array(pooled) > 0.2 * np.max(pooled, 1, keepdims=True), pooled, 0)
    pooled = pooled / pooled.sum(axis=1, keepdims=True)
    labels = np.asarray(case.batch.labels)
    joint = labels.T @ pooled / np.maximum(labels.sum(axis=0), 1)[:, None]
    values = np.linalg.svd(joint, compute_uv=False)
    values = values[values > 1e-5]
    np.testing.assert_allclose(terms["video_denoising"], np.log(values[0] / values[-1]), rtol=1e-4)


@pytest.fixture(scope="module")
def gradient_of(case):
    """Gradient of the sum of the loss terms, weighted by {name: float}."""

    def loss(params, weights):
        outputs = case.model.apply({"params": params}, case.batch.features, case.batch.mask)
        late = context(step=10**6)
        terms, _ = case.method.loss_terms(outputs, case.batch, late, case.config)
        return sum(weights[name] * term for name, term in terms.items())

    return functools.partial(jax.jit(jax.grad(loss)), case.variables["params"])


@pytest.mark.parametrize("part", PARTS)
def test_every_part_trains_the_body_and_can_be_switched_off(case, gradient_of, part):
    """With a weight of 0 the part's own parameters have no gradient."""
    only = gradient_of({name: float(name == part) for name in case.config.loss.weights})
    reached = {name: max(abs(x).max() for x in jax.tree.leaves(only[name])) for name in only}
    assert reached["body"] > 0
    own = {"foreground": "cls", "background": "cls", "semantic": "dictionary"}.get(part)
    assert {name for name, size in reached.items() if size > 0} == {"body", own} - {None}


def test_localization_by_attention_times_probability(case):
    length = LENGTHS[0]
    outputs = {
        name: np.asarray(case.outputs[name])[0, :length] for name in case.method.output_names
    }
    sequence, gate, _ = case.method.score_spec(case.config).compute(outputs)
    probability = special.softmax(outputs["cas"].astype(np.float64), axis=1)[:, :C]
    np.testing.assert_allclose(sequence, outputs["attention"] * probability, rtol=1e-6)
    np.testing.assert_allclose(gate, outputs["attention"], rtol=1e-6)
    assert len(localize(case.method, outputs, case.config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__fusion": "x"}, r"config.model.fusion is 'x'"),
        ({"loss__denoising": "x"}, r"config.loss.denoising is 'x'"),
        ({"loss__warmup": "x"}, r"config.loss.warmup is 'x'"),
        ({"loss__warmup_steps": -1}, r"config.loss.warmup_steps is -1"),
        ({"loss__bottom_up_background": 0.9}, r"a snippet would be both"),
    ],
)
def test_invalid_options_are_rejected(changes, message):
    with pytest.raises(JaxtalError, match=message):
        methods.get("hybrid").validate_config(config_of(**changes))
