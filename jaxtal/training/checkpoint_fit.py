"""Compare the shapes of a saved network with those that a config and a data set define.

A checkpoint of other classes or features is a good checkpoint: it is recognized before it is read.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxtal.methods.base import Method
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state

Shapes = dict[str, tuple[int, ...]]  # of the variables, {"params/layer/kernel": (M, ...)}


def network_shapes(
    method: Method,
    config: ConfigDict,
    stream_widths: tuple[int, ...],
    num_classes: int,
    feature_width: int,
) -> Shapes:
    """Return the shapes of the variables of all members.

    Args:
        method: the method.
        config: the whole config of the run.
        stream_widths: features per snippet of each stream; (): two equal halves. They are scaled
            to the width of the features.
        num_classes: C, without the background class.
        feature_width: features per snippet of all streams together.
    """
    whole = sum(stream_widths)
    streams = tuple(width * feature_width // whole for width in stream_widths)
    model = method.build(config.model, num_classes, streams)
    hyper = hyperparams_from_config(config)
    state = jax.eval_shape(lambda: init_state(model, hyper, feature_width))
    shapes = shapes_of({"params": state.params, **state.model_state})
    return {name: (config.population, *shape) for name, shape in shapes.items()}


def shapes_of(variables: dict[str, Any]) -> Shapes:
    """Return the shapes of a tree of arrays.

    Args:
        variables: {"params": ..., and the model's other collections}.
    """
    return {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()}


def find_difference(
    saved: Shapes, network: Callable[[int, int], Shapes], num_classes: int, feature_width: int
) -> tuple[str, str] | None:
    """Return a description of how saved variables differ from those of a network.

    Args:
        saved: shapes of the saved variables.
        network: (C, 2D) -> shapes of the variables of a network, see `network_shapes`.
        num_classes: C of the data set, without the background class.
        feature_width: 2D of the data set.

    Returns:
        The saved network and the wanted one, in words; None if the variables fit.
    """
    wanted = network(num_classes, feature_width)
    differing = sorted(
        name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)
    )
    if not differing:
        return None
    name = differing[0]
    there, here = (f"{name} is {shapes.get(name, 'absent')}" for shapes in (saved, wanted))
    if (sizes := _sizes(saved, network, num_classes, feature_width)) is None:
        return there, here
    return (
        f"{sizes[0]} classes and {sizes[1]} features a snippet ({there})",
        f"{num_classes} classes and {feature_width} features a snippet ({here})",
    )


def _sizes(
    saved: Shapes, network: Callable[[int, int], Shapes], num_classes: int, feature_width: int
) -> tuple[int, int] | None:
    """Return C and 2D of the saved variables, None if no network has their shapes.

    The length of every axis is a linear function of one of the two numbers.
    """
    wanted = network(num_classes, feature_width)
    if saved.keys() != wanted.keys():
        return None
    given = num_classes, feature_width
    twice = (2 * num_classes, feature_width), (num_classes, 2 * feature_width)
    sizes = []
    for size, doubled in zip(given, twice, strict=True):
        larger = network(*doubled)
        axes = (
            (now, then, found)
            for name, shape in wanted.items()
            for now, then, found in zip(shape, larger[name], saved[name], strict=False)
        )
        now, then, found = next(axis for axis in axes if axis[0] != axis[1])
        sizes.append(size + round((found - now) * size / (then - now)))
    classes, width = sizes
    if min(sizes) < 1 or network(classes, width) != saved:
        return None
    return classes, width
