"""Parameter names of the published PyTorch programs, and their counterparts here.

The names are those of the modules in https://github.com/harlanhong/MM2021-CO2-Net and
https://github.com/naraysa/D2-Net. The weight of a convolution is (out, in, taps) there and
(taps, in, out) here. There are two more differences:

- CO2-Net's global layers process sequences of length 1, so only the middle one of their three taps
  has an effect, and only that tap is kept here. Its `feat_encoder` is never called and has no
  counterpart. `from_variables` writes zeros for both.
- D2-Net's layers are grouped convolutions: the first half of the outputs belongs to RGB, the second
  to flow. Here each stream has its own layers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxtal.errors import CheckpointError

# The config fields that determine CO2-Net's parameters, with their published values.
CO2NET_AS_PUBLISHED = (
    "config.model.classifier=code, fusion=ccm, ccm_main=global and ccm_auxiliary=local"
)


class Widths(NamedTuple):
    """Sizes of a published network, inferred from the shapes of its parameters.

    Attributes:
        features: D, the feature width of one modality.
        classes: C, the number of classes without background.
        taps: Kernel sizes of D2-Net's hidden convolutions and of its classifier; () for CO2-Net.
    """

    features: int
    classes: int
    taps: tuple[int, ...] = ()


class Layer(NamedTuple):
    """A convolution of a published network.

    Attributes:
        theirs: Published name, without ".weight" and ".bias".
        ours: Path of the layer here; for a grouped layer the paths of the RGB and the flow layer;
            () for a layer without a counterpart.
        shape: Shape of the published weight, (out, in per group, taps).
        one_tap: True if only the middle tap is kept here.
    """

    theirs: str
    ours: tuple[str, ...]
    shape: tuple[int, int, int]
    one_tap: bool = False


def _co2net_layers(widths: Widths) -> Iterator[Layer]:
    """Yield the layers in the published order."""
    width, both, hidden = widths.features, 2 * widths.features, max(1, widths.features // 2)
    for theirs, ours in (("vAttn", "ccm_rgb"), ("fAttn", "ccm_flow")):
        yield Layer(f"{theirs}.bit_wise_attn.0", (f"{ours}/local",), (width, width, 3))
        yield Layer(f"{theirs}.channel_conv.0", (f"{ours}/global",), (width, width, 3), True)
        for number, name, shape in (
            (0, "att0", (hidden, width, 3)),
            (3, "att1", (hidden, hidden, 3)),
            (5, "att2", (1, hidden, 1)),
        ):
            yield Layer(f"{theirs}.attention.{number}", (f"{ours}/attention/{name}",), shape)
    yield Layer("feat_encoder.0", (), (both, both, 3))
    yield Layer("fusion.0", ("fusion",), (both, both, 1))
    yield Layer("classifier.1", ("cls0",), (both, both, 3))
    yield Layer("classifier.4", ("cls1",), (widths.classes + 1, both, 1))


def _d2net_layers(widths: Widths) -> Iterator[Layer]:
    width = widths.features
    hidden, last = widths.taps
    for theirs, ours, out, taps in (
        ("conv", "conv0", width, hidden),
        ("conv1", "conv1", width, hidden),
        ("classifier", "cls", widths.classes, last),
    ):
        yield Layer(theirs, (f"rgb/{ours}", f"flow/{ours}"), (2 * out, width, taps))


class _Tensors:
    """Published tensors whose shapes have not been validated yet."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where = tensors, where

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.where}: no tensor {name}, only {_some(self.tensors)}; wanted a state dict "
                "of the method that method=... names"
            )
        shape = self.tensors[name].shape
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(
                f"{self.where}: {name} is {_times(shape)}; wanted {dimensions} dimensions"
            )
        return shape


def _co2net_widths(tensors: _Tensors) -> Widths:
    width = tensors.shape("vAttn.bit_wise_attn.0.weight", 3)[0]
    outputs = tensors.shape("classifier.4.weight", 3)[0]
    if outputs < 2:
        raise CheckpointError(
            f"{tensors.where}: classifier.4.weight has 1 output; wanted the classes and background"
        )
    return Widths(width, outputs - 1)


