"""Config of the toy method: `python -m jaxtal.main --config tests/methods/toy_config.py`."""

from ml_collections import ConfigDict

from configs import co2net_demo
from jaxtal import methods
from tests.methods import toy

methods.register(toy.METHOD)


def get_config() -> ConfigDict:
    """Return the config of CO2-Net's demo with the toy's model and loss."""
    config = co2net_demo.get_config()
    config.method = "toy"
    config.model = ConfigDict()
    config.loss = ConfigDict({"topk_divisor": 8, "weights": {"mil": 1.0}})
    config.train.steps = 1
    return config
