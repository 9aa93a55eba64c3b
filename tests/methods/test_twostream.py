"""Two-stream network: comparison with plain loops; options, dictionary, warm-up and batches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import twostream_anet13, twostream_demo, twostream_thumos
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.layouts import load_from_config
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline.packing import Batch, pack
from jaxtal.methods import twostream
from jaxtal.methods.twostream import METHOD
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state, train_step
from jaxtal.training.trainer import train_and_evaluate
from tests.helpers.contexts import context, drawn
from tests.helpers.localizing import localize
from tests.oracles import twostream as twostream_oracle

C, WIDTH, T = 4, 12, 17

# Differences from the THUMOS14 config; the oracle has the same options.
VARIANTS = {
    "default": {},
    "plain embedding, sigmoid attention": {
        "model.embedding": "plain",
        "model.attention": "sigmoid",
        "model.topk_divisors": (8, 3, 3),
    },
    "losses averaged": {"loss.fusion": "losses"},
    "shared classifier, targets as printed": {"model.share_fc": True, "loss.label_norm": False},
    "attention branch": {
        "model.branches": "attention",
        "loss.weights.semantic": 0.0,
    },
    "guide: attention outside of the softmax": {"loss.guide_background": "product_of_softmax"},
    "guide: no attention in the softmax": {"loss.guide_background": "softmax"},
    "guide: logits as printed": {"loss.guide_background": "product"},
    "MIL branch, guide as a sum": {"model.branches": "mil", "loss.guide_reduction": "sum"},
}


def configured(changes: dict):
    config = twostream_thumos.get_config()
    config.update_from_flattened_dict(changes)
    twostream.validate_config(config)
    return config


def draw(seed: int) -> tuple[Batch, np.ndarray]:
    """Draw videos of 0, 1, 2, ... snippets, one without labels, one with all; and lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.array([T, 1, 2, 0, 9, *rng.integers(3, T + 1, 3)])
    mask = np.arange(T) < lengths[:, None]
    labels = (rng.random((len(lengths), C)) < 0.4).astype(np.float32)
    labels[:3] = [[0] * C, [1] * C, [1, 0, 0, 0]]
    features = rng.random((len(lengths), T, WIDTH)).astype(np.float32)
    return Batch(jnp.asarray(features), jnp.asarray(mask), jnp.asarray(labels)), lengths


def parameters(config, seed: int) -> dict:
    model = METHOD.build(config.model, C)
    params = model.init(jax.random.key(seed), jnp.zeros((1, 1, WIDTH)), jnp.ones((1, 1), bool))[
        "params"
    ]
    # Larger parameters make attentions and class scores differ.
    return jax.tree.map(lambda p: 3 * p, params)


