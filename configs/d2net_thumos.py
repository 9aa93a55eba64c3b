"""D2-Net (Narayan et al., ICCV 2021) on THUMOS14, with the published code's numbers.

The paper: mAP 65.7, 60.2, 52.3, 43.4, 36.0 at t-IoU 0.1 to 0.5, the best step on the test set, on
the authors' reduced list of instances (protocol thumos_d2). Not measured here: the features are not
part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/d2net_thumos.py --config.data.dir=FOLDER

`--config configs/d2net_thumos.py:paper` has what the paper says where it differs from the code.
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config(preset: str = "code") -> ConfigDict:
    """Return every field of a D2-Net run: those of configs/common.py, and its own.

    Args:
        preset: "code", the published program's values, or "paper", the paper's where they differ.
    """
    config = common.get_config()
    config.method = "d2net"
    config.data.num_snippets = 750  # M: longer videos are cropped at random, shorter ones padded
    config.train.update(steps=20000, batch_size=20, eval_every=500)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-4)
    config.model = ConfigDict(
        {
            "kernel_size": 3,  # of the two hidden temporal convolutions, odd
            "dilation": 1,  # of all three
            "classifier_kernel_size": 1,  # of the last one
            "residual": True,  # in the code; the paper does not mention it
            "dropout": 0.7,  # on the last features
            "padding": "masked",  # as if every video were alone; or "published": padding acts
        }
    )
    config.loss = ConfigDict(
        {
            "classification": "discriminative",  # or "focal", "cross_entropy" (Table 3)
            "topk_divisor": 8,  # k = ceil(T / 8) snippets make a video's probability
            "foreground_threshold": 0.5,  # of lambda, for the foreground embedding
            "background_threshold": 0.5,  # of 1 - lambda, for the background embedding
            "focusing": 2.0,  # beta
            "gamma": 0.01,  # of the compactness weights
            "separation_row": "list_index",  # whose w_fb: a published slip; "video": the right one
            "pairs": "any",  # of embeddings: a video may meet itself; the paper: "different"
            "reduction": "mean",  # over the classes; the paper: "sum"
            "reweight_positives": True,  # positive entries count C-fold; the paper: not
            "running_background": "peak",  # the most background-like snippet; the paper: "mean"
            "bottom_up_foreground": 0.5,  # pseudo-foreground has more bottom-up attention
            "bottom_up_background": 0.5,  # pseudo-background has less bottom-up attention
            "denoising": "pdmi",  # or "dmi", "l1", "bce" (Table 4), "none"
            "snippet_joint": "class_conditional",  # the paper: "joint"
            "video_joint": "filtered",  # without classes below 20 % of the best; paper: "joint"
            "denoising_start": 1002,  # the first step with denoising
            "denoising_every": 2,  # from then on every second step
            "gradient_cap": 1e3,  # bounds 1 / singular value in pDMI's gradient
            "weights": {
                "discriminative": 1.0,  # L_Dis, or what `classification` puts in its place
                "snippet_denoising": 0.1,  # L_DS
                "video_denoising": 0.1,  # L_DV
            },
        }
    )
    config.localization.update(
        thresholds=(0.025, 0.475, 19),  # first, last, how many
        min_length=2,  # snippets
        drop_first_snippet_only=False,
        class_rule="share_of_best",  # classes above half of the best class score
        class_threshold=0.5,
        class_scores="refined",  # pooled from attention x T-CAM; the paper: "cas"
        relative_attention=False,  # attention relative to half of its maximum in the video
        topk_divisor=8,
        class_weight=0.0,
        outer="sides",  # mean of both sides' means; "joint": one mean over both
        min_contrast=-0.4,  # the paper: None
        nms="hard",
        nms_threshold=0.3,
        inclusive_iou=False,
        relative_score=0.1,  # detections below this share of the best score are dropped
        relative_to="class",  # share of the best of its class; the paper: of the "video"
    )
    if preset == "paper":
        _as_in_paper(config)
    elif preset != "code":
        raise ValueError(f"preset {preset!r}; wanted code or paper")
    return config


def _as_in_paper(config: ConfigDict) -> None:
    config.train.batch_size = 10
    config.optimizer.weight_decay = 5e-3
    config.loss.update(
        separation_row="video",
        pairs="different",
        reduction="sum",
        reweight_positives=False,
        running_background="mean",
        snippet_joint="joint",
        video_joint="joint",
        denoising_start=0,
        denoising_every=1,
    )
    config.loss.weights.update(snippet_denoising=0.2, video_denoising=0.2)
    config.localization.update(
        thresholds=(0.025, 0.5, 20),
        class_scores="cas",
        outer="joint",
        min_contrast=None,
        nms_threshold=0.5,
        relative_to="video",
    )
