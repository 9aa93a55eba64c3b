"""A checkpoint of other classes or features is recognized by its shapes, before it is read."""

import functools

import pytest

from jaxtal import methods
from jaxtal.config import get_config
from jaxtal.training.checkpoint_fit import find_difference, network_shapes

NETWORKS = ("co2net_demo", "d2net_demo", "twostream_thumos", "hybrid_demo")


@pytest.fixture(params=NETWORKS)
def network(request):
    config = get_config(request.param)
    shapes = functools.partial(network_shapes, methods.get(config.method), config, ())
    return functools.cache(shapes)


def test_classes_and_features_follow_from_the_shapes(network):
    for saved, wanted in (((3, 64), (4, 64)), ((3, 64), (3, 32)), ((7, 32), (2, 128))):
        assert find_difference(network(*saved), network, *saved) is None
        there, here = find_difference(network(*saved), network, *wanted)
        assert there.startswith(f"{saved[0]} classes and {saved[1]} features a snippet (params/")
        assert here.startswith(f"{wanted[0]} classes and {wanted[1]} features a snippet (params/")


def test_other_networks_are_described_by_a_parameter(network):
    saved = dict(network(3, 64))
    name = min(saved)
    del saved[name]
    found = find_difference(saved, network, 3, 64)
    assert found == (f"{name} is absent", f"{name} is {network(3, 64)[name]}")
    saved[name] = (*network(3, 64)[name], 5)
    assert find_difference(saved, network, 3, 64)[0] == f"{name} is {saved[name]}"
