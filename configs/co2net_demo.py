"""CO2-Net on generated untrimmed videos: nothing to download.

53.3 ± 2.2 average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 4), in 50 seconds on 2
CPU cores:

    python -m jaxtal.main --config configs/co2net_demo.py

`config.data.generator` sets every property of the videos (jaxtal/data/synthetic), for example
`--config.data.generator="demo annotations=FILE"` for the annotations of a JSON file in ActivityNet
form. `--config configs/co2net_demo.py:paper` takes the paper's values.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with smaller values and generated videos.

    Args:
        preset: see `co2net_thumos.get_config`.
    """
    config = co2net_thumos.get_config(preset)
    config.seed = 0
    config.data.dir = ""
    config.data.name = "Synthetic"
    config.data.num_snippets = 100
    config.data.generator = "demo"
    config.optimizer.learning_rate = 5e-4
    config.train.steps = 1400
    return config
