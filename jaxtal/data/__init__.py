"""Data sets: read from disk in one of the field's layouts, or generated."""

from pathlib import Path

from jaxtal.data import synthetic, wtalc
from jaxtal.data.dataset import Dataset
from jaxtal.errors import UserError


def load(config) -> Dataset:
    """The data set that ``config.data`` names.

    An empty ``config.data.dir`` is the embedded generator with the fields of
    ``config.data.generator``.
    """
    if config.dir:
        return wtalc.read(Path(config.dir), config.name)
    if "generator" not in config:
        raise UserError(
            "config.data.dir is empty, which means generated videos, but this config has no "
            "config.data.generator; give a folder, or take configs/co2net_demo.py"
        )
    return synthetic.generate(synthetic.SyntheticConfig(**config.generator))
