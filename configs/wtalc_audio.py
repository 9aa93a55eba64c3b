"""W-TALC on AudioWTAL, the recordings of configs/co2net_audio.py.

The learning rate is the demo's; nothing was chosen on the recordings:

    python -m jaxtal.main --config configs/wtalc_audio.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_audio, wtalc_demo


def get_config() -> ConfigDict:
    """Return the demo's config on the recordings, with CO2-Net's protocol."""
    config = wtalc_demo.get_config()
    config.data = co2net_audio.get_config().data
    config.train.steps = 2000
    config.evaluation.protocol = "co2"
    return config
