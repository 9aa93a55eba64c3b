"""CO2-Net on AudioWTAL: recordings of sounds and spoken digits in 10 classes.

34.1 ± 2.2 average mAP (t-IoU 0.1:0.7, protocol co2, last step, seeds 0 to 2), see
docs/results/recordings.md. FOLDER has `AudioWTAL-I3D-JOINTFeatures.npy` and
`AudioWTAL-Annotations/`:

    python -m jaxtal.main --config configs/co2net_audio.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with smaller values.

    Args:
        preset: see `co2net_thumos.get_config`.
    """
    config = co2net_thumos.get_config(preset)
    config.seed = 0
    config.data.update(dir="audio_wtal", name="AudioWTAL", num_snippets=150)
    config.data.stream_widths = (128, 128)  # level statistics, modulation and onsets
    config.optimizer.learning_rate = 5e-4
    config.train.steps = 2000
    return config
