"""The hybrid on AudioWTAL, the recordings of configs/co2net_audio.py.

38.2 ± 3.7 average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 4 as one population):

    python -m jaxtal.main --config configs/hybrid_audio.py --config.data.dir=FOLDER

Steps, snippets and batches are those of configs/co2net_audio.py. All other values were chosen on
the training videos of the demo (configs/hybrid_demo.py); none was chosen on the recordings.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_audio, hybrid_demo


def get_config() -> ConfigDict:
    """Return the demo's config with the data and the number of steps of the recordings."""
    config = hybrid_demo.get_config()
    audio = co2net_audio.get_config()
    config.seed, config.data, config.train = audio.seed, audio.data, audio.train
    # The same fractions of the training as in the demo.
    config.loss.update(denoising_start=500, warmup_steps=140)
    return config
