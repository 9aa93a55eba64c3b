"""CO2-Net's network: size, initial values, its readings against plain loops, and its batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import co2net_anet12, co2net_demo
from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import UserError
from jaxtal.layers import Dropout
from jaxtal.methods import co2net
from jaxtal.methods.co2net import CO2Net
from jaxtal.sampling import pack
from tests.contexts import drawn

C, WIDTH = 4, 24
MODEL = CO2Net(C)
PARAMS = MODEL.init(jax.random.key(0), jnp.zeros((1, 2, WIDTH)), jnp.ones((1, 2), bool))


def test_number_of_parameters():
    shape = jax.eval_shape(
        CO2Net(20).init, jax.random.key(0), jnp.zeros((1, 1, 2048)), jnp.ones((1, 1), bool)
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shape))
    # METHODS 2.b counts all three taps of the two global layers; only one acts and is kept here.
    assert count == 34_133_015 - 2 * 2 * 1024 * 1024


def test_initial_values():
    params = CO2Net(20).init(jax.random.key(0), jnp.zeros((1, 1, 256)), jnp.ones((1, 1), bool))[
        "params"
    ]
    bounds = {
        ("cls0", "kernel"): math.sqrt(6 / (3 * 256)),
        ("fusion", "kernel"): math.sqrt(6 / 256),
        ("ccm_rgb", "local", "kernel"): math.sqrt(6 / (3 * 128)),
        ("ccm_flow", "global", "kernel"): math.sqrt(6 / (3 * 128)),
    }
    for path, bound in bounds.items():
        value = params
        for part in path:
            value = value[part]
        assert 0.98 * bound < jnp.abs(value).max() <= bound
        assert abs(value.std() - bound / math.sqrt(3)) < 0.02 * bound
    assert not np.any(params["cls1"]["bias"])


def draw(seed: int, lengths, time: int):
    rng = np.random.default_rng(seed)
    x = rng.random((len(lengths), time, WIDTH)).astype(np.float32)
    return x, np.arange(time) < np.asarray(lengths)[:, None]


def test_dropout_acts_in_training_only():
    x, mask = draw(1, (9,), 9)
    first, second = (
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert (first["cas"] != second["cas"]).any()
    # Dropout on the attention's logit: half of the snippets of a modality get exactly 0.5.
    many = [
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in range(40)
    ]
    half = np.mean([np.asarray(output["attention_rgb"]) == 0.5 for output in many])
    assert half == pytest.approx(0.5, abs=0.1)


def reference(params: dict, x: np.ndarray, model: CO2Net) -> dict[str, np.ndarray]:
    """METHODS 2.b for one video (T, 2D) without dropout, snippet by snippet, in float64."""
    time, width = len(x), x.shape[1] // 2

    def conv(x, layer):
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
        reach = len(kernel) // 2
        out = np.tile(bias, (len(x), 1))
        for t in range(len(x)):
            for tap in range(len(kernel)):
                if 0 <= t + tap - reach < len(x):
                    out[t] += x[t + tap - reach] @ kernel[tap]
        return out

    def lrelu(x):
        return np.where(x > 0, x, 0.2 * x)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def consensus(main, auxiliary, p):
        context = conv(main.mean(axis=0, keepdims=True), p["global"])
        local = conv(auxiliary, p["local"])
        if model.ccm_dropout == "code":
            context, local = lrelu(context), lrelu(local)
        enhanced = sigmoid(local * context) * main
        hidden = lrelu(conv(enhanced, p["attention"]["att0"]))
        hidden = lrelu(conv(hidden, p["attention"]["att1"]))
        return sigmoid(conv(hidden, p["attention"]["att2"])), enhanced

    def pool(x):
        reach = model.pool_window // 2
        return np.stack(
            [x[max(0, t - reach) : t + reach + 1].sum(axis=0) for t in range(time)]
        ) / model.pool_window  # fmt: skip

    attention_rgb, rgb = consensus(x[:, :width], x[:, width:], params["ccm_rgb"])
    attention_flow, flow = consensus(x[:, width:], x[:, :width], params["ccm_flow"])
    enhanced = np.concatenate([rgb, flow], axis=1)
    if model.classifier == "code":
        embeddings = lrelu(conv(enhanced, params["fusion"]))
        cas = conv(lrelu(conv(embeddings, params["cls0"])), params["cls1"])
    else:
        embeddings = enhanced
        cas = conv(
            lrelu(conv(lrelu(conv(enhanced, params["cls0"])), params["cls1"])), params["cls2"]
        )
    return {
        "cas": pool(cas),
        "attention": pool((attention_rgb + attention_flow) / 2),
        "attention_rgb": pool(attention_rgb),
        "attention_flow": pool(attention_flow),
        "embeddings": embeddings,  # not pooled: L_cas uses them as they are
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pool_window": 13},
        {"classifier": "paper"},
        {"ccm_dropout": "paper"},
        {
            "attention_unit": "paper",
            "classifier": "paper",
            "ccm_dropout": "paper",
            "pool_window": 5,
        },
    ],
    ids=str,
)
def test_the_network_equals_the_loops(fields):
    model = CO2Net(C, **fields)
    x, mask = draw(2, (9, 4, 1), 9)
    params = model.init(jax.random.key(3), x, mask)["params"]
    params = jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params
    )
    outputs = jax.jit(model.apply)({"params": params}, x, mask)
    for row, length in enumerate((9, 4, 1)):
        wanted = reference(params, np.float64(x[row, :length]), model)
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            got = outputs[name][row, :length]
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5, err_msg=name)


DROPOUTS = {
    # Field: where it acts, and (zeros behind it, channels) of every dropout there (METHODS 2.b).
    "attention_unit": (
        "ccm_rgb/attention",
        {"code": [(0.5, WIDTH // 4), (0.5, 1)], "paper": [(0.7, WIDTH // 4), (0.7, WIDTH // 4)]},
    ),
    "ccm_dropout": (
        "ccm_flow",
        {"code": [(0.5, WIDTH // 2), (0.5, WIDTH // 2)], "paper": []},
    ),
    "classifier": (
        "",
        {"code": [(0.7, WIDTH), (0.91, WIDTH), (0.7, WIDTH)], "paper": [(0.7, WIDTH)] * 2},
    ),
}


@pytest.mark.parametrize(
    ("field", "reading"), [(f, r) for f in DROPOUTS for r in ("code", "paper")]
)
def test_dropout_is_where_the_reading_has_it(field, reading):
    x, mask = draw(4, [60] * 8, 60)
    model = CO2Net(C, **{field: reading})
    variables = model.init(jax.random.key(0), x, mask)
    _, seen = model.apply(
        variables, x, mask, train=True, rngs={"dropout": jax.random.key(1)},
        capture_intermediates=lambda module, _: isinstance(module, Dropout),
        mutable="intermediates",
    )  # fmt: skip
    place, wanted = DROPOUTS[field]
    node = seen["intermediates"]
    for part in place.split("/") if place else ():
        node = node.get(part, {})
    found = [node[name]["__call__"][0] for name in sorted(node) if name.startswith("Dropout")]
    assert [x.shape[-1] for x in found] == [channels for _, channels in wanted[reading]]
    for value, (zeros, _) in zip(found, wanted[reading], strict=True):
        if value.shape[1] > 1:  # the global context has too few entries to count
            assert np.mean(np.asarray(value) == 0) == pytest.approx(zeros, abs=0.05)


def flat_videos(lengths, labels) -> tuple[Video, ...]:
    """Videos whose features say which one it is, from 1; 0 for the last."""
    empty = np.empty((0, 2))
    values = [*range(1, len(lengths)), 0]
    return tuple(
        Video(f"v{i}", 9.0, np.array([label]), empty, empty[:, 0], empty,
              np.full((length, 2), value, np.float32))
        for i, (length, label, value) in enumerate(zip(lengths, labels, values, strict=True))
    )  # fmt: skip


def test_short_videos_train_in_pairs_only_and_videos_of_zeros_in_no_pair():
    config = co2net_anet12.get_config()
    config.data.num_snippets = 3
    data = pack(flat_videos([11, 10, 30, 2, 40], [0, 0, 1, 1, 1]), 2)
    keys = jax.random.split(jax.random.key(0), 300)
    batch = jax.vmap(lambda key: drawn(co2net.METHOD, data, config, key=key))(keys)
    video = np.asarray(batch.features[:, :, 0, 0])
    assert set(video[:, :6].ravel()) == {1, 2, 3, 4}
    assert set(video[:, 6:].ravel()) == {0, 1, 3}


def test_what_cannot_be_composed_is_said():
    config = co2net_demo.get_config()
    dataset = Dataset("Tiny", ("Dive", "Jump"), flat_videos([4, 4, 4], [0, 1, 1]), ())
    with pytest.raises(UserError, match="Tiny: no class is carried by two training videos"):
        co2net.check_data(dataset, config)  # the second video of Jump is all zeros
    config.train.pairs = 0
    co2net.check_data(dataset, config)


def test_the_numbers_of_activitynet():
    """METHODS 2.a to 2.d."""
    config = co2net_anet12.get_config()
    assert (config.data.num_snippets, config.data.min_snippets, config.train.steps) == (
        60,
        11,
        22000,
    )
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (3e-5, 5e-4)
    assert config.loss.topk_divisor == 5
    wanted = 2 * (config.data.num_snippets // config.loss.topk_divisor // 2) + 1
    assert config.model.pool_window == wanted == 13