def for_oracle(params: dict) -> dict:
    named = {"Q": params["dictionary"]}
    for layer in set(params) - {"dictionary"}:
        kernel = np.asarray(params[layer]["kernel"])
        named[f"{layer}_w"] = kernel if layer == "conv" else kernel[0]
        named[f"{layer}_b"] = params[layer]["bias"]
    return named


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
def test_network_losses_and_inference_against_loops(variant, seed):
    config = configured(VARIANTS[variant])
    batch, lengths = draw(seed)
    params = parameters(config, seed)
    outputs = METHOD.build(config.model, C).apply({"params": params}, batch.features, batch.mask)
    terms, _ = twostream.loss_terms(outputs, batch, context(step=10**6), config)

    model, loss = config.model, config.loss
    network = functools.partial(
        twostream_oracle.network,
        for_oracle(params),
        embedding=model.embedding,
        attention=model.attention,
        share_fc=model.share_fc,
        branches=model.branches,
        divisors=model.topk_divisors,
    )
    per_video = []
    for row, length in enumerate(lengths):
        if not length:
            continue
        out = network(batch.features[row, :length])
        fused = {"scores": ["y"], "losses": ["y_att", "y_mil"]}[loss.fusion]
        of_each = [
            twostream_oracle.video_losses(
                out | {"y": out[name]},
                batch.labels[row],
                label_norm=loss.label_norm,
                guide_reduction=loss.guide_reduction,
                guide_background=loss.guide_background,
            )
            for name in fused
        ]
        per_video.append({name: np.mean([one[name] for one in of_each]) for name in of_each[0]})
        mine = {name: np.asarray(value[row, :length]) for name, value in outputs.items()}
        wanted = {
            "embeddings": out["x"],
            "attention": out["a"][:, :1],
            "attention_context": out["a"][:, 1:2],
            "attention_background": out["a"][:, 2:],
            "logits": out["p"],
            "cas": out["z"][0],
            "distance": out["distance"][:, None],
            "scores": out["y"][:1],
        }
        branches = {"both": ["y_att", "y_mil"], "attention": ["y_att"], "mil": ["y_mil"]}
        once = np.stack([out[name] for name in branches[model.branches]])
        np.testing.assert_allclose(outputs["branch_scores"][row], once, rtol=1e-5, atol=1e-6)
        del mine["branch_scores"]
        np.testing.assert_allclose(
            METHOD.score_spec(config).activations(mine),
            np.tile(out["a"][:, :1], C) if model.branches == "attention" else out["s_fg"][:, :-1],
            rtol=1e-5,
            atol=1e-6,
        )
        assert set(wanted) == set(mine)
        for name, value in wanted.items():
            np.testing.assert_allclose(mine[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert set(terms) == set(config.loss.weights)
    for name, term in terms.items():
        wanted = np.mean([losses[name] for losses in per_video])
        np.testing.assert_allclose(term, wanted, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("config", [twostream_thumos, twostream_anet13], ids=["thumos", "anet13"])
@pytest.mark.parametrize("branches", ["both", "attention"])
@pytest.mark.parametrize("upsample", [20, 1])
def test_localization_against_loops(config, branches, upsample):
    config = config.get_config()
    config.model.branches = branches
    config.localization.upsample = upsample
    first, last, count = config.localization.thresholds
    thresholds = np.linspace(first, last, count)
    some = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        time = int(rng.integers(2, 40))
        cas = 4 * rng.normal(size=(time, C + 1))
        cas[:, -1] += 0 if count > 5 else 8  # lower probabilities where the thresholds are lower
        attention = rng.random((time, 1)) / (1 if count > 5 else 20)
        scores = oracle_softmax((2 if seed % 2 else 0.01) * rng.normal(size=(1, C + 1)))
        if seed % 3 == 0:
            scores[0, :-1] *= 0.1 / scores[0, :-1].max()  # no class above alpha
        outputs = {"cas": cas, "attention": attention, "scores": scores}
        found = localize(METHOD, outputs, config)
        sequence = np.tile(attention, C + 1) if branches == "attention" else oracle_softmax(cas)
        wanted = twostream_oracle.localize(sequence, scores[0], time, thresholds, upsample=upsample)
        rows = np.stack([found.label, 0.64 * found.start, 0.64 * found.end, found.score], axis=1)
        assert len(rows) == len(wanted)
        some += len(rows)
        if wanted:
            np.testing.assert_allclose(rows, wanted, rtol=1e-9, atol=1e-9)
    assert some > 50


def oracle_softmax(x: np.ndarray) -> np.ndarray:
    return np.array([twostream_oracle.softmax(row) for row in x])


@pytest.mark.parametrize(("share", "wanted"), [(False, 12_720_173), (True, 12_677_144)])
def test_number_of_parameters(share, wanted):
    """Compare with docs/methods/twostream.md, network."""
    fields = {**twostream_thumos.get_config().model, "share_fc": share}
    model = METHOD.build(fields, 20)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, 1, 2048)), jnp.ones((1, 1), bool)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == wanted


def test_initial_parameters_follow_pytorch():
    params = parameters(configured({}), 0)
    for layer, fan_in in (("conv", 3 * WIDTH), ("att", WIDTH), ("cls", WIDTH), ("mil", WIDTH)):
        values = np.concatenate([np.ravel(leaf) for leaf in params[layer].values()]) / 3
        assert np.abs(values).max() <= fan_in**-0.5
        assert np.abs(values).max() > 0.9 * fan_in**-0.5
        assert np.any(params[layer]["bias"])
    dictionary = params["dictionary"] / 3
    assert 0 <= dictionary.min() < 0.1 < 0.9 < dictionary.max() <= 1


def test_the_predicted_class_selects_the_centroid_without_gradient():
    """The logits receive no gradient; Q receives one only in the rows of predicted classes."""
    config = configured({})
    batch, _ = draw(0)
    model, params = METHOD.build(config.model, C), parameters(config, 0)

    def semantic(params):
        outputs = model.apply({"params": params}, batch.features, batch.mask)
        terms, _ = twostream.loss_terms(outputs, batch, context(step=10**6), config)
        return terms["semantic"], outputs["logits"]

    (_, logits), gradient = jax.value_and_grad(semantic, has_aux=True)(params)
    for layer in ("mil", "cls", "att"):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient[layer])), layer
    assert np.any(gradient["conv"]["kernel"])
    predicted = set(np.asarray(logits.argmax(-1))[np.asarray(batch.mask)])
    assert 0 < len(predicted) < C + 1
    moved = np.flatnonzero(np.abs(gradient["dictionary"]).max(axis=1))
    assert set(moved) == predicted


