"""Inputs and weights of the golden values, drawn from the seeds in the files.

The order of the draws is that of the code below. Weights have the layout (out, in, kernel);
`to_flax` and `from_flax` convert between it and ours.

NumPy's normal draws use the system's `log1p` and `exp`, and sums depend on how NumPy vectorizes
them. So the arrays equal those behind the files only up to rounding, which `check` permits.
"""

import numpy as np

# Relative. Another libm or NumPy changes a checksum by 3e-10 and an entry by one float32
# rounding, 1.2e-7; another stream of numbers changes it by 1e-3 or more. Outputs are compared
# with the golden values at 1e-4.
ROUNDING = 1e-6

CCM_LAYERS = {"local": (1, 1, 3), "global": (1, 1, 3), "att0": (0.5, 1, 3), "att1": (0.5, 0.5, 3)}


def co2_layers(num_classes: int) -> dict[str, tuple[int, int, int]]:
    """Return (out, in, kernel) of every CO2-Net layer, in the order of the draws."""
    layers = {}
    for module in ("ccm_rgb", "ccm_flow"):
        for name, (out, into, kernel) in CCM_LAYERS.items():
            layers[f"{module}.{name}"] = (int(1024 * out), int(1024 * into), kernel)
        layers[f"{module}.att2"] = (1, 512, 1)
    layers["fusion"] = (2048, 2048, 1)
    layers["cls0"] = (2048, 2048, 3)
    layers["cls1"] = (num_classes + 1, 2048, 1)
    return layers


class Draws:
    """Stream of the random numbers of one file."""

    def __init__(self, seed: int):
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, shape, bound) -> np.ndarray:
        draw = self.generator.random(size=shape, dtype=np.float32)
        return (2 * draw - 1) * np.float32(bound)

    def normal(self, shape, deviation) -> np.ndarray:
        draw = self.generator.standard_normal(shape, dtype=np.float32)
        return draw * np.float32(deviation)


def co2(seed: int, batch: int, time: int, num_classes: int):
    """Draw CO2-Net's weights {layer.w, layer.b} and its input [B, T, 2048].

    The labels are stored in the file.
    """
    draws = Draws(seed)
    weights = {}
    for name, shape in co2_layers(num_classes).items():
        gain = 6.0 if name.endswith("att2") else 3.0 if name == "cls1" else 1.0
        weights[name + ".w"] = draws.uniform(shape, gain * np.sqrt(6.0 / (shape[1] * shape[2])))
        weights[name + ".b"] = draws.uniform((shape[0],), 0.1)
    magnitude = np.abs(draws.normal((batch, time, 2048), 0.4)).reshape(batch, time, 2, 1024)
    amplitude = draws.generator.random(size=(batch, time, 2), dtype=np.float32)
    amplitude = np.float32(0.4) + np.float32(1.2) * amplitude
    return weights, (magnitude * amplitude[..., None]).reshape(batch, time, 2048)


def d2_layers(num_classes: int, kernel: int, classifier_kernel: int) -> dict[str, tuple]:
    """Return (out, in of a group, kernel) of every D2-Net layer, in the order of the draws."""
    hidden = (2048, 1024, kernel)
    return {"conv0": hidden, "conv1": hidden, "cls": (2 * num_classes, 1024, classifier_kernel)}


