"""D2-Net on generated untrimmed videos: nothing to download.

35.9 ± 6.5 average mAP (t-IoU 0.1:0.7, protocol d2, last step, seeds 0 to 4), in 40 seconds on 2 CPU
cores; 40.8 ± 1.9 with --config.loss.denoising=none (docs/results/generated.md):

    python -m jaxtal.main --config configs/d2net_demo.py

The videos are those of configs/co2net_demo.py. `--config configs/d2net_demo.py:paper` takes the
paper's values, see configs/d2net_thumos.py.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_demo, d2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with smaller values and generated videos.

    Args:
        preset: see `d2net_thumos.get_config`.
    """
    config = d2net_thumos.get_config(preset)
    config.seed = 0
    config.data = co2net_demo.get_config().data
    config.optimizer.learning_rate = 5e-4
    config.train.update(steps=1400, eval_every=200)
    if preset == "code":
        config.loss.denoising_start = 350
    return config