@pytest.mark.parametrize("stop", [False, True])
def test_guide_stop_attention(stop):
    config = configured({"loss.guide_stop_attention": stop})
    batch, _ = draw(1)

    def guide(attention, cas):
        branch_scores = jnp.full((len(cas), 2, 3, C + 1), 1 / (C + 1))
        outputs = {
            "attention": attention,
            "cas": cas,
            "logits": cas / attention,
            "distance": attention,
            "branch_scores": branch_scores,
        }
        return twostream.loss_terms(outputs, batch, context(), config)[0]["guide"]

    shape = batch.mask.shape
    cas = jax.random.normal(jax.random.key(0), (*shape, C + 1))
    to_attention, to_logits = jax.grad(guide, (0, 1))(jnp.full((*shape, 1), 0.3), cas)
    # Of the attention itself: that of the product with the logits cancels, but for rounding.
    assert (np.abs(to_attention).max() > 1e-6) != stop
    assert np.any(to_logits)


def flat_videos(lengths, labels, seed=0, dtype=np.float32) -> tuple[Video, ...]:
    rng = np.random.default_rng(seed)
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 9.0, np.array(mine), empty, empty[:, 0], empty,
              rng.random((length, WIDTH)).astype(dtype))
        for i, (length, mine) in enumerate(zip(lengths, labels, strict=True))
    )  # fmt: skip


def trainset(videos) -> Dataset:
    return Dataset("Tiny", tuple("abcd"), videos, ())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_dictionary_starts_from_class_means(dtype):
    """Class 2 has no video; a video of two classes counts in both; long videos count more."""
    videos = flat_videos([3, 9, 5, 40], [[0], [0, 1], [3], [1]], dtype=dtype)
    named = [(video.features, np.isin(np.arange(C), video.labels)) for video in videos]
    means = twostream_oracle.class_means(named)
    assert np.isnan(means[2]).all()
    uniform = {"dictionary": jax.random.uniform(jax.random.key(0), (C + 1, WIDTH)), "other": 1}
    for how in ("uniform", "class_mean", "class_mean_bg_global"):
        config = configured({"loss.dictionary_init": how})
        params = METHOD.initialize(uniform, trainset(videos), config)
        assert params["other"] == 1
        got = np.asarray(params["dictionary"])
        wanted = np.array(uniform["dictionary"])
        if how != "uniform":
            wanted[:C] = np.where(np.isnan(means), wanted[:C], means)
        if how == "class_mean_bg_global":
            wanted[C] = np.concatenate([video.features for video in videos]).mean(
                axis=0, dtype=np.float64
            )
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        assert got.dtype == np.float32
    # Several models at once, as in a population.
    several = {"dictionary": jnp.stack([uniform["dictionary"], 1 - uniform["dictionary"]])}
    config = configured({})
    both = METHOD.initialize(several, trainset(videos), config)["dictionary"]
    for row, one in zip(both, several["dictionary"], strict=True):
        alone = METHOD.initialize({"dictionary": one}, trainset(videos), config)["dictionary"]
        np.testing.assert_array_equal(row, alone)


