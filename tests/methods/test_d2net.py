"""D2-Net: network and loss terms against plain loops; options, state and batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import d2net_anet12, d2net_demo, d2net_thumos
from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline.packing import Batch, pack
from jaxtal.methods import d2net
from jaxtal.methods.d2net import D2Net
from jaxtal.nn import discriminative_loss
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state, train_step
from tests.helpers.contexts import context, drawn

C, WIDTH = 4, 12


def network(classes: int, **fields):
    """Build the network of the THUMOS14 config with some fields changed."""
    return d2net.METHOD.build({**d2net_thumos.get_config().model, **fields}, classes)


def draw(seed: int, lengths, time: int):
    rng = np.random.default_rng(seed)
    mask = np.arange(time) < np.asarray(lengths)[:, None]
    x = rng.random((len(lengths), time, WIDTH)).astype(np.float32)
    return np.where(mask[..., None], x, 0), mask


@pytest.mark.parametrize(
    ("config", "classes", "wanted"),
    [(d2net_thumos, 20, 12_628_008), (d2net_anet12, 100, 21_999_816)],
    ids=["thumos", "anet12"],
)
def test_number_of_parameters(config, classes, wanted):
    model = d2net.METHOD.build(config.get_config().model, classes)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, 1, 2048)), jnp.ones((1, 1), bool)
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert count == wanted
    assert shapes["running"]["background"].shape == (1024,)


def test_initial_values():
    variables = network(20).init(jax.random.key(0), jnp.zeros((1, 1, 256)), jnp.ones((1, 1), bool))
    for stream in ("rgb", "flow"):
        for layer in variables["params"][stream].values():
            assert layer["kernel"].std() == pytest.approx(0.01, rel=0.05)
            assert not np.any(layer["bias"])
    assert not np.any(variables["running"]["background"])


def reference(variables: dict, x: np.ndarray, model: D2Net) -> dict[str, np.ndarray]:
    """Run the network on one video (T, 2D), without dropout, snippet by snippet, in float64."""
    time, width = len(x), x.shape[1] // 2

    def conv(x, layer):
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
        reach = model.dilation * (len(kernel) // 2)
        out = np.tile(bias, (time, 1))
        for t in range(time):
            for tap in range(len(kernel)):
                source = t + tap * model.dilation - reach
                if 0 <= source < time:
                    out[t] += x[source] @ kernel[tap]
        return out

    streams = []
    for name, part in (("rgb", x[:, :width]), ("flow", x[:, width:])):
        p = variables["params"][name]
        for layer in ("conv0", "conv1"):
            hidden = conv(part, p[layer])
            part = np.where(hidden > 0, hidden, 0.2 * hidden) + (part if model.residual else 0)
        streams.append((part, 1 / (1 + np.exp(-conv(part, p["cls"])))))
    embeddings = (streams[0][0] + streams[1][0]) / 2
    background = np.asarray(variables["running"]["background"], np.float64)
    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(background)
    return {
        "cas": (streams[0][1] + streams[1][1]) / 2,
        "embeddings": embeddings,
        "attention": (0.5 - embeddings @ background / norms / 2)[:, None],
    }


def perturbed(model: D2Net, seed: int = 3) -> dict:
    """Initialize variables, none of which is 0."""
    x, mask = draw(0, (2,), 2)
    variables = model.init(jax.random.key(seed), x, mask)
    return jax.tree.map(
        lambda p: p + 0.2 * jax.random.normal(jax.random.key(p.size), p.shape), variables
    )


@pytest.mark.parametrize(
    "fields",
    [{}, {"kernel_size": 5, "dilation": 2, "classifier_kernel_size": 5}, {"residual": False}],
    ids=str,
)
def test_the_network_equals_the_loops(fields):
    model = network(C, **fields)
    variables = perturbed(model)
    x, mask = draw(2, (12, 5, 1), 12)
    outputs = jax.jit(model.apply)(variables, x, mask)
    for row, length in enumerate((12, 5, 1)):
        wanted = reference(variables, np.float64(x[row, :length]), model)
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            got = outputs[name][row, :length]
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_published_padding_acts_in_training_up_to_the_longest_video_of_the_batch():
    """The batch gives what its cut to the longest video gives without a mask."""
    model = network(C, padding="published", dropout=0.0)
    variables = perturbed(model)
    x, mask = draw(2, (7, 4, 1), 9)
    published = model.apply(variables, x, mask, train=True)
    cut = network(C).apply(variables, x[:, :7], mask[:, :7] | True)
    np.testing.assert_allclose(published["cas"][:, :7], cut["cas"], atol=1e-6)
    alone = network(C).apply(variables, x, mask)
    assert np.abs(published["cas"] - alone["cas"])[1, 3].max() > 1e-4
    # Without `train` a video is never affected by padding.
    tested = model.apply(variables, x, mask)
    np.testing.assert_array_equal(tested["cas"], alone["cas"])


def test_dropout_reaches_the_features_that_the_losses_see():
    model = network(C)
    variables = perturbed(model)
    x, mask = draw(1, [60] * 8, 60)
    outputs = model.apply(variables, x, mask, train=True, rngs={"dropout": jax.random.key(0)})
    zeros = np.mean(np.asarray(outputs["embeddings"]) == 0)
    assert zeros == pytest.approx(0.7**2, abs=0.03)  # the mean of two streams, dropped apart


def loop_terms(case: dict, settings, pairing) -> tuple[dict, np.ndarray]:
    """Compute the terms and the new running background in NumPy, video by video."""
    cas, features, labels, lengths = (
        case[name] for name in ("cas", "embeddings", "labels", "lengths")
    )
    rows = [b for b in range(len(cas)) if lengths[b] >= 5 and labels[b].any()]
    classes = cas.shape[-1]
    pooled, kept, used = [], {"fg": {}, "bg": {}}, []
    for b in rows:
        t, f = cas[b, : lengths[b]], features[b, : lengths[b]]
        k = -(-lengths[b] // settings.topk_divisor)
        p = np.array([np.sort(t[:, c])[::-1][:k].mean() for c in range(classes)])
        pooled.append(np.clip(p, 1e-3, 1 - 1e-3))
        top_down = t.max(axis=1)
        for name, attention, threshold in (
            ("fg", top_down, settings.foreground_threshold),
            ("bg", 1 - top_down, settings.background_threshold),
        ):
            weight = np.where(attention >= threshold, attention, 0)
            if weight.sum() > 0:
                kept[name][b] = weight @ f / weight.sum()
        if b in kept["bg"]:
            scale = weight.sum() if settings.running_background == "sum" else 1
            peak = settings.running_background == "peak"
            used.append(f[(1 - top_down).argmax()] if peak else scale * kept["bg"][b])

    def cosine(x, y):
        return x @ y / np.sqrt((x @ x + 1e-12) * (y @ y + 1e-12))

    w = {b: [0.0, 0.0, 0.0] for b in rows}
    if settings.classification == "discriminative":
        for column, name, partner in ((0, "fg", pairing[0]), (1, "bg", pairing[1])):
            for b, x in kept[name].items():
                w[b][column] = 1 - cosine(x, kept[name][int(partner[b])])
        listed = list(kept["fg"])
        crossed = [(int(a), int(b)) for a, b in zip(*pairing[2:], strict=True)]
        if settings.pairs == "different":  # every foreground with another video's background
            crossed = [(a, b) for a, b in crossed if a in kept["fg"]]
            others = {a: kept["bg"].keys() - {a} for a in kept["fg"]}
            assert [a for a, _ in crossed] == listed
            assert all(b in others[a] or not others[a] for a, b in crossed)
            crossed = [(a, b) for a, b in crossed if others[a]]
        else:
            crossed = crossed[: min(len(kept["fg"]), len(kept["bg"]))]
        for mine, other in crossed:
            at = mine if settings.separation_row == "video" else rows[listed.index(mine)]
            w[at][2] = max(0.0, cosine(kept["fg"][mine], kept["bg"][other]))
    beta = 0 if settings.classification == "cross_entropy" else settings.focusing
    entries = []
    for b, p in zip(rows, pooled, strict=True):
        for c in range(classes):
            if labels[b, c]:
                e = -((1 - p[c] + w[b][2] + settings.gamma * w[b][0]) ** beta) * np.log(p[c])
                e *= classes if settings.reweight_positives else 1
            else:
                e = -((p[c] + w[b][2] + settings.gamma * w[b][1]) ** beta) * np.log(1 - p[c])
            entries.append(e)
    total = sum(entries) / max(1, len(rows))
    total = total / classes if settings.reduction == "mean" else total

    r = case["background"]
    r = 0.9 * r + 0.1 * np.mean(used, axis=0) if used else r

    at_videos = settings.denoising_video
    at_videos = settings.denoising if at_videos == "same" else at_videos

    def condition(joint, kind, discard=0.0):
        values = np.linalg.svd(joint, compute_uv=False)
        if kind == "dmi":
            return -np.log(values).sum()
        values = values[values > discard]
        return np.log(values[0] / values[-1]) if len(values) else 0.0

    def distance(estimate, target, kind):
        if kind == "l1":
            return np.abs(estimate - target).mean()
        estimate = np.clip(estimate, 1e-3, 1 - 1e-3)
        return -(target * np.log(estimate) + (1 - target) * np.log(1 - estimate)).mean()

    plain = settings.denoising in ("l1", "bce")
    snippet = []
    for b in rows:
        t, f = cas[b, : lengths[b]], features[b, : lengths[b]]
        norms = np.maximum(np.linalg.norm(f, axis=1), 1e-8) * max(np.linalg.norm(r), 1e-8)
        bottom_up = (1 - f @ r / norms) / 2
        fg = bottom_up > settings.bottom_up_foreground
        bg = bottom_up < settings.bottom_up_background
        largest = t.max(axis=1)
        if plain and (fg | bg).any():
            target = fg[fg | bg].astype(float)
            snippet.append(distance(largest[fg | bg], target, settings.denoising))
        if plain or settings.denoising == "none" or not fg.any() or not bg.any():
            continue
        if settings.snippet_joint == "class_conditional":
            own = t[:, labels[b] > 0].max(axis=1)
            values = [own[fg].mean(), largest[bg].mean()]
            joint = np.array([[v, 1 - v] for v in values])
        else:
            joint = np.array([[largest[s].sum(), (1 - largest[s]).sum()] for s in (fg, bg)])
            joint /= (fg | bg).sum()
        snippet.append(condition(np.maximum(joint, 1e-10), settings.denoising))
    if not rows or at_videos == "none":
        video = 0.0
    elif at_videos in ("l1", "bce"):
        each = zip(rows, pooled, strict=True)
        video = np.mean([distance(p, labels[b], at_videos) for b, p in each])
    else:
        p, y = np.array(pooled), labels[rows]
        if settings.video_joint == "filtered":
            p = np.where(p > 0.2 * p.max(axis=1, keepdims=True), p, 0)
            p /= p.sum(axis=1, keepdims=True)
            joint = y.T @ p / np.maximum(1, y.sum(axis=0))[:, None]
        else:
            joint = y.T @ p / len(rows)
        video = condition(joint, at_videos, 1e-5)
    snippet = sum(snippet) / max(1, len(snippet))
    return {"discriminative": total, "snippet_denoising": snippet, "video_denoising": video}, r


VARIANTS = [
    {},
    {"separation_row": "video"},
    {"pairs": "different", "separation_row": "video"},
    {"classification": "focal"},
    {"classification": "cross_entropy"},
    {"reduction": "sum", "reweight_positives": False, "focusing": 1.5},
    {"running_background": "mean"},
    {"running_background": "sum"},
    {"snippet_joint": "joint", "video_joint": "joint"},
    {"denoising": "l1"},
    {"denoising": "bce"},
    {"denoising": "l1", "denoising_video": "pdmi"},
    {"denoising": "none", "denoising_video": "bce"},
    {"denoising": "pdmi", "denoising_video": "none"},
    {"background_threshold": 0.8, "bottom_up_background": 0.3, "topk_divisor": 4},
]


def loss_case(seed: int, videos: int = 9, time: int = 23) -> tuple[dict, Batch, dict]:
    """Draw random T-CAMs with foreground and background, some of short or unlabeled videos."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, time + 1, videos)
    labels = (rng.random((videos, C)) < 0.4).astype(float)
    level = rng.random((videos, 1, 1))
    cas = 1 / (1 + np.exp(-2 * rng.normal(size=(videos, time, C)) + 6 * level - 2))
    directions = rng.normal(size=(2, WIDTH))
    share = rng.random((videos, time, 1))
    features = share * directions[0] + (1 - share) * directions[1]
    features = features + 0.3 * rng.normal(size=features.shape)
    case = {
        "cas": cas,
        "embeddings": features,
        "labels": labels,
        "lengths": lengths,
        "background": directions[0] - 0.3 * directions[1],
    }  # fmt: skip
    mask = jnp.asarray(np.arange(time) < lengths[:, None])
    batch = Batch(jnp.asarray(case["embeddings"]), mask, jnp.asarray(labels))
    return case, batch, {"running": {"background": jnp.asarray(case["background"])}}


