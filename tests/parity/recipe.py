"""Inputs and weights of the golden values, drawn again as FIXTURES.md describes.

Weights have the layout (out, in, kernel); `to_flax` and `from_flax` go between it and ours.
"""

import numpy as np

CCM_LAYERS = {"local": (1, 1, 3), "global": (1, 1, 3), "att0": (0.5, 1, 3), "att1": (0.5, 0.5, 3)}


def co2_layers(num_classes: int) -> dict[str, tuple[int, int, int]]:
    """(out, in, kernel) of every CO2-Net layer, in the order in which they are drawn."""
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
    """The stream of random numbers behind one file."""

    def __init__(self, seed: int):
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, shape, bound) -> np.ndarray:
        draw = self.generator.random(size=shape, dtype=np.float32)
        return (2 * draw - 1) * np.float32(bound)

    def normal(self, shape, deviation) -> np.ndarray:
        draw = self.generator.standard_normal(shape, dtype=np.float32)
        return draw * np.float32(deviation)


def co2(seed: int, batch: int, time: int, num_classes: int):
    """CO2-Net's weights {layer.w, layer.b} and its input [B, T, 2048]; labels are in the file."""
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


def _path(name: str) -> list[str]:
    """`ccm_rgb.att0` is ccm_rgb / attention / att0 in our parameter tree."""
    parts = name.split(".")
    return [*parts[:-1], "attention", parts[-1]] if parts[-1].startswith("att") else parts


def to_flax(weights: dict) -> tuple[dict, dict]:
    """Parameter tree of `CO2Net`, and the outer taps of the global layers, which it leaves out."""
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
    """The inverse of `to_flax`, in float64."""
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
    """(sum, sum of absolute values, first, last), as stored under chk/."""
    flat = np.asarray(array, np.float64).ravel()
    return np.array([flat.sum(), np.abs(flat).sum(), flat[0], flat[-1]])
