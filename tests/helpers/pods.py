"""Train every method for a few steps: `python -m tests.helpers.pods FOLDER --mesh 2 4`.

`launch/local.py` starts it in several processes; it accepts `--distributed` and `--expect_devices`
like `jaxtal.main`. Each run is written to FOLDER/METHOD.
"""

import argparse
import importlib
import sys
from pathlib import Path

from ml_collections import ConfigDict

METHODS = ("co2net", "d2net", "twostream")


def config_of(method: str, member: int, data: int, **fields) -> ConfigDict:
    """Return a demo's config on tiny data, with a divisible population and batch."""
    config = importlib.import_module(f"configs.{method}_demo").get_config()
    config.population = 2
    config.mesh.update(member=member, data=data)
    config.data.num_snippets = 12
    config.data.generator += (
        " num_train=12 num_test=7 num_classes=3 feature_width=8 max_snippets=60"
    )
    config.train.update(batch_size=12, steps=4, log_every=2, eval_every=4)
    if "pairs" in config.train:
        config.train.pairs = 4
    if "denoising_start" in config.loss:
        config.loss.update(denoising_start=0, denoising_every=1)
    config.evaluation.plot_videos = 0
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


def main() -> None:
    """Connect to the other processes, then train all methods."""
    from jaxtal.parallel import multihost

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mesh", type=int, nargs=2, metavar=("MEMBER", "DATA"))
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--expect_devices", type=int)
    options = parser.parse_args()
    if options.distributed:
        multihost.initialize_distributed()
    multihost.expect_devices(options.expect_devices)
    from jaxtal.training.trainer import train_and_evaluate

    for method in METHODS:
        train_and_evaluate(config_of(method, *options.mesh), options.folder / method)


if __name__ == "__main__":
    sys.exit(main())
