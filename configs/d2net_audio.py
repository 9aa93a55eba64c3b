"""D2-Net on AudioWTAL, the recordings of configs/co2net_audio.py.

31.2 ± 0.5 average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 2):

    python -m jaxtal.main --config configs/d2net_audio.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_audio, d2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with smaller values and CO2-Net's protocol.

    Args:
        preset: see `d2net_thumos.get_config`.
    """
    config = d2net_thumos.get_config(preset)
    config.seed = 0
    config.data = co2net_audio.get_config().data
    config.optimizer.learning_rate = 2e-4
    config.train.steps = 4000
    config.evaluation.protocol = "co2"
    return config
