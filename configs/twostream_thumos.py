"""Two-stream networks with semantic-aware mechanisms (CVPR 2023) on THUMOS14, the paper's numbers.

The paper: 46.2 average mAP (t-IoU 0.1:0.7), the best step on the test set. Not measured here: the
features are not part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/twostream_thumos.py --config.data.dir=FOLDER

The rows of the paper's Tables 3 and 5 are `--config configs/twostream_thumos.py:ROW`, ROW one of
fg, fg_bg, fg_bg_ct, fg_bg_ct_gui, full; attention, mil.
"""

from ml_collections import ConfigDict

from jaxtal.configs import common

# The loss terms in the order in which Table 3 adds them; Table 5 has the first three.
_TERMS = ("foreground", "background", "context", "guide", "semantic")
_ROWS = {
    "fg": ("both", 1),
    "fg_bg": ("both", 2),
    "fg_bg_ct": ("both", 3),
    "fg_bg_ct_gui": ("both", 4),
    "full": ("both", 5),
    "attention": ("attention", 3),
    "mil": ("mil", 3),
}


def get_config(row: str = "full") -> ConfigDict:
    """Return every field of a two-stream run: those of configs/common.py, and its own.

    Args:
        row: of the paper's Tables 3 to 6, see `_ROWS`.
    """
    config = common.get_config()
    config.method = "twostream"
    config.data.num_snippets = 750  # T, drawn from every training video
    # Longer test videos are thinned out to so many: T, unless it is set itself.
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")
    # An epoch of 200 videos has 13 steps: 100 epochs, evaluated after each.
    config.train.update(steps=1300, batch_size=16, log_every=13, eval_every=13)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-5)
    config.model = ConfigDict(
        {
            "embedding": "residual",  # x = f + ReLU(conv(f)); "plain": without f, safer (docs)
            "attention": "softmax",  # over foreground, context, background; "sigmoid" of each
            "branches": "both",  # averaged, or "attention" or "mil" alone (Tables 5, 6)
            "share_fc": False,  # one classifier for both branches
            "dropout": 0.5,  # before the MIL branch's classifier
            "topk_divisors": (8, 2, 2),  # sigma: k = T / 8 snippets for the foreground, ...
        }
    )
    config.loss = ConfigDict(
        {
            "fusion": "scores",  # losses of the branches' averaged scores; "losses": their average
            "label_norm": True,  # targets divided by their sum; False: multi-hot, as printed
            "guide_reduction": "mean",  # over a video's snippets, as printed; "sum": ACM-Net's
            "guide_stop_attention": False,  # the guide loss trains the logits only
            "dictionary_init": "class_mean",  # or "uniform", "class_mean_bg_global"
            "warmup": "loss_ramp",  # of the semantic loss; "freeze_dict": Q is fixed; "none"
            "warmup_steps": 130,  # 10 epochs
            "weights": {
                "foreground": 1.0,  # L_fg; the other weights are relative to it
                "context": 0.1,  # lambda 1
                "background": 0.1,  # lambda 2
                "semantic": 5e-2,  # lambda 3
                "guide": 2e-3,  # lambda 4
            },
        }
    )
    config.localization.update(
        thresholds=(0.1, 0.9, 33),  # first, last, how many
        inclusive=True,  # an activation that equals a threshold is above it
        upsample=20,  # interpolated positions a snippet; 1: none
        min_length=2,  # positions
        class_rule="more_than",  # classes above alpha; if none, the best
        class_threshold=0.1,  # alpha
        class_weight=0.2,  # beta
        outer_ratio=0.2,
        nms="hard",
        nms_threshold=0.5,
        inclusive_iou=False,
    )
    if row not in _ROWS:
        raise ValueError(f"row {row!r}; wanted one of {', '.join(_ROWS)}")
    config.model.branches, terms = _ROWS[row]
    config.loss.weights.update(dict.fromkeys(_TERMS[terms:], 0.0))
    return config
