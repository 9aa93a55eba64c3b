"""Two-stream networks with semantic-aware mechanisms on ActivityNet 1.3, with the paper's numbers.

The paper: 26.3 average mAP (t-IoU 0.5:0.95), the best step on the validation videos. Not measured
here: the features are not part of this project. Put `ActivityNet1.3-I3D-JOINTFeatures.npy` beside
`ActivityNet1.3-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/twostream_anet13.py --config.data.dir=FOLDER

`--config configs/twostream_anet13.py:ROW` selects a row of the paper's Tables 4 and 6, see
configs/twostream_thumos.py.
"""

from ml_collections import ConfigDict

from jaxtal.configs import twostream_thumos


def get_config(row: str = "full") -> ConfigDict:
    """Return the THUMOS14 config with the values for ActivityNet 1.3.

    Args:
        row: see `twostream_thumos.get_config`.
    """
    config = twostream_thumos.get_config(row)
    config.data.update(name="ActivityNet1.3", num_snippets=75)
    # An epoch of 10,024 videos has 314 steps: 100 epochs, evaluated after each.
    config.train.update(steps=31400, batch_size=32, log_every=157, eval_every=314)
    config.optimizer.weight_decay = 1e-3
    config.loss.warmup_steps = 3140
    config.localization.thresholds = (0.005, 0.025, 5)
    return config
