"""BaS-Net on generated untrimmed videos: nothing to download.

    python -m jaxtal.main --config configs/basnet_demo.py

The videos are those of configs/co2net_demo.py; results are in docs/methods/baselines.md.
"""

from ml_collections import ConfigDict

from jaxtal.configs import basnet_thumos, co2net_demo


def get_config() -> ConfigDict:
    """Return the THUMOS14 config with smaller values and generated videos."""
    config = basnet_thumos.get_config()
    config.seed = 0
    config.data = co2net_demo.get_config().data
    config.data.num_snippets = 200  # [snippets] T; most videos are shorter
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    config.train.update(steps=1000, eval_every=200)
    config.optimizer.learning_rate = 5e-4  # chosen on other videos: docs/methods/baselines.md
    return config
