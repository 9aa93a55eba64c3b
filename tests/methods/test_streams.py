"""Networks for one stream and for two streams of different width, against NumPy oracles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from configs import co2net_thumos, d2net_thumos, hybrid_thumos, twostream_thumos
from jaxtal import methods
from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline.packing import Batch
from jaxtal.methods import co2net
from jaxtal.methods.base import STREAM_ATTENTIONS
from jaxtal.training.train_state import hyperparams_from_config
from tests.helpers.contexts import context
from tests.oracles import co2net as oracle

C, LENGTHS = 3, (9, 1, 5, 7)
CONFIGS = {
    "co2net": co2net_thumos, "d2net": d2net_thumos, "twostream": twostream_thumos,
    "hybrid": hybrid_thumos,
}  # fmt: skip
STREAMS = ((7,), (3, 6), (6, 3))
# LLVM's optimizations take longer than these small networks and change no equation.
QUICK = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def config_of(method: str):
    config = CONFIGS[method].get_config()
    config.train.update(batch_size=len(LENGTHS))
    if "pairs" in config.train:
        config.train.pairs = 1
    if "denoising_start" in config.loss:
        config.loss.update(denoising_start=0, denoising_every=1)
    return config


def variables_of(model, width: int) -> dict:
    """Random variables, none of which is 0."""
    start = QUICK(model.init)(jax.random.key(0), jnp.zeros((1, 1, width)), jnp.ones((1, 1), bool))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.2 * rng.normal(size=p.shape).astype(np.float32), start)


def batch_of(width: int) -> Batch:
    rng = np.random.default_rng(2)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    labels = (rng.random((len(LENGTHS), C)) < 0.4).astype(np.float32)
    labels[:, 0] = 1
    features = rng.random((*mask.shape, width)).astype(np.float32) * mask[..., None]
    return Batch(jnp.asarray(features), jnp.asarray(mask), jnp.asarray(labels))


def run(method: str, streams, **fields):
    """Return variables, batch, and outputs of a network with `fields` of its model changed."""
    config = config_of(method)
    model = methods.get(method).build({**config.model, **fields}, C, streams)
    variables, batch = variables_of(model, sum(streams)), batch_of(sum(streams))
    outputs = QUICK(model.apply)(variables, batch.features, batch.mask)
    return variables, batch, {name: np.asarray(value) for name, value in outputs.items()}


@pytest.mark.parametrize("method", CONFIGS)
def test_equal_halves_are_the_default(method):
    """Streams (D, D) are those of (): same parameters bit by bit, same outputs."""
    config = config_of(method)
    build = methods.get(method).build
    ours, wanted = (build(config.model, C, streams) for streams in ((6, 6), ()))
    arguments = jax.random.key(3), jnp.zeros((1, 1, 12)), jnp.ones((1, 1), bool)
    one, other = (QUICK(model.init)(*arguments) for model in (ours, wanted))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    batch = batch_of(12)
    outputs = [jax.jit(m.apply)(one, batch.features, batch.mask) for m in (ours, wanted)]
    jax.tree.map(np.testing.assert_array_equal, *outputs)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ccm_main": "local", "ccm_auxiliary": "global", "ccm_dropout": "paper"},
        {"fusion": "concat", "pool_window": 3},
        {"fusion": "se"},
        {"fusion": "ssma"},
        {"classifier": "paper"},
    ],
    ids=str,
)
@pytest.mark.parametrize("streams", STREAMS[:2], ids=str)
def test_co2net_equals_its_oracle(streams, fields):
    variables, batch, outputs = run("co2net", streams, **fields)
    for video, length in enumerate(LENGTHS):
        x = np.asarray(batch.features[video, :length], np.float64)
        options = {**config_of("co2net").model, **fields}
        wanted = oracle.network(variables["params"], x, widths=streams, **options)
        assert set(wanted) == set(outputs)
        for name, value in wanted.items():
            np.testing.assert_allclose(outputs[name][video, :length], value, atol=2e-5)


def test_co2net_has_one_module_and_one_attention_for_one_stream():
    variables, _, outputs = run("co2net", (7,))
    assert set(variables["params"]) == {"ccm_stream", "fusion", "cls0", "cls1"}
    assert not {"attention_rgb", "attention_flow"} & set(outputs)


@pytest.mark.parametrize("streams", [(8,), (3, 6)], ids=str)
def test_streams_that_cannot_be_added(streams):
    model = {**config_of("co2net").model, "fusion": "add"}
    with pytest.raises(ConfigError, match=r"fusion=add: the streams are .*fusion=concat"):
        co2net.build(model, C, streams)
    co2net.build(model, C, (4, 4))
    co2net.build(model, C)


def test_loss_terms_of_co2net_with_one_stream():
    """L_oppo and L_norm of the one attention by hand; no L_ml; the others as with two streams.

    If both attentions are equal, the terms of two streams are those of one, and L_ml is 0.
    """
    config, method = config_of("co2net"), methods.get("co2net")
    _, batch, outputs = run("co2net", (7,))
    terms, _ = method.loss_terms(outputs, batch, context(), config)
    assert set(terms) == set(config.loss.weights) - {"mutual"}
    opposition, norm = [], []
    for video, length in enumerate(LENGTHS):
        attention = outputs["attention"][video, :length, 0]
        background = special.softmax(outputs["cas"][video, :length], axis=1)[:, -1]
        opposition.append(np.abs(1 - attention - background).mean())
        norm.append(attention.mean())
    np.testing.assert_allclose(terms["opposition"], np.mean(opposition), rtol=1e-5)
    np.testing.assert_allclose(terms["norm"], np.mean(norm), rtol=1e-5)
    twice = dict.fromkeys(STREAM_ATTENTIONS, outputs["attention"])
    doubled, _ = method.loss_terms({**outputs, **twice}, batch, context(), config)
    assert doubled.pop("mutual") == 0
    for name, value in doubled.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6, err_msg=name)


def test_mutual_learning_does_not_vary_with_one_stream():
    config = config_of("co2net")
    config.vary = "loss.weights.mutual=0,1"
    none = np.empty((0, 2))
    videos = tuple(
        Video(name, 1.0, np.array([0]), none, np.empty(0, np.int64), none, np.ones((4, 3)))
        for name in "abc"
    )
    data = Dataset("x", ("a",), videos, videos)
    co2net.validate_dataset(data, config)
    with pytest.raises(ConfigError, match="mutual has no effect with one stream"):
        co2net.validate_dataset(Dataset("x", ("a",), videos, videos, stream_widths=(3,)), config)


def d2net_oracle(variables: dict, x: np.ndarray, streams, config) -> dict[str, np.ndarray]:
    """D2-Net on a video (T, D), from docs/methods/one_stream.md; E is the widest stream."""
    embeddings, probabilities, start = [], [], 0
    for name, width in zip(("stream",) if len(streams) == 1 else ("rgb", "flow"), streams,
                           strict=True):  # fmt: skip
        p, h = variables["params"][name], x[:, start : start + width]
        start += width
        for layer in ("conv0", "conv1"):
            out = dilated(h, p[layer], config.dilation)
            same = out.shape[1] == h.shape[1]
            h = np.where(out > 0, out, 0.2 * out) + (h if config.residual and same else 0)
        assert h.shape[1] == max(streams)
        embeddings.append(h)
        probabilities.append(special.expit(dilated(h, p["cls"], config.dilation)))
    mean = sum(embeddings) / len(streams)
    background = np.asarray(variables["running"]["background"], np.float64)
    cosine = mean @ background / np.linalg.norm(mean, axis=1) / np.linalg.norm(background)
    return {
        "cas": sum(probabilities) / len(streams),
        "embeddings": mean,
        "attention": (1 - cosine[:, None]) / 2,
    }


def dilated(x: np.ndarray, layer: dict, dilation: int) -> np.ndarray:
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    out = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for tap in range(len(kernel)):
            u = t + (tap - len(kernel) // 2) * dilation
            if 0 <= u < len(x):
                out[t] += x[u] @ kernel[tap]
    return out


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_d2net_equals_its_oracle(streams, residual):
    variables, batch, outputs = run("d2net", streams, residual=residual)
    config = config_of("d2net").model
    config.residual = residual
    for video, length in enumerate(LENGTHS):
        x = np.asarray(batch.features[video, :length], np.float64)
        for name, value in d2net_oracle(variables, x, streams, config).items():
            np.testing.assert_allclose(outputs[name][video, :length], value, atol=1e-5)


def test_the_hybrid_s_body_has_the_same_streams():
    variables, batch, outputs = run("hybrid", (7,))
    body = co2net.build(config_of("hybrid").model, C, (7,))
    wanted = QUICK(body.apply)({"params": variables["params"]["body"]}, batch.features, batch.mask)
    for name, value in wanted.items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-6)
    assert variables["params"]["dictionary"].shape == (C + 1, 7)


@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_the_two_stream_network_never_splits_the_columns(streams):
    build, config = methods.get("twostream").build, config_of("twostream")
    assert build(config.model, C, streams) == build(config.model, C)


@pytest.mark.parametrize("streams", [(7,), (3, 6)], ids=str)
@pytest.mark.parametrize("method", CONFIGS)
def test_the_loss_reaches_all_parameters(method, streams):
    config, chosen = config_of(method), methods.get(method)
    model = chosen.build(config.model, C, streams)
    variables, batch = variables_of(model, sum(streams)), batch_of(sum(streams))
    params, weights = variables.pop("params"), hyperparams_from_config(config).loss_weights

    def total(params):
        outputs = model.apply({"params": params, **variables}, batch.features, batch.mask)
        late = context(variables, step=10**6)
        terms, _ = chosen.loss_terms(outputs, batch, late, config)
        return sum(weights[name] * term for name, term in terms.items())

    gradient = QUICK(jax.grad(total))(params)
    reached = jax.tree.map(lambda leaf: bool(np.any(leaf)), gradient)
    assert all(jax.tree.leaves(reached)), reached
