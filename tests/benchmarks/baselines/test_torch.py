"""The PyTorch references of the benchmarks agree with the JAX code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import co2net_thumos, d2net_thumos, twostream_thumos
from jaxtal import methods
from jaxtal.input_pipeline.packing import Batch
from jaxtal.nn import discriminative_loss
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state
from tests.helpers.contexts import context

torch = pytest.importorskip("torch")

from benchmarks.baselines.torch import build
from benchmarks.baselines.torch.d2net import Pairing

B, T, C, WIDTH = 10, 24, 5, 16
CONFIGS = {"co2net": co2net_thumos, "d2net": d2net_thumos, "twostream": twostream_thumos}
STEP = 1002  # D2-Net denoises, the two-stream network's warm-up is over

each = pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name in CONFIGS for form in ("conv1d", "unfold")]
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Features [B, T, 2D] and labels [B, C]; two neighboring videos share a class."""
    rng = np.random.default_rng(0)
    labels = np.eye(C, dtype=np.float32)[np.arange(B) // 2]
    labels[[0, 3], [2, 4]] = 1
    # Features of different scales: with D2-Net some videos have foreground and some do not.
    features = rng.normal(0, np.linspace(0.2, 1.5, B)[:, None, None], (B, T, WIDTH))
    return features.astype(np.float32), labels


def parameters(state) -> dict:
    """Parameters of `state` plus noise, so that no term is degenerate and no bias zero."""
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.2, leaf.shape).astype(np.float32),
        state.params,
    )
    for stream in ("rgb", "flow"):  # D2-Net's: activations on both sides of its thresholds
        if stream in params:
            params[stream]["cls"]["bias"] -= 1
    return params


def jax_side(name: str):
    """Parameters, loss terms, gradients and random choices of the JAX code without dropout."""
    config, method = CONFIGS[name].get_config(), methods.get(name)
    model, hyper = method.build(config.model, C), hyperparams_from_config(config)
    state = init_state(model, hyper, WIDTH)
    features, labels = map(jnp.asarray, data())
    batch = Batch(features, jnp.ones((B, T), bool), labels)
    where = context(state.model_state, step=STEP)

    def total(params):
        outputs = model.apply({"params": params, **state.model_state}, features, batch.mask)
        terms, _ = method.loss_terms(outputs, batch, where, config)
        return sum(hyper.loss_weights[key] * term for key, term in terms.items()), (terms, outputs)

    params = parameters(state)
    (_, (terms, outputs)), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    choices = {"pairing": pairing(where.key, outputs)} if name == "d2net" else {}
    return params, terms, gradients, choices


def pairing(key, outputs: dict) -> Pairing:
    """The pairing that D2-Net's losses draw from `key`."""
    mask, attention = jnp.ones((B, T), bool), outputs["cas"].max(-1)
    embeddings = outputs["embeddings"]
    exists = [
        discriminative_loss.attended_embeddings(embeddings, a, 0.5, mask).exists
        for a in (attention, 1 - attention)
    ]
    drawn = discriminative_loss.draw_pairing(key, *exists)
    return Pairing(*(torch.as_tensor(np.array(rows)).long() for rows in drawn))


def reference(name: str, form: str):
    return build(name, CONFIGS[name].get_config(), C, WIDTH, form)


def tensors() -> list:
    return [torch.from_numpy(x) for x in data()]


@each
def test_terms_and_gradients(name, form):
    params, terms, gradients, choices = jax_side(name)
    torch_side = reference(name, form)
    torch_side.load(params)

    got = torch_side.losses(*tensors(), **choices)
    assert got.keys() == terms.keys()
    assert all(float(term) != 0 for term in terms.values())
    for key, term in terms.items():
        assert got[key].item() == pytest.approx(float(term), rel=1e-4), key

    assert_near(torch_side.gradients(*tensors(), **choices), gradients)


def assert_near(got, wanted):
    """Check that each array differs by at most 1e-4 of its norm."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    paths = jax.tree_util.tree_leaves_with_path(wanted)
    for (path, leaf), other in zip(paths, jax.tree.leaves(got), strict=True):
        assert other.shape == leaf.shape, path
        error, norm = np.linalg.norm(other - leaf), np.linalg.norm(leaf)
        assert norm > 0, path
        assert error <= 1e-4 * norm, (path, error / norm)


@each
def test_step_moves_every_parameter(name, form):
    subject = reference(name, form)
    params = parameters(init_state(*model_and_hyper(name), WIDTH))
    subject.load(params)
    before = [p.detach().clone() for p in subject.network.parameters()]
    losses = [subject.step(*tensors()).item() for _ in range(2)]
    assert np.isfinite(losses).all()
    after = list(subject.network.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def model_and_hyper(name: str):
    config = CONFIGS[name].get_config()
    return methods.get(name).build(config.model, C), hyperparams_from_config(config)


@pytest.mark.slow
@each
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_gradients_are_the_same(name, form):
    params, _, _, choices = jax_side(name)
    plain = reference(name, form)
    plain.load(params)
    compiled = plain.compiled()
    wanted, got = (side.gradients(*tensors(), **choices) for side in (plain, compiled))
    assert_near(got, wanted)
    assert np.isfinite(compiled.step(*tensors(), **choices).item())


def test_decay_is_in_the_gradient():
    """Without a gradient of the loss the first Adam step is the learning rate, toward zero."""
    config = co2net_thumos.get_config()
    config.loss.weights.update(dict.fromkeys(config.loss.weights, 0.0))
    subject = build("co2net", config, C, WIDTH, "conv1d")
    before = subject.network.fusion.weight.detach().clone()
    subject.step(*tensors())
    moved = subject.network.fusion.weight.detach() - before
    wanted = -config.optimizer.learning_rate * before.sign()
    torch.testing.assert_close(moved, wanted, rtol=0.02, atol=0)


def test_running_background_moves_in_training_only():
    subject = reference("d2net", "conv1d")
    subject.losses(*tensors())
    assert not subject.network.background.any()
    subject.step(*tensors())
    assert subject.network.background.any()


def test_repeated_singular_values_have_a_bounded_gradient():
    from benchmarks.baselines.torch.d2net import pdmi

    matrix = torch.zeros(3, 4, 4, requires_grad=True)
    pdmi(matrix, 0.0, 1e3).sum().backward()
    assert matrix.grad.isfinite().all()
    assert matrix.grad.abs().max() <= 2e3


def test_bad_arguments():
    config = co2net_thumos.get_config()
    with pytest.raises(ValueError, match="wanted one of co2net"):
        build("co3net", config, C, WIDTH, "conv1d")
    with pytest.raises(ValueError, match="in one of conv1d, unfold"):
        build("co2net", config, C, WIDTH, "fft")
    config.model.pool_window = 13
    with pytest.raises(ValueError, match=r"config\.model\.pool_window is 13; .* has 1 only"):
        build("co2net", config, C, WIDTH, "conv1d")
