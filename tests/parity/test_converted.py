"""Weights under their published names, converted, give the published programs' outputs."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import co2net_anet12, co2net_thumos, d2net_anet12, d2net_thumos
from jaxtal import methods
from jaxtal.checkpoint_conversion import convert, parameter_names, torch_writer
from tests.parity import compare, recipe

# Names of layers: the golden values' to the published programs'.
CCM = {
    "local": "bit_wise_attn.0",
    "global": "channel_conv.0",
    "att0": "attention.0",
    "att1": "attention.3",
    "att2": "attention.5",
}
CO2 = {
    **{f"ccm_rgb.{ours}": f"vAttn.{theirs}" for ours, theirs in CCM.items()},
    **{f"ccm_flow.{ours}": f"fAttn.{theirs}" for ours, theirs in CCM.items()},
    "fusion": "fusion.0",
    "cls0": "classifier.1",
    "cls1": "classifier.4",
}
D2 = {"conv0": "conv", "conv1": "conv1", "cls": "classifier"}


def published(weights: dict[str, np.ndarray], names: dict[str, str]) -> dict[str, np.ndarray]:
    kinds = {"w": "weight", "b": "bias"}
    return {
        f"{names[layer]}.{kinds[kind]}": value
        for (layer, kind), value in ((key.rsplit(".", 1), value) for key, value in weights.items())
    }


def co2(gold: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the published state dict and the input."""
    shape = (int(gold[f"cfg_{name}"]) for name in "BTC")
    weights, x = recipe.co2(int(gold["cfg_seed"]), *shape)
    return published(weights, CO2), x


def d2(gold: dict, config) -> tuple[dict[str, np.ndarray], np.ndarray]:
    taps = config.model.kernel_size, config.model.classifier_kernel_size
    weights, background, x = recipe.d2(gold, recipe.d2_layers(int(gold["cfg_C"]), *taps))
    return {**published(weights, D2), "running_bg": background[None]}, x


def outputs(method: str, config, variables: dict, x: np.ndarray, mask: np.ndarray) -> dict:
    classes = variables["params"]
    classes = (classes["cls1"] if method == "co2net" else classes["rgb"]["cls"])["bias"].shape[-1]
    model = methods.get(method).build(config.model, classes - (method == "co2net"))
    return jax.jit(model.apply)(variables, jnp.asarray(x), jnp.asarray(mask))


def check_co2(gold: dict, config, variables: dict, x: np.ndarray) -> None:
    ours = outputs("co2net", config, variables, x, np.ones(x.shape[:2], bool))
    names = {"att": "attention", "att_rgb": "attention_rgb", "att_flow": "attention_flow"}
    for theirs, name in names.items():
        np.testing.assert_allclose(ours[name][..., 0], gold[theirs], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours["cas"], gold["tcam"], rtol=1e-4, atol=1e-5)
    compare.features(gold, ours["embeddings"])


def check_d2(gold: dict, config, variables: dict, x: np.ndarray) -> None:
    """Compare with a mask of ones: the golden outputs are of training, without masking."""
    np.testing.assert_array_equal(variables["running"]["background"], gold["running_bg_before"])
    ours = outputs("d2net", config, variables, x, np.ones(x.shape[:2], bool))
    np.testing.assert_allclose(ours["cas"], gold["tcam"], rtol=1e-4, atol=1e-5)
    compare.features(gold, ours["embeddings"])


def test_co2net_through_a_work_directory(golden, tmp_path):
    gold, config = golden("co2_thumos"), co2net_thumos.get_config()
    state, x = co2(gold)
    torch_writer.save(tmp_path / "a.pkl", state)
    converted = convert.from_torch("co2net", tmp_path / "a.pkl", tmp_path / "run", config)
    # The published count includes the outer taps of the two global layers.
    assert converted.parameters == 34_133_015 - 2 * 2 * 1024 * 1024
    assert converted.widths == (1024, 20, ())
    check_co2(gold, config, only_member(tmp_path / "run"), x)


def only_member(workdir) -> dict:
    return jax.tree.map(lambda leaf: leaf[0], convert.saved_variables(workdir))


def save_with_pytorch(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write with PyTorch where it is installed, otherwise with our writer of its format."""
    if importlib.util.find_spec("torch") is None:
        torch_writer.save(path, state)
    else:
        import torch

        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)


def test_d2net_through_a_work_directory(golden, tmp_path):
    gold, config = golden("d2_anet"), d2net_anet12.get_config()
    state, x = d2(gold, config)
    save_with_pytorch(tmp_path / "a", state)
    converted = convert.from_torch("d2net", tmp_path / "a", tmp_path / "run", config)
    assert converted.widths == (1024, 100, (5, 5))
    check_d2(gold, config, only_member(tmp_path / "run"), x)


def test_the_other_data_sets_networks(golden):
    """Convert without files; the tests above cover reading and writing them."""
    gold, config = golden("co2_anet"), co2net_anet12.get_config()
    state, x = co2(gold)
    check_co2(gold, config, parameter_names.to_variables("co2net", state, "a")[0], x)
    gold, config = golden("d2_thumos"), d2net_thumos.get_config()
    state, x = d2(gold, config)
    check_d2(gold, config, parameter_names.to_variables("d2net", state, "a")[0], x)
