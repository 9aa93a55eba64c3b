"""W-TALC (Paul et al., ECCV 2018) on THUMOS14, with the published program's numbers.

D2-Net's authors report 38.7 average mAP (t-IoU 0.1:0.5). Not measured here: the features are not
part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/wtalc_thumos.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config() -> ConfigDict:
    """Return the fields of configs/common.py and W-TALC's own."""
    config = common.get_config()
    config.method = "wtalc"
    config.data.num_snippets = 750  # [snippets] longer videos are cropped at random
    # The published program trains for up to 100,000 steps.
    config.train.update(steps=20000, batch_size=10, eval_every=1000)
    config.train.pairs = 3  # [pairs] of videos that share a class, first in each batch
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-4)
    config.model = ConfigDict(
        {
            "dropout": 0.7,  # rate on the embeddings
        }
    )
    config.loss = ConfigDict(
        {
            "topk_divisor": 8,  # video score: mean of the k = ceil(T / 8) largest entries
            "weights": {
                "mil": 0.5,  # top-k MIL; lambda
                "co_activity": 0.5,  # co-activity similarity; 1 - lambda
            },
        }
    )
    config.localization.update(
        thresholds=(0.5, 0.5, 1),  # one, in the middle of the range of the class's T-CAM
        min_length=2,
        drop_first_snippet_only=False,
        class_rule="share_of_best",
        class_threshold=0.0,  # classes with a positive score
        topk_divisor=8,
        class_weight=0.7,
        outer="peak",
        nms="none",
    )
    return config
