"""CO2-Net (Hong et al., ACM Multimedia 2021) on ActivityNet 1.2, with the published code's numbers.

The paper: 26.4 average mAP (t-IoU 0.5:0.95), the best step on the validation videos. Not measured
here: the features are not part of this project. Put `ActivityNet1.2-I3D-JOINTFeatures.npy` beside
`ActivityNet1.2-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/co2net_anet12.py --config.data.dir=FOLDER

`--config configs/co2net_anet12.py:paper` takes the paper's values.
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with the values for ActivityNet 1.2.

    Args:
        preset: see `co2net_thumos.get_config`.
    """
    config = co2net_thumos.get_config(preset)
    config.data.name = "ActivityNet1.2"
    config.data.num_snippets = 60
    if preset == "code":  # the paper has neither the moving average nor a shortest video
        config.data.min_snippets = 11
        config.model.pool_window = 13  # 2 * floor(floor(60 snippets / 5) / 2) + 1
    config.loss.topk_divisor = 5
    config.optimizer.learning_rate = 3e-5
    config.optimizer.weight_decay = 5e-4
    config.train.steps = 22000
    return config