def d2(gold: dict, layers: dict):
    """Draw D2-Net's weights, running background [1024] and zero-padded input [B, T, 2048].

    Args:
        gold: the arrays of the file; its cfg_* are used. It also has labels and lengths.
        layers: the layers of `d2_layers`.
    """
    draws = Draws(int(gold["cfg_seed"]))
    batch, time = int(gold["cfg_B"]), int(gold["cfg_T"])
    weights = {}
    for name, shape in layers.items():
        if name == "cls":
            weights["cls.w"] = draws.normal(shape, gold["cfg_cls_std"])
            bias = draws.normal(shape[:1], 0.3)
            weights["cls.b"] = bias + np.float32(gold["cfg_cls_bias"])
        else:
            weights[f"{name}.w"] = draws.normal(shape, 0.01)
            weights[f"{name}.b"] = draws.uniform(shape[:1], 0.05)
    directions = draws.normal((4, 1024), 1.0)
    profile = draws.generator.random(size=(batch, time), dtype=np.float32)[..., None]
    noise = draws.normal((batch, time, 2048), 0.5)
    streams = [(1 - profile) * directions[i] + profile * directions[i + 2] for i in (0, 1)]
    x = np.concatenate(streams, axis=-1) + noise
    x[np.arange(time) >= gold["cfg_lengths"][:, None]] = 0
    background = np.float32(0.5) * (directions[0] + directions[1])
    background = background - np.float32(gold["cfg_bg_mix"]) * (directions[2] + directions[3])
    return weights, background, x


def d2_to_flax(weights: dict) -> dict:
    """Return the parameter tree of `D2Net`; RGB is the first half of a layer's outputs."""
    tree: dict = {"rgb": {}, "flow": {}}
    for name, value in weights.items():
        layer, kind = name.split(".")
        value = value.transpose(2, 1, 0) if kind == "w" else value
        for stream, half in zip(tree, np.split(value, 2, axis=-1), strict=True):
            tree[stream].setdefault(layer, {})["kernel" if kind == "w" else "bias"] = half
    return tree


def d2_from_flax(tree: dict) -> dict[str, np.ndarray]:
    """Invert `d2_to_flax`, in float64."""
    weights = {}
    for layer, kinds in tree["rgb"].items():
        for kind in kinds:
            halves = [np.asarray(tree[s][layer][kind], np.float64) for s in ("rgb", "flow")]
            value = np.concatenate(halves, axis=-1)
            name = f"{layer}.{'w' if kind == 'kernel' else 'b'}"
            weights[name] = value.transpose(2, 1, 0) if kind == "kernel" else value
    return weights


def _path(name: str) -> list[str]:
    """Return the path of a layer in our parameter tree: ccm_rgb.att0, ccm_rgb/attention/att0."""
    parts = name.split(".")
    return [*parts[:-1], "attention", parts[-1]] if parts[-1].startswith("att") else parts


def to_flax(weights: dict) -> tuple[dict, dict]:
    """Return the parameter tree of `CO2Net` and the outer taps of the global layers.

    Our global layers have the middle tap only.
    """
    tree: dict = {}
    outer = {}
    for name, value in weights.items():
        layer, kind = name.rsplit(".", 1)
        node = tree
        for part in _path(layer):
            node = node.setdefault(part, {})
        value = value.transpose(2, 1, 0) if kind == "w" else value
        if layer.endswith("global") and kind == "w":
            outer[name] = value[[0, 2]]
            value = value[[1]]
        node["kernel" if kind == "w" else "bias"] = value
    return tree, outer


def from_flax(tree: dict, outer: dict) -> dict[str, np.ndarray]:
    """Invert `to_flax`, in float64."""
    weights = {}

    def walk(node, parts):
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, [*parts, key] if key != "attention" else parts)
                continue
            name = ".".join(parts) + (".w" if key == "kernel" else ".b")
            value = np.asarray(value, np.float64)
            if name in outer:
                taps = np.asarray(outer[name], np.float64)
                value = np.concatenate([taps[:1], value, taps[1:]])
            weights[name] = value.transpose(2, 1, 0) if key == "kernel" else value

    walk(tree, [])
    return weights


def checksum(array) -> np.ndarray:
    """Return (sum, sum of absolute values, first, last), as stored under chk/."""
    flat = np.asarray(array, np.float64).ravel()
    return np.array([flat.sum(), np.abs(flat).sum(), flat[0], flat[-1]])


def check(gold: dict, arrays: dict[str, np.ndarray]) -> None:
    """Compare redrawn arrays with the checksums in the file, within ROUNDING."""
    for name, value in arrays.items():
        np.testing.assert_allclose(
            checksum(value), gold[f"chk/{name}"], rtol=ROUNDING, err_msg=f"{name} is another draw"
        )
