"""ACM-Net (Qu et al., arXiv 2021) on THUMOS14, with the published program's numbers.

The authors of the two-stream network report 37.6 average mAP (t-IoU 0.1:0.7), the best step on the
test set. Not measured here: the features are not part of this project. Put
`Thumos14reduced-I3D-JOINTFeatures.npy` beside `Thumos14reduced-Annotations/` into
`config.data.dir`.

    python -m jaxtal.main --config configs/acmnet_thumos.py --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config() -> ConfigDict:
    """Return the fields of configs/common.py and ACM-Net's own."""
    config = common.get_config()
    config.method = "acmnet"
    config.data.num_snippets = 750  # [snippets] T, number sampled from each training video
    # [snippets] longer test videos are subsampled to this length; follows num_snippets
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    # An epoch of 200 videos has 13 steps: 1,000 epochs, as the published program.
    config.train.update(steps=13000, batch_size=16, log_every=13, eval_every=130)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-5)
    config.model = ConfigDict(
        {
            "dropout": 0.7,  # rate of whole snippets, and of entries, before the classifier
            # of instances, context, background: k = max(1, floor(T / divisor)) snippets
            "topk_divisors": (8, 3, 3),
        }
    )
    config.loss = ConfigDict(
        {
            "margin": 50.0,  # between the feature norms of instances, context and background
            "weights": {
                "foreground": 1.0,  # classification under the attention of instances
                "context": 1.0,  # classification under the attention of context
                "background": 1.0,  # classification under the attention of background
                "guide": 2e-3,  # attention against background probability; lambda 1
                "separation": 5e-5,  # feature norms; lambda 2
                "sparsity": 2e-4,  # attentions of instances and context; lambda 3
            },
        }
    )
    config.localization.update(
        thresholds=(0.15, 0.95, 17),
        inclusive=True,
        upsample=20,
        min_length=2,
        drop_first_snippet_only=False,
        class_rule="more_than",
        class_threshold=0.25,
        class_weight=0.0,
        outer_ratio=0.2,
        nms="hard",
        nms_threshold=0.55,
        inclusive_iou=False,
    )
    return config