def settings_of(variant: dict):
    config = d2net_thumos.get_config()
    config.loss.update(denoising_start=0, denoising_every=1, **variant)
    d2net.validate_config(config)
    return config


@pytest.fixture
def float64():
    """Enable double precision, because a condition number magnifies rounding errors."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_loss_terms_equal_the_loops(variant, float64):
    config = settings_of(variant)
    key = jax.random.key(5)

    @jax.jit
    def ours(outputs, batch, state):
        """Compute the terms and, from the same key, the pairs."""
        attention, mask = outputs["cas"].max(-1), batch.mask
        valid = (mask.sum(-1) >= 5) & batch.labels.any(-1)
        has = [
            (mask & valid[:, None] & (value >= threshold)).any(-1)
            for value, threshold in (
                (attention, config.loss.foreground_threshold),
                (1 - attention, config.loss.background_threshold),
            )
        ]
        pairing = discriminative_loss.draw_pairing(key, *has, config.loss.pairs)
        given = context(state, key=key)
        return d2net.loss_terms(outputs, batch, given, config), pairing

    for seed in range(12):
        case, batch, state = loss_case(seed)
        outputs = {name: jnp.asarray(case[name]) for name in ("cas", "embeddings")}
        (terms, state), pairing = ours(outputs, batch, state)
        wanted, background = loop_terms(case, config.loss, pairing)
        for name, value in wanted.items():
            np.testing.assert_allclose(terms[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(state["running"]["background"], background, atol=1e-12)


def test_the_random_cases_include_every_special_case():
    """Videos that are short, unlabeled, without foreground or without background occur above."""
    seen = dict.fromkeys(("short", "unlabeled", "no foreground", "no background"), 0)
    for seed in range(12):
        case, batch, _ = loss_case(seed)
        seen["short"] += (case["lengths"] < 5).sum()
        seen["unlabeled"] += (~case["labels"].any(axis=1)).sum()
        largest = np.where(batch.mask, case["cas"].max(axis=2), np.nan)
        long = case["lengths"] >= 5
        seen["no foreground"] += (np.nanmax(largest[long], axis=1) < 0.5).sum()
        seen["no background"] += (np.nanmin(largest[long], axis=1) > 0.5).sum()
    assert min(seen.values()) > 3, seen


def test_the_original_dmi_is_an_option():
    config = settings_of({"denoising": "dmi"})
    case, batch, state = loss_case(1)
    labels = jnp.asarray(np.eye(C, dtype=np.float32)[np.arange(9) % C])
    batch = batch._replace(labels=labels, mask=batch.mask | True)
    case.update(labels=np.float64(labels), lengths=np.full(9, batch.mask.shape[1]))
    outputs = {name: jnp.asarray(case[name]) for name in ("cas", "embeddings")}
    given = context(state)
    terms, _ = d2net.loss_terms(outputs, batch, given, config)
    config.loss.classification = "focal"  # no pairs are needed here
    wanted, _ = loop_terms(case, config.loss, None)
    for name in ("snippet_denoising", "video_denoising"):
        np.testing.assert_allclose(terms[name], wanted[name], rtol=1e-4, err_msg=name)


def test_denoising_starts_at_its_step_and_acts_in_every_nth():
    config = settings_of({})
    config.loss.update(denoising_start=3, denoising_every=2)
    case, batch, state = loss_case(0)
    outputs = {name: jnp.asarray(case[name]) for name in ("cas", "embeddings")}
    traces = []

    @jax.jit
    def terms(step):
        traces.append(step)
        given = context(state, step=step)
        return d2net.loss_terms(outputs, batch, given, config)[0]

    active = [bool(terms(jnp.int32(step))["video_denoising"] > 0) for step in range(8)]
    assert active == [False] * 4 + [True, False, True, False]
    assert len(traces) == 1
    assert d2net_thumos.get_config().loss.denoising_start == 1002  # index > 1000 and even


def flat_videos(lengths, value: float = 1.0) -> tuple[Video, ...]:
    """Make videos whose first feature is the snippet's index + 1, the second the video's."""
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 9.0, np.array([i % 2]), empty, empty[:, 0], empty,
              np.stack([np.arange(1, length + 1), np.full(length, i + 1)], axis=1)
              .astype(np.float32) * value)
        for i, length in enumerate(lengths)
    )  # fmt: skip


def test_batches_are_crops_and_padded_videos():
    """Videos are uniform with replacement; the last possible start of a crop never occurs."""
    config = d2net_thumos.get_config()
    config.data.update(num_snippets=6, min_snippets=3)
    config.train.batch_size = 5
    videos = flat_videos([4, 6, 10, 2])
    data = pack(videos, 2)
    keys = jax.random.split(jax.random.key(0), 2000)
    batch = jax.vmap(lambda key: drawn(d2net.METHOD, data, config, key=key))(keys)
    video = np.asarray(batch.features[..., 0, 1]).ravel() - 1
    counts = np.bincount(video.astype(int), minlength=4) / video.size
    np.testing.assert_allclose(counts, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.02)
    snippets = np.asarray(batch.features[..., 0]).reshape(-1, 6) - 1
    mask = np.asarray(batch.mask).reshape(-1, 6)
    assert (np.diff(snippets, axis=1)[mask[:, 1:]] == 1).all()
    np.testing.assert_array_equal(mask.sum(axis=1), np.array([4, 6, 6])[video.astype(int)])
    assert (snippets[~mask] == -1).all()
    starts = snippets[video == 2, 0].astype(int)
    np.testing.assert_allclose(np.bincount(starts) / len(starts), [1 / 4] * 4, atol=0.03)
    labels = np.asarray(batch.labels).reshape(-1, 2)
    np.testing.assert_array_equal(labels.argmax(axis=1), video % 2)


def test_snippets_of_zeros_count_as_padding():
    config = d2net_thumos.get_config()
    config.data.num_snippets = 4
    (video,) = flat_videos([4])
    video.features[2] = 0
    batch = drawn(d2net.METHOD, pack((video,), 2), config)
    assert (np.asarray(batch.mask) == [True, True, False, True]).all()


def test_data_sets_without_a_video_that_has_a_loss_are_rejected():
    config = d2net_demo.get_config()

    def dataset(*videos):
        return Dataset("Tiny", ("Dive", "Jump"), videos, ())

    d2net.validate_dataset(dataset(*flat_videos([2, 5])), config)
    for videos in (flat_videos([4, 4]), flat_videos([9, 9], 0.0)):
        with pytest.raises(JaxtalError, match="Tiny: no training video has both a label and 5"):
            d2net.validate_dataset(dataset(*videos), config)


def test_the_state_is_updated_and_has_no_gradient():
    config = d2net_demo.get_config()
    config.data.num_snippets, config.train.batch_size = 8, 6
    config.loss.denoising_start, config.loss.denoising_every = 1, 1
    rng = np.random.default_rng(0)
    videos = flat_videos([9, 12, 20])
    for video in videos:
        video.features[:] = rng.random(video.features.shape)
    data, hyper = pack(videos, 2), hyperparams_from_config(config)
    model = d2net.METHOD.build(config.model, 2)
    state = init_state(model, hyper, 2)
    assert set(state.model_state) == {"running"}
    step = jax.jit(lambda s: train_step(s, hyper, data, model=model, method=d2net.METHOD,
                                        config=config))  # fmt: skip
    after, metrics = step(state)
    assert metrics["video_denoising"] == 0
    _, metrics = step(after)
    assert metrics["video_denoising"] > 0
    background = after.model_state["running"]["background"]
    assert np.any(background)
    moments = jax.tree.structure(after.opt_state[1].mu)
    assert moments == jax.tree.structure(after.params)
    # An update that is not finite changes nothing, the background included.
    params = jax.tree.map(lambda p: p * jnp.nan, after.params)
    broken, _ = step(after._replace(params=params))
    np.testing.assert_array_equal(broken.model_state["running"]["background"], background)
    assert broken.skipped == 1
    assert step._cache_size() == 1


def test_presets():
    """Compare both presets with docs/methods/d2net.md, differences from the paper."""
    code, paper = (d2net_thumos.get_config(preset) for preset in ("code", "paper"))
    assert (code.train.batch_size, paper.train.batch_size) == (20, 10)
    assert (code.optimizer.weight_decay, paper.optimizer.weight_decay) == (5e-4, 5e-3)
    assert (code.localization.nms_threshold, paper.localization.nms_threshold) == (0.3, 0.5)
    thresholds = np.linspace(*code.localization.thresholds)
    np.testing.assert_allclose(thresholds, np.arange(1, 20) / 40)
    np.testing.assert_allclose(np.linspace(*paper.localization.thresholds), np.arange(1, 21) / 40)
    for config in (code, paper):
        d2net.validate_config(config)
        assert config.to_dict().keys() == code.to_dict().keys()
    anet = d2net_anet12.get_config()
    d2net.validate_config(anet)
    assert anet.loss.topk_divisor == anet.localization.topk_divisor == 4
    assert anet.loss.weights.snippet_denoising == 1e-3
    assert d2net_anet12.get_config("paper").loss.background_threshold == 0.5


REJECTED = {
    ("model.padding", "none"): r"'none'; it must be one of masked, published",
    ("model.kernel_size", 4): r"4; it must be odd",
    ("model.classifier_kernel_size", 0): r"0; it must be at least 1",
    ("model.dilation", 0): r"0; it must be at least 1",
    ("model.dropout", 1.0): r"1\.0; it must be below 1",
    ("loss.classification", "bce"): r"must be one of discriminative, focal, cross_entropy",
    ("loss.denoising_video", "mi"): r"'mi'; it must be one of same, pdmi, dmi, l1, bce, none",
    ("localization.topk_rounding", "nearest"): r"must be one of down, up",
    ("loss.denoising", "mi"): r"'mi'; it must be one of pdmi, dmi, l1, bce, none",
    ("loss.denoising_every", 0): r"0; it must be at least 1",
    ("loss.bottom_up_background", 0.6): r"above config\.loss\.bottom_up_foreground=0\.5",
    ("loss.gradient_cap", math.inf): r"inf; it must be at least 0",
    ("localization.nms", "medium"): r"'medium'; it must be one of gaussian, linear, hard, none",
    ("localization.class_rule", "all"): r"must be one of above, more_than, share_of_best, top_two",
    ("localization.class_scores", "all"): r"must be one of refined, cas",
    ("localization.relative_to", "me"): r"must be one of class, video",
    ("localization.outer", "both"): r"must be one of joint, sides, symmetric, padded",
    ("localization.min_length", 0): r"0; it must be at least 1",
}


@pytest.mark.parametrize(("field", "value"), REJECTED)
def test_invalid_values_are_rejected(field, value):
    config = d2net_thumos.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(JaxtalError, match=rf"^config\.{field} .*{REJECTED[field, value]}"):
        d2net.validate_config(config)
