"""W-TALC on AudioWTAL, the recordings of configs/co2net_audio.py.

The learning rate is the demo's; nothing was chosen on the recordings. 38.0 ± 1.8
average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 4 as one population):

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
