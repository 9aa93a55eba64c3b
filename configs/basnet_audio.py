"""BaS-Net on AudioWTAL, the recordings of configs/co2net_audio.py.

The learning rate is the demo's; nothing was chosen on the recordings. 26.0 ± 1.2
average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 4 as one population):

    python -m jaxtal.main --config configs/basnet_audio.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import basnet_demo, co2net_audio


def get_config() -> ConfigDict:
    """Return the demo's config on the recordings, with CO2-Net's protocol."""
    config = basnet_demo.get_config()
    config.data = co2net_audio.get_config().data
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    config.train.steps = 2000
    config.evaluation.protocol = "co2"
    return config
