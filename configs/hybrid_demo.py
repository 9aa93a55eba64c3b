"""The hybrid of the three methods on generated untrimmed videos: nothing to download.

58.0 ± 0.7 average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 4 as one population):

    python -m jaxtal.main --config configs/hybrid_demo.py

The videos and the number of steps are those of configs/co2net_demo.py. The
learning rate and the localization were chosen on the training videos alone: a model was trained on
65 of them and evaluated on the other 35.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_demo, hybrid_thumos


def get_config() -> ConfigDict:
    """Return the THUMOS14 config with smaller values and generated videos."""
    config = hybrid_thumos.get_config()
    demo = co2net_demo.get_config()
    config.seed, config.data, config.train = demo.seed, demo.data, demo.train
    config.optimizer.learning_rate = 1e-3
    config.loss.update(denoising_start=350, warmup_steps=100)
    return config
