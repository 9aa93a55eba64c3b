"""CO2-Net against the published program: outputs, losses, gradients and Adam steps."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import co2net_anet12, co2net_thumos
from jaxtal.input_pipeline.packing import Batch
from jaxtal.methods import co2net
from jaxtal.nn import losses
from jaxtal.training.train_step import adam
from tests.helpers.contexts import context
from tests.parity import compare, recipe

CONFIGS = {"co2_thumos": co2net_thumos, "co2_anet": co2net_anet12}


def run(gold: dict, config) -> types.SimpleNamespace:
    """Run our network and three Adam steps on the file's weights and batch, without dropout."""
    batch, time, classes = (int(gold[f"cfg_{name}"]) for name in "BTC")
    weights, x = recipe.co2(int(gold["cfg_seed"]), batch, time, classes)
    recipe.check(gold, {**weights, "x": x})
    params, outer = recipe.to_flax(weights)
    config.loss.topk_divisor = int(gold["cfg_k"])
    data = Batch(jnp.asarray(x), jnp.ones((batch, time), bool), jnp.asarray(gold["y"]))
    model = co2net.METHOD.build(config.model, classes)
    given = context()

    def objective(params):
        outputs = model.apply({"params": params}, data.features, data.mask)
        terms, _ = co2net.loss_terms(outputs, data, given, config)
        weights = config.loss.weights
        return sum(weights[name] * term for name, term in terms.items()), (terms, outputs)

    step = jax.jit(jax.value_and_grad(objective, has_aux=True))
    optimizer = adam(float(gold["cfg_lr"]), float(gold["cfg_wd"]))
    # The published global layers have three taps. The outer two see zero padding only: their
    # gradient is 0, and weight decay alone changes them.
    trained = {"params": jax.tree.map(jnp.asarray, params), "outer": outer}
    state = optimizer.init(trained)
    history, losses = [recipe.from_flax(**_tree(trained))], []
    for _ in range(3):
        (loss, (terms, outputs)), gradient = step(trained["params"])
        losses.append(loss)
        if len(losses) == 1:
            first = types.SimpleNamespace(terms=terms, outputs=outputs, loss=loss)
            still = jax.tree.map(np.zeros_like, outer)
            first.gradient = recipe.from_flax(gradient, still)
        update = {"params": gradient, "outer": jax.tree.map(jnp.zeros_like, trained["outer"])}
        change, state = optimizer.update(update, state, trained)
        trained = optax.apply_updates(trained, change)
        history.append(recipe.from_flax(**_tree(trained)))
    losses.append(step(trained["params"])[0][0])
    first.history, first.curve = history, np.array(losses)
    return first


def _tree(trained: dict) -> dict:
    return {"tree": trained["params"], "outer": trained["outer"]}


@pytest.fixture(scope="module", params=list(CONFIGS))
def case(request, golden):
    gold = golden(request.param)
    return gold, run(gold, CONFIGS[request.param].get_config())


def test_outputs(case):
    gold, ours = case
    names = {"att": "attention", "att_rgb": "attention_rgb", "att_flow": "attention_flow"}
    for theirs, name in names.items():
        np.testing.assert_allclose(ours.outputs[name][..., 0], gold[theirs], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.outputs["cas"], gold["tcam"], rtol=1e-4, atol=1e-5)
    suppressed = losses.suppress_cas(ours.outputs["cas"], ours.outputs["attention"])
    np.testing.assert_allclose(suppressed, gold["tcam_supp"], rtol=1e-4, atol=1e-5)
    compare.features(gold, ours.outputs["embeddings"])


def test_loss_terms(case):
    gold, ours = case
    wanted = {
        "mil_original": gold["loss_mil_org"],
        "mil_suppressed": gold["loss_mil_supp"],
        "co_activity": gold["loss_cas_loss"],
        "mutual": gold["loss_ml"],
        "opposition": sum(gold[f"loss_oppo_{part}"] for part in ("att", "rgb", "flow")) / 3,
        "norm": sum(gold[f"loss_norm_{part}"] for part in ("att", "rgb", "flow")) / 3,
    }
    assert set(ours.terms) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(ours.terms[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(ours.loss, gold["loss_total"], rtol=1e-4)


def test_loss_parts(case):
    gold, ours = case
    cas, mask = ours.outputs["cas"], jnp.ones(gold["att"].shape, bool)
    for part, name in {
        "att": "attention",
        "rgb": "attention_rgb",
        "flow": "attention_flow",
    }.items():
        attention = ours.outputs[name]
        norm = losses.attention_norm(attention, mask).mean()
        opposition = losses.opposition(attention, cas, mask).mean()
        np.testing.assert_allclose(norm, gold[f"loss_norm_{part}"], rtol=1e-4)
        np.testing.assert_allclose(opposition, gold[f"loss_oppo_{part}"], rtol=1e-4)
    suppressed = losses.suppress_cas(cas, ours.outputs["attention"])
    divisor = int(gold["cfg_k"])
    for part, logits, background in (("org", cas, 1.0), ("supp", suppressed, 0.0)):
        loss = losses.topk_mil(logits, jnp.asarray(gold["y"]), mask, divisor, background)
        np.testing.assert_allclose(loss, gold[f"mil_{part}_per_video"], rtol=1e-4)


def test_gradients(case):
    gold, ours = case
    compare.gradients(gold, ours.gradient)


def test_adam_steps(case):
    gold, ours = case
    compare.adam_steps(gold, ours.history, ours.gradient)


def test_loss_curve(case):
    gold, ours = case
    np.testing.assert_allclose(ours.curve, gold["loss_curve"], rtol=1e-3)
