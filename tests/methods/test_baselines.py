"""W-TALC, BaS-Net and ACM-Net against plain loops over their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import acmnet_thumos, basnet_thumos, wtalc_thumos
from jaxtal import methods
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline.sampling import in_pairs
from tests.helpers.contexts import context
from tests.helpers.localizing import localize
from tests.helpers.videos import draw_batch
from tests.oracles import baselines as oracle

C, WIDTH, LENGTHS = 4, 12, (17, 9, 24, 1, 2, 16)
CONFIGS = {"wtalc": wtalc_thumos, "basnet": basnet_thumos, "acmnet": acmnet_thumos}


def configured(name: str, **changes):
    config = CONFIGS[name].get_config()
    if name == "wtalc":
        config.train.update(batch_size=len(LENGTHS), pairs=2)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    methods.get(name).validate_config(config)
    return config


def run(name: str, seed: int):
    """Return config, parameters by layer for the oracle, batch, outputs and loss terms."""
    config, method = configured(name), methods.get(name)
    model = method.build(config.model, C)
    params = model.init(jax.random.key(seed), jnp.zeros((1, 1, WIDTH)), jnp.ones((1, 1), bool))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: 3 * p + 0.1 * rng.normal(size=p.shape), params)
    batch = draw_batch(seed, LENGTHS, C, WIDTH)
    outputs = jax.jit(model.apply)(params, batch.features, batch.mask)
    terms, _ = method.loss_terms(outputs, batch, context(), config)
    assert set(terms) == set(config.loss.weights)
    return config, for_oracle(params["params"]), batch, outputs, terms


def for_oracle(params: dict) -> dict:
    layers = {**params, **params["classifier"]} if "conv0" in params["classifier"] else params
    layers = {name: layer for name, layer in layers.items() if "kernel" in layer}
    arrays = jax.tree.map(lambda p: np.asarray(p, np.float64), layers)
    return {n: (x["kernel"], x["bias"]) if "bias" in x else x["kernel"] for n, x in arrays.items()}


def videos(batch):
    """Return the valid features and the labels of each video."""
    return [
        (np.asarray(batch.features[i, :length], np.float64), np.asarray(batch.labels[i]))
        for i, length in enumerate(LENGTHS)
    ]


def of(outputs: dict, i: int) -> dict:
    """Return the valid rows of one video's outputs."""
    length = LENGTHS[i]
    return {n: np.asarray(x[i, :length] if x.shape[1] > 1 else x[i]) for n, x in outputs.items()}


def same(got, wanted, message: str = "") -> None:
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5, err_msg=message)


@pytest.mark.parametrize("seed", range(3))
def test_wtalc_against_loops(seed):
    config, params, batch, outputs, terms = run("wtalc", seed)
    wanted = [oracle.wtalc(params, f) for f, _ in videos(batch)]
    labels = [y for _, y in videos(batch)]
    for i, out in enumerate(wanted):
        for name in ("embeddings", "cas"):
            same(of(outputs, i)[name], out[name], name)
        found = localize(methods.get("wtalc"), {"cas": out["cas"]}, config)
        rows = list(zip(found.label, found.start, found.end, found.score, strict=True))
        assert len(rows) == len(oracle.wtalc_detections(out["cas"]))
        same(sorted(rows), sorted(oracle.wtalc_detections(out["cas"])))
    same(
        terms["mil"],
        np.mean([oracle.wtalc_mil(o, y) for o, y in zip(wanted, labels, strict=True)]),
    )
    similarity = [
        term
        for i, j in in_pairs(np.arange(len(LENGTHS)), config.train.pairs)
        for term in oracle.wtalc_similarity(wanted[i], wanted[j], labels[i], labels[j])
    ]
    same(terms["co_activity"], np.mean(similarity))


@pytest.mark.parametrize("seed", range(3))
def test_basnet_against_loops(seed):
    _, params, batch, outputs, terms = run("basnet", seed)
    per_video = []
    for i, (features, labels) in enumerate(videos(batch)):
        out = oracle.basnet(params, features)
        for name, value in out.items():
            same(of(outputs, i)[name], value, name)
        per_video.append(oracle.basnet_losses(out, labels))
    for name, term in terms.items():
        same(term, np.mean([one[name] for one in per_video]), name)


@pytest.mark.parametrize("seed", range(3))
def test_acmnet_against_loops(seed):
    config, params, batch, outputs, terms = run("acmnet", seed)
    per_video = []
    for i, (features, labels) in enumerate(videos(batch)):
        out = oracle.acmnet(params, features, config.model.topk_divisors)
        mine = of(outputs, i)
        names = ("attention", "attention_context", "attention_background")
        same(np.concatenate([mine[name] for name in names], axis=1), out["a"])
        same(mine["cas"], out["cas"])
        same(outputs["branch_scores"][i, 0], out["scores"])
        same(mine["scores"], out["scores"][:1])
        same(mine["embeddings"], out["embeddings"])
        per_video.append(oracle.acmnet_losses(out, labels, config.loss.margin))
    for name, term in terms.items():
        same(term, np.mean([one[name] for one in per_video]), name)


def test_the_guide_of_acmnet_does_not_train_the_attention():
    config, _, batch, outputs, _ = run("acmnet", 0)

    def guide(attention):
        changed = outputs | {"attention": attention}
        terms, _ = methods.get("acmnet").loss_terms(changed, batch, context(), config)
        return terms["guide"]

    assert not jax.grad(guide)(outputs["attention"]).any()


def test_basnet_scales_each_class_by_its_maximum():
    """Thresholds are shares of the largest value of a class; negative values count as 0."""
    cas = np.array([[-1.0, 3.0, 0.5], [2.0, 1.0, 0.5], [4.0, 5.0, 0.5]])
    spec = methods.get("basnet").score_spec(configured("basnet"))
    sequence, gate, scores = spec.compute({"cas": cas})
    same(sequence, [[0.0, 0.5], [0.5, 0.0], [1.0, 1.0]])
    same(gate, sequence)
    best = np.exp([4.0, 5.0, 0.5])
    same(scores, best[:2] / best.sum())


def test_every_test_video_of_basnet_has_the_same_number_of_rows():
    config = configured("basnet", data__num_snippets=40)
    assert methods.get("basnet").test_length_limits(config) == (40, 40)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("wtalc", {"train__batch_size": 3, "train__pairs": 2}, "pairs=2 pairs need at least 4"),
        ("wtalc", {"model__dropout": 1.0}, "model.dropout is 1.0"),
        ("basnet", {"loss__topk_divisor": 0}, "loss.topk_divisor is 0"),
        ("acmnet", {"model__topk_divisors": (8, 3)}, "wanted three whole numbers"),
        ("acmnet", {"loss__margin": -1.0}, "loss.margin is -1.0"),
    ],
)
def test_numbers_out_of_range_are_errors(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        configured(name, **changes)
