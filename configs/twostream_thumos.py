"""Two-stream networks with semantic-aware mechanisms (CVPR 2023) on THUMOS14, the paper's numbers.

The paper: 46.2 average mAP (t-IoU 0.1:0.7), the best step on the test set. Not measured here: the
features are not part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/twostream_thumos.py --config.data.dir=FOLDER

`--config configs/twostream_thumos.py:ROW` selects a row of the paper's Tables 3 and 5: fg, fg_bg,
fg_bg_ct, fg_bg_ct_gui, full; attention, mil. `:paper` is the full method as printed.
"""

from ml_collections import ConfigDict

from jaxtal.configs import common

# The loss terms in the order in which Table 3 adds them; Table 5 uses the first three.
_TERMS = ("foreground", "background", "context", "guide", "semantic")
_ROWS = {
    "fg": ("both", 1),
    "fg_bg": ("both", 2),
    "fg_bg_ct": ("both", 3),
    "fg_bg_ct_gui": ("both", 4),
    "full": ("both", 5),
    "attention": ("attention", 3),
    "mil": ("mil", 3),
    "paper": ("both", 5),
}


def get_config(row: str = "full") -> ConfigDict:
    """Return all fields of a two-stream run.

    Args:
        row: a row of the paper's Tables 3 to 6: "fg", "fg_bg", "fg_bg_ct", "fg_bg_ct_gui", "full",
            "attention" or "mil"; or "paper", "full" with the printed form of each equation.

    Returns:
        The fields of configs/common.py and the two-stream network's own.

    Raises:
        ValueError: the row does not exist.
    """
    config = common.get_config()
    config.method = "twostream"
    config.data.num_snippets = 750  # [snippets] T, number sampled from each training video
    # [snippets] longer test videos are subsampled to this length; follows num_snippets
    config.data.test_snippets = config.data.get_oneway_ref("num_snippets")

    # An epoch of 200 videos has 13 steps: 100 epochs, evaluated after each.

    config.train.update(steps=1300, batch_size=16, log_every=13, eval_every=13)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-5)
    config.model = ConfigDict(
        {
            "embedding": "residual",  # x = f + ReLU(conv(f)); or "plain": x = ReLU(conv(f))
            # "softmax" over foreground, context and background; or "sigmoid" of each
            "attention": "softmax",
            "branches": "both",  # "both", averaged; "attention", "mil" (Tables 5 and 6)
            "share_fc": False,  # True: one classifier for both branches
            "dropout": 0.5,  # rate before the classifier of the MIL branch
            # sigma of foreground, context, background: k = max(1, floor(T / sigma)) snippets
            "topk_divisors": (8, 2, 2),
        }
    )
    config.loss = ConfigDict(
        {
            "fusion": "scores",  # of the branches: average the "scores" or the "losses"
            "label_norm": True,  # True: targets sum to 1; False: multi-hot, as printed (eq. 5)
            "guide_reduction": "mean",  # over the snippets: "mean", as printed; "sum", as ACM-Net
            # background of eq. 7, of attention a and logits p: "softmax_of_product", softmax(a p);
            # "product_of_softmax", a softmax(p); "softmax", softmax(p); "product", a p
            "guide_background": "softmax_of_product",
            "guide_stop_attention": False,  # True: the guide loss trains the logits only
            "dictionary_init": "class_mean",  # "class_mean", "class_mean_bg_global", "uniform"
            # "loss_ramp": the semantic loss rises from 0; "freeze_dict": fixed dictionary; "none"
            "warmup": "loss_ramp",
            "warmup_steps": 130,  # [updates] length of the warm-up; 10 epochs
            "weights": {
                "foreground": 1.0,  # L_fg, foreground
                "context": 0.1,  # L_ct; lambda 1
                "background": 0.1,  # L_bg; lambda 2
                "semantic": 5e-2,  # L_smt, semantic; lambda 3
                "guide": 2e-3,  # L_gui, guide; lambda 4
            },
        }
    )
    config.localization.update(
        thresholds=(0.1, 0.9, 33),
        inclusive=True,
        upsample=20,
        min_length=2,
        class_rule="more_than",
        class_threshold=0.1,
        class_weight=0.2,
        outer_ratio=0.2,
        nms="hard",
        nms_threshold=0.5,
        inclusive_iou=False,
    )
    if row not in _ROWS:
        raise ValueError(f"row {row!r}; wanted one of {', '.join(_ROWS)}")
    config.model.branches, terms = _ROWS[row]
    config.loss.weights.update(dict.fromkeys(_TERMS[terms:], 0.0))
    if row == "paper":
        _as_printed(config)
    return config


def _as_printed(config: ConfigDict) -> None:
    # Eq. 7 prints a logit where a probability is meant: it stays a softmax.
    config.train.epochs = 100
    config.loss.label_norm = False  # eq. 5
    config.localization.outer = "padded"  # eq. 9