def _d2net_widths(tensors: _Tensors) -> Widths:
    hidden = tensors.shape("conv.weight", 3)
    last = tensors.shape("classifier.weight", 3)
    for name, taps in (("conv.weight", hidden[2]), ("classifier.weight", last[2])):
        if taps % 2 == 0:
            raise CheckpointError(f"{tensors.where}: {name} has {taps} taps; wanted an odd number")
    return Widths(hidden[1], max(1, last[0] // 2), (hidden[2], last[2]))


class Program(NamedTuple):
    """Parameter names of a published program.

    Attributes:
        widths: Function from published tensors to `Widths`.
        layers: Function from `Widths` to the layers.
        background: Name of the running background embedding, (1, D); "" if there is none.
    """

    widths: Callable[[_Tensors], Widths]
    layers: Callable[[Widths], Iterator[Layer]]
    background: str = ""


_PROGRAMS = {
    "co2net": Program(_co2net_widths, _co2net_layers),
    "d2net": Program(_d2net_widths, _d2net_layers, "running_bg"),
}


def program(method: str) -> Program:
    """Return the published program of a method.

    Args:
        method: Name of the method.

    Raises:
        CheckpointError: The method has no published PyTorch program.
    """
    if method not in _PROGRAMS:
        raise CheckpointError(
            f"method={method}: no program with PyTorch checkpoints is published for it; wanted "
            f"{' or '.join(_PROGRAMS)}"
        )
    return _PROGRAMS[method]


def to_variables(
    method: str, tensors: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, Any], Widths]:
    """Convert the state dict of a published program to variables.

    Args:
        method: "co2net" or "d2net".
        tensors: Arrays of any float type by name; all names may begin with "module.", the prefix
            of DataParallel.
        where: Name of the file, for error messages.

    Returns:
        The variables {"params": ...} as float32, for D2-Net with {"running": ...}, and the sizes
        of the network.

    Raises:
        CheckpointError: A tensor is missing, unknown, not finite, or has another shape or type.
    """
    theirs = program(method)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    widths = theirs.widths(_Tensors(tensors, where))
    layers = list(theirs.layers(widths))
    numbers = _checked(dict(tensors), _shapes(theirs, layers, widths), where)
    params: dict[str, np.ndarray] = {}
    for layer in layers:
        if layer.ours:
            kernel = numbers[f"{layer.theirs}.weight"].transpose(2, 1, 0)
            kernel = kernel[1:2] if layer.one_tap else kernel
            of_paths = (
                np.split(part, len(layer.ours), axis=-1)
                for part in (kernel, numbers[f"{layer.theirs}.bias"])
            )
            for path, kernel, bias in zip(layer.ours, *of_paths, strict=True):
                params |= {f"{path}/kernel": kernel, f"{path}/bias": bias}
    variables = {"params": unflatten_dict(params, sep="/")}
    if theirs.background:
        variables["running"] = {"background": numbers[theirs.background][0]}
    return variables, widths


def _shapes(theirs: Program, layers: list[Layer], widths: Widths) -> dict[str, tuple[bool, tuple]]:
    """Return {name: (optional, shape)} of all published tensors."""
    shapes: dict[str, tuple[bool, tuple]] = {}
    if theirs.background:
        shapes[theirs.background] = False, (1, widths.features)
    for layer in layers:
        shapes[f"{layer.theirs}.weight"] = not layer.ours, layer.shape
        shapes[f"{layer.theirs}.bias"] = not layer.ours, layer.shape[:1]
    return shapes


def _checked(
    tensors: dict[str, np.ndarray], wanted: dict[str, tuple[bool, tuple]], where: str
) -> dict[str, np.ndarray]:
    """Return the tensors that have a counterpart here, validated, as float32."""
    if unknown := tensors.keys() - wanted.keys():
        raise CheckpointError(
            f"{where}: unknown tensors {_some(unknown)}; wanted {_some(wanted)} only, the "
            "published network of the method that method=... names"
        )
    numbers = {}
    for name, (optional, shape) in wanted.items():
        if name not in tensors and not optional:
            raise CheckpointError(
                f"{where}: no tensor {name}, only {_some(tensors)}; save the whole state dict"
            )
        if name in tensors and tensors[name].shape != shape:
            raise CheckpointError(
                f"{where}: {name} is {_times(tensors[name].shape)}; wanted {_times(shape)}, to "
                "match the other tensors"
            )
        if not optional:
            numbers[name] = _finite(tensors[name], f"{where}: {name}")
    return numbers


def _finite(tensor: np.ndarray, where: str) -> np.ndarray:
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise CheckpointError(f"{where} is of type {tensor.dtype}; wanted floats")
    with np.errstate(over="ignore"):  # float64 may be too large
        numbers = tensor.astype(np.float32, copy=False)
    if not np.isfinite(numbers).all():
        raise CheckpointError(
            f"{where} has numbers that are not finite in float32: its training has diverged; use "
            "an earlier checkpoint"
        )
    return numbers


def from_variables(method: str, variables: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """Convert variables to the state dict of the published program, the inverse of `to_variables`.

    Args:
        method: "co2net" or "d2net".
        variables: {"params": ...} of a single model, for D2-Net with {"running": ...}.
        where: Work directory, for error messages.

    Returns:
        float32 arrays by their published names, in the published order.

    Raises:
        CheckpointError: The variables are not those of the published network.
    """
    theirs = program(method)
    params = flatten_dict(variables["params"], sep="/")
    names = list(theirs.layers(Widths(2, 1, (1, 1))))  # the widths do not matter
    wanted = {f"{path}/{kind}" for layer in names for path in layer.ours for kind in _OURS}
    if params.keys() != wanted:
        other = params.keys() ^ wanted
        raise CheckpointError(
            f"{where}: not {method} as published, it differs in {_some(other)}; wanted another "
            f"method=..., or for co2net a run with {CO2NET_AS_PUBLISHED}"
        )
    found = {}
    for layer in names:
        if layer.ours:
            kernel, bias = (
                np.concatenate([np.asarray(params[f"{path}/{kind}"]) for path in layer.ours], -1)
                for kind in _OURS
            )
            kernel = np.pad(kernel, [(1, 1), (0, 0), (0, 0)]) if layer.one_tap else kernel
            found[f"{layer.theirs}.weight"] = np.ascontiguousarray(kernel.transpose(2, 1, 0))
            found[f"{layer.theirs}.bias"] = bias
    widths = theirs.widths(_Tensors(found, where))
    if theirs.background:
        found[theirs.background] = np.asarray(variables["running"]["background"])[None]
    # In the published order, with zeros for tensors without a counterpart.
    shapes = _shapes(theirs, list(theirs.layers(widths)), widths)
    return {
        name: found[name] if name in found else np.zeros(shape, np.float32)
        for name, (_, shape) in shapes.items()
    }


_OURS = ("kernel", "bias")


def _some(names) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > 3 else "")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
