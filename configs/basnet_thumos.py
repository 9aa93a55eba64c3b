"""BaS-Net (Lee et al., AAAI 2020) on THUMOS14, with the published program's numbers.

CO2-Net's authors report 35.3 average mAP (t-IoU 0.1:0.7), the best step on the test set. Not
measured here: the features are not part of this project. Put
`Thumos14reduced-I3D-JOINTFeatures.npy` beside `Thumos14reduced-Annotations/` into
`config.data.dir`.

    python -m jaxtal.main --config configs/basnet_thumos.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config() -> ConfigDict:
    """Return the fields of configs/common.py and BaS-Net's own."""
    config = common.get_config()
    config.method = "basnet"
    config.data.num_snippets = 750  # [snippets] T, number sampled from each training video
    # [snippets] every test video is resampled to this length; follows num_snippets
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    config.train.update(steps=1500, batch_size=16, log_every=20, eval_every=100)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-4)
    config.model = ConfigDict(
        {
            "dropout": 0.7,  # rate before the classifier's last layer
        }
    )
    config.loss = ConfigDict(
        {
            "topk_divisor": 8,  # video score: mean of the k = floor(T / 8) largest entries
            "weights": {
                "base": 1.0,  # of the features as they are, with the background
                "suppression": 1.0,  # of the weighted features, without the background
                "norm": 1e-4,  # L1 norm of the foreground weights; alpha
            },
        }
    )
    config.localization.update(
        thresholds=(0.0, 0.225, 10),  # on the T-CAM as a share of its maximum
        upsample=24,
        drop_first_snippet_only=False,
        class_threshold=0.25,
        topk_divisor=8,
        class_weight=0.2,
        nms="hard",
        nms_threshold=0.7,
        inclusive_iou=False,
    )
    return config