FIVE = [9, 12, 20, 8, 3], [[0], [1], [2], [3], [0]]


def test_the_first_checkpoint_has_the_class_means(tmp_path):
    """The trainer initializes the dictionary before the first step."""
    config = small()
    config.data.generator += " num_train=6 num_test=3 num_classes=3 feature_width=8 max_snippets=60"
    config.train.steps = config.evaluation.plot_videos = 0
    train_and_evaluate(config, tmp_path)
    dataset = load_from_config(config.data)
    features = [video.features for video in dataset.train]
    labels = [np.isin(np.arange(3), video.labels) for video in dataset.train]
    means = twostream_oracle.class_means(list(zip(features, labels, strict=True)))
    assert np.isfinite(means).any()
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(tmp_path / "checkpoints" / "0" / "state")
    (dictionary,) = np.asarray(state["params"]["dictionary"])
    known = np.isfinite(means)
    np.testing.assert_allclose(dictionary[:3][known], means[known], rtol=1e-6)


def small(**loss):
    config = twostream_demo.get_config()
    config.data.num_snippets, config.train.batch_size = 8, 3
    config.loss.update(warmup_steps=4, **loss)
    return config


def trained(config, steps: int):
    """Train for some steps; return the dictionaries, the initial one first, and the metrics."""
    packed, hyper = pack(flat_videos(*FIVE), C), hyperparams_from_config(config)
    model = METHOD.build(config.model, C)
    state = init_state(model, hyper, WIDTH)
    step = jax.jit(
        lambda state: train_step(state, hyper, packed, model=model, method=METHOD, config=config)
    )
    dictionaries, metrics = [np.asarray(state.params["dictionary"])], []
    for _ in range(steps):
        state, metric = step(state)
        dictionaries.append(np.asarray(state.params["dictionary"]))
        metrics.append(metric)
    assert step._cache_size() == 1
    return dictionaries, metrics


