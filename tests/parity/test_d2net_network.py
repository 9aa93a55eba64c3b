"""D2-Net against the published program: outputs, losses, gradients, state and Adam steps."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import d2net_anet12, d2net_thumos
from jaxtal.input_pipeline.packing import Batch
from jaxtal.methods import d2net
from jaxtal.nn import discriminative_loss
from jaxtal.nn.discriminative_loss import Pairing
from jaxtal.training.train_step import adam
from tests.helpers.contexts import context
from tests.parity import compare, recipe

CONFIGS = {"d2_thumos": d2net_thumos, "d2_anet": d2net_anet12}


def pairing_from(draws: list, foreground: jax.Array, background: jax.Array) -> Pairing:
    """Return the published program's permutations of its lists, as rows of the batch."""
    lists = [foreground, background, foreground, background]
    members = [jnp.argsort(~has, stable=True) for has in lists]
    orders = [
        jnp.concatenate([row[draw], row[len(draw) :]])
        for row, draw in zip(members, draws, strict=True)
    ]
    partners = [order[jnp.argsort(row)] for row, order in zip(members[:2], orders[:2], strict=True)]
    return Pairing(*partners, *orders[2:])


def permutations(gold: dict, step: int) -> list[np.ndarray]:
    """Return the permutations pi_1 to pi_4 of a step.

    A single stored one is pi_1 or pi_2, as the other list was empty; it is returned for both.
    """
    count = int(gold["perms_per_step"][step])
    drawn = [gold[f"perm_step{step}_{i}"] for i in range(count)]
    if count == 1:
        drawn = [*drawn, *drawn]
    return drawn + [np.empty(0, int)] * (4 - len(drawn))


def run(gold: dict, config, monkeypatch) -> types.SimpleNamespace:
    """Run our network and three Adam steps on the file's weights and batch, without dropout."""
    classes = int(gold["cfg_C"])
    model_settings = config.model
    layers = recipe.d2_layers(
        classes, model_settings.kernel_size, model_settings.classifier_kernel_size
    )
    weights, background, x = recipe.d2(gold, layers)
    recipe.check(gold, {**weights, "x": x, "running_bg": background})
    compare.close(background, gold["running_bg_before"].ravel(), recipe.ROUNDING)
    config.model.update(dropout=0.0, padding="published")
    config.loss.update(denoising_start=0, denoising_every=1)
    config.loss.weights.update(snippet_denoising=0.1, video_denoising=0.1)
    mask = np.arange(x.shape[1]) < gold["seq_len"][:, None]
    data = Batch(jnp.asarray(x), jnp.asarray(mask), jnp.asarray(gold["y"]))
    model = d2net.METHOD.build(config.model, classes)

    def objective(params, state, draws):
        monkeypatch.setattr(
            discriminative_loss,
            "draw_pairing",
            lambda key, fg, bg, pairs: pairing_from(draws, fg, bg),
        )
        outputs = model.apply({"params": params, **state}, data.features, data.mask, train=True)
        given = context(state)
        terms, state = d2net.loss_terms(outputs, data, given, config)
        total = sum(config.loss.weights[name] * term for name, term in terms.items())
        return total, (terms, state, outputs)

    step = jax.jit(jax.value_and_grad(objective, has_aux=True))
    optimizer = adam(1e-4, float(gold["cfg_wd"]))
    params = jax.tree.map(jnp.asarray, recipe.d2_to_flax(weights))
    state = {"running": {"background": jnp.asarray(background)}}
    moments = optimizer.init(params)
    history, states, curve = [recipe.d2_from_flax(params)], [state], []
    for index in range(4):
        draws = [jnp.asarray(draw) for draw in permutations(gold, index)]
        (loss, (terms, state, outputs)), gradient = step(params, state, draws)
        curve.append([loss, *(terms[name] for name in terms)])
        states.append(state)
        if index == 0:
            first = types.SimpleNamespace(terms=terms, outputs=outputs, loss=loss, config=config)
            first.gradient = recipe.d2_from_flax(gradient)
        change, moments = optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, change)
        history.append(recipe.d2_from_flax(params))
    first.mask, first.history, first.curve = mask, history, np.array(curve)
    first.backgrounds = [state["running"]["background"] for state in states]
    return first


@pytest.fixture(scope="module", params=list(CONFIGS))
def case(request, golden):
    gold = golden(request.param)
    with pytest.MonkeyPatch.context() as monkeypatch:
        return gold, run(gold, CONFIGS[request.param].get_config(), monkeypatch)


def test_outputs(case):
    gold, ours = case
    embeddings = np.asarray(ours.outputs["embeddings"])
    np.testing.assert_allclose(ours.outputs["cas"], gold["tcam"], rtol=1e-4, atol=1e-5)
    compare.features(gold, embeddings)
    top_down = np.where(ours.mask, ours.outputs["cas"].max(-1), 0)
    np.testing.assert_allclose(top_down, gold["fg_attention"], rtol=1e-4, atol=1e-5)
    bottom_up = discriminative_loss.bottom_up_attention(embeddings, ours.backgrounds[1])
    got, wanted = np.asarray(bottom_up)[ours.mask], gold["bottom_up_attention"][ours.mask]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_selected_snippets(case):
    gold, ours = case
    settings = ours.config.loss
    top_down = np.asarray(ours.outputs["cas"].max(-1))
    embeddings = ours.outputs["embeddings"]
    bottom_up = np.asarray(discriminative_loss.bottom_up_attention(embeddings, ours.backgrounds[1]))
    selected = {
        "n_fg": top_down >= settings.foreground_threshold,
        "n_bg": 1 - top_down >= settings.background_threshold,
        "n_bu_fg": bottom_up > settings.bottom_up_foreground,
        "n_bu_bg": bottom_up < settings.bottom_up_background,
    }
    for name, chosen in selected.items():
        np.testing.assert_array_equal((chosen & ours.mask).sum(axis=1), gold[name], err_msg=name)


def test_running_background(case):
    gold, ours = case
    for step, name in ((1, "running_bg_after1"), (3, "running_bg_after3")):
        np.testing.assert_allclose(ours.backgrounds[step], gold[name], rtol=1e-4, atol=1e-5)


def test_loss_terms(case):
    gold, ours = case
    wanted = {
        "discriminative": gold["loss_dis"],
        "snippet_denoising": gold["loss_snippet_pdmi"],
        "video_denoising": gold["loss_video_pdmi"],
    }
    assert set(ours.terms) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(ours.terms[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(ours.loss, gold["loss_total"], rtol=1e-4)


def test_gradients(case):
    gold, ours = case
    compare.gradients(gold, ours.gradient)


def test_adam_steps(case):
    gold, ours = case
    compare.adam_steps(gold, ours.history, ours.gradient)


def test_loss_curve(case):
    gold, ours = case
    np.testing.assert_allclose(ours.curve, gold["loss_curve"], rtol=1e-3)
