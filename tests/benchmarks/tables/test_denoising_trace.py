"""The trace of D2-Net's denoising losses: gradients, joint matrices and what is read from them."""

import jax
import numpy as np
import pytest

from benchmarks.tables import condition_number, denoising_trace
from benchmarks.tables import rows as table_rows
from benchmarks.workloads import Trainer
from jaxtal.data.layouts import load_from_config
from jaxtal.input_pipeline.packing import pack


@pytest.fixture(scope="module")
def config():
    given = {
        "data.generator": "demo num_train=12 num_test=2",
        "data.num_snippets": 20,
        "train.steps": 6,
        "model.dropout": 0.0,
    }
    setting = table_rows.setting_of("demo", "config", given, "paper")
    return denoising_trace.config_of(setting, 2)


@pytest.fixture(scope="module")
def seen(config):
    return denoising_trace.trace(config, every=3)


def test_the_trace_has_the_losses_and_gradients_of_the_training(config, seen):
    """The gradients of the terms add up to the gradient of the training step at most."""
    dataset = load_from_config(config.data)
    trainer = Trainer(config, pack(dataset.train, len(dataset.classes)))
    metrics = [jax.tree.map(np.asarray, trainer()) for _ in range(6)]
    assert seen["step"].tolist() == [0, 3]
    for at, step in enumerate(seen["step"]):
        parts = [seen[f"{name} gradient"][at] for name in denoising_trace._TERMS]
        norm = metrics[step]["gradient_norm"]
        assert (norm <= sum(parts) * 1.001).all()
        assert (norm >= (2 * max(parts, key=np.max) - sum(parts)) * 0.999).all()
        for name in denoising_trace._TERMS:
            np.testing.assert_allclose(seen[name][at], metrics[step][name], rtol=2e-2, atol=1e-4)
    assert seen["snippet matrices"].shape == (2, 2, 10, 2, 2)
    assert seen["video matrix"].shape[:2] == (2, 2)


def test_agreement_and_singular_values_by_hand():
    """Two videos that follow their pseudo-labels and one that does not; three of four classes."""
    right = np.array([[0.4, 0.1], [0.1, 0.4]])
    snippets = np.array([right, right, right[::-1], right])
    videos = np.array([
        [0.8, 0.1, 0.1, 0.0],
        [0.1, 0.1, 0.9, 0.0],
        [0.1, 0.2, 0.1, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ])  # fmt: skip
    made = {
        "snippet matrices": snippets[None, None],
        "counted": np.array([True, True, True, False])[None, None],
        "video matrix": videos[None, None],
    }
    found = denoising_trace.agreement(made)
    assert found["snippets"] == pytest.approx(2 / 3)
    assert found["videos"] == pytest.approx(1 / 3)  # class 0; 1 and 2 are exchanged
    values = denoising_trace.singular_values(made)
    assert values["snippets, largest"] == pytest.approx(0.5)
    assert values["snippets, smallest"] == pytest.approx(0.3)
    wanted = np.linalg.svd(videos[:3, :3], compute_uv=False)
    assert values["videos, smallest"] == pytest.approx(wanted[-1])


def test_the_figure_and_the_rows(seen):
    figure = denoising_trace.draw({"paper": seen, "code": seen})
    assert len(figure.axes) == 8
    row = denoising_trace.summary("paper", seen)
    assert row["traced_steps"] == 2
    first, second = row["gradient of L_DV over that of L_Dis"]
    assert first > 1, second


def test_rank_correlation():
    x = np.array([1.0, 2, 3, 4])
    assert condition_number.rank_correlation(x, np.exp(x)) == 1
    assert condition_number.rank_correlation(x, -x) == -1