def test_warm_up_by_a_ramp():
    """The factor grows from 0 in the first step to 1 after `warmup_steps`."""
    config = small()
    batch, _ = draw(0)
    model, params = METHOD.build(config.model, C), parameters(config, 0)
    outputs = model.apply({"params": params}, batch.features, batch.mask)
    terms = [
        twostream.loss_terms(outputs, batch, context(step=step), config)[0] for step in range(7)
    ]
    semantic = np.array([term["semantic"] for term in terms])
    np.testing.assert_allclose(semantic / semantic[-1], [0, 0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
    assert len({float(term["guide"]) for term in terms}) == 1
    config.loss.warmup = "none"
    whole = twostream.loss_terms(outputs, batch, context(step=0), config)[0]["semantic"]
    np.testing.assert_allclose(whole, semantic[-1], rtol=1e-6)
    config.loss.update(warmup="loss_ramp", warmup_steps=0)
    whole = twostream.loss_terms(outputs, batch, context(step=0), config)[0]["semantic"]
    np.testing.assert_allclose(whole, semantic[-1], rtol=1e-6)


def test_warm_up_with_a_fixed_dictionary():
    """Weight decay does not change it either; the other parameters are trained."""
    dictionaries, metrics = trained(small(warmup="freeze_dict"), 6)
    for dictionary in dictionaries[1:5]:
        np.testing.assert_array_equal(dictionary, dictionaries[0])
    assert (dictionaries[5] != dictionaries[4]).any()
    assert (dictionaries[6] != dictionaries[5]).any()
    assert metrics[0]["semantic"] > 0
    dictionaries, _ = trained(small(warmup="none"), 1)
    assert (dictionaries[1] != dictionaries[0]).any()


def test_batches_are_epochs():
    """Each epoch has every video once, in a new order; masked rows fill its last batch."""
    config = small()
    videos = flat_videos(*FIVE)
    for number, video in enumerate(videos):
        video.features[:, 0] = number + 1
    data = pack(videos, C)
    draw_batch = jax.jit(lambda step, key: drawn(METHOD, data, config, step=step, key=key))
    orders = []
    for epoch in range(6):
        first, second = (draw_batch(2 * epoch + i, jax.random.key(2 * epoch + i)) for i in range(2))
        assert first.mask.all()
        np.testing.assert_array_equal(second.mask.any(1), [True, True, False])
        number = np.concatenate([first.features[:, 0, 0], second.features[:2, 0, 0]]) - 1
        assert sorted(number) == [0, 1, 2, 3, 4]
        orders.append(tuple(number))
        np.testing.assert_array_equal(first.labels.argmax(1), number[:3] % 4)
    assert len(set(orders)) > 3
    config.data.min_snippets = 9  # three videos remain: one batch per epoch
    seen = np.asarray(draw_batch.__wrapped__(0, jax.random.key(0)).features[:, 0, 0])
    assert sorted(seen) == [1, 2, 3]


def test_test_snippets_follow_num_snippets_until_they_are_set():
    for module in (twostream_thumos, twostream_demo, twostream_anet13):
        config = module.get_config()
        config.data.num_snippets = 33
        assert config.data.test_snippets == 33
        config.data.test_snippets = 44
        assert (config.data.num_snippets, config.data.test_snippets) == (33, 44)
        assert config.to_dict()["data"]["test_snippets"] == 44


def test_rows_of_test_videos():
    config = configured({"data.test_snippets": 10})
    np.testing.assert_array_equal(
        np.clip([1, 2, 9, 10, 99], *METHOD.test_length_limits(config)), [2, 2, 9, 10, 10]
    )


def test_table_rows():
    """Rows add loss terms in the order of Table 3, or have one branch alone."""
    terms = {"fg": 1, "fg_bg": 2, "fg_bg_ct": 3, "fg_bg_ct_gui": 4, "full": 5}
    order = ["foreground", "background", "context", "guide", "semantic"]
    full = {"foreground": 1, "background": 0.1, "context": 0.1, "guide": 2e-3, "semantic": 5e-2}
    for module in (twostream_thumos, twostream_anet13, twostream_demo):
        for row, count in terms.items():
            config = module.get_config(row)
            twostream.validate_config(config)
            assert config.model.branches == "both"
            wanted = {name: full[name] if name in order[:count] else 0 for name in order}
            assert config.loss.weights.to_dict() == wanted
        for row in ("attention", "mil"):
            config = module.get_config(row)
            twostream.validate_config(config)
            assert config.model.branches == row
            assert config.loss.weights == module.get_config("fg_bg_ct").loss.weights
        full_config, paper = module.get_config(), module.get_config("paper")
        twostream.validate_config(paper)
        full_config.loss.label_norm = False
        full_config.localization.outer = "padded"
        full_config.train.epochs = 0 if module is twostream_demo else 100
        assert paper.to_dict() == full_config.to_dict()
        with pytest.raises(ValueError, match="wanted one of fg, fg_bg"):
            module.get_config("smt")
    eta = np.linspace(*twostream_thumos.get_config().localization.thresholds)
    np.testing.assert_allclose(eta, np.arange(4, 37) / 40)
    eta = np.linspace(*twostream_anet13.get_config().localization.thresholds)
    np.testing.assert_allclose(eta, np.arange(1, 6) / 200)


REJECTED = {
    ("model.embedding", "conv"): r"'conv'; it must be one of residual, plain",
    ("model.attention", "tanh"): r"'tanh'; it must be one of softmax, sigmoid",
    ("model.branches", "none"): r"'none'; it must be one of both, attention, mil",
    ("model.dropout", 1.0): r"1\.0; it must be below 1",
    ("model.topk_divisors", (8, 2, 0)): r"three whole numbers of at least 1",
    ("model.topk_divisors", (8, 2)): r"three whole numbers of at least 1",
    ("loss.fusion", "both"): r"'both'; it must be one of scores, losses",
    ("loss.guide_background", "sigmoid"): r"must be one of softmax_of_product, product_of",
    ("loss.guide_reduction", "max"): r"'max'; it must be one of mean, sum",
    ("loss.dictionary_init", "zeros"): r"must be one of class_mean, uniform, class_mean_bg_global",
    ("loss.warmup", "cosine"): r"must be one of loss_ramp, freeze_dict, none",
    ("loss.warmup_steps", -1): r"-1; it must be at least 0",
    ("data.test_snippets", 1): r"1; it must be at least 2",
    ("data.test_snippets", 50_000): r"50000; it must be below 46341",
    ("localization.upsample", 0): r"0; it must be at least 1",
}


@pytest.mark.parametrize(("field", "value"), REJECTED)
def test_invalid_values_are_rejected(field, value):
    config = twostream_thumos.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(JaxtalError, match=rf"^config\.{field} .*{REJECTED[field, value]}"):
        twostream.validate_config(config)


def test_centroids_selected_by_untrained_logits_are_rejected():
    config = twostream_thumos.get_config()
    config.model.branches = "attention"
    with pytest.raises(JaxtalError, match=r"weights\.semantic is 0\.05.*branches=attention"):
        twostream.validate_config(config)
    config.model.share_fc = True
    twostream.validate_config(config)


def test_the_steps_of_a_run_follow_epochs():
    """The training step keeps the order within an epoch; the order differs between seeds."""
    config = small()
    videos = flat_videos(*FIVE)
    for number, video in enumerate(videos):
        video.features[:] = number
    data, model = pack(videos, C), METHOD.build(config.model, C)

    def seen(outputs, batch, context, config):
        number = jnp.where(batch.mask[:, 0], batch.features[:, 0, 0], -1)
        terms = {f"video {row}": number[row] for row in range(3)}
        return dict.fromkeys(config.loss.weights, jnp.float32(0)) | terms, context.state

    method = dataclasses.replace(METHOD, loss_terms=seen)
    hyper = hyperparams_from_config(config)
    weights = hyper.loss_weights | {f"video {row}": jnp.float32(0) for row in range(3)}
    hyper = hyper._replace(loss_weights=weights)
    step = jax.jit(functools.partial(train_step, model=model, method=method, config=config))
    orders = set()
    for seed in range(2):
        mine = hyper._replace(seed=jnp.uint32(seed))
        state = init_state(model, mine, WIDTH)
        for _ in range(3):
            order: list[int] = []
            for _ in range(2):
                state, metrics = step(state, mine, data)
                order += [int(metrics[f"video {row}"]) for row in range(3)]
            assert order[-1] == -1
            assert sorted(order[:5]) == [0, 1, 2, 3, 4]
            orders.add(tuple(order))
    assert len(orders) >= 5  # 120 orders exist, six are drawn


def test_members_of_a_population_equal_single_runs():
    """The comparison starts from class means and covers the end of an epoch."""
    config = small(warmup="freeze_dict")
    videos = flat_videos(*FIVE)
    data, model, hyper = (
        pack(videos, C),
        METHOD.build(config.model, C),
        hyperparams_from_config(config),
    )

    def begin(hyper):
        state = init_state(model, hyper, WIDTH)
        return state._replace(params=METHOD.initialize(state.params, trainset(videos), config))

    step = functools.partial(train_step, model=model, method=METHOD, config=config)
    axes = jax.tree.map(lambda _: None, hyper)._replace(seed=0)
    many = hyper._replace(seed=jnp.arange(3, dtype=jnp.uint32))
    states = jax.vmap(begin, in_axes=(axes,))(many)
    together = jax.jit(jax.vmap(step, in_axes=(0, axes, None)))
    alone, one = jax.jit(step), hyper._replace(seed=jnp.uint32(2))
    state = begin(one)
    for _ in range(3):
        states, metrics = together(states, many, data)
        state, wanted = alone(state, one, data)
        for name, value in wanted.items():
            np.testing.assert_allclose(metrics[name][2], value, rtol=1e-4, err_msg=name)
