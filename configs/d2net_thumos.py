"""D2-Net (Narayan et al., ICCV 2021) on THUMOS14, with the published code's numbers.

The paper: mAP 65.7, 60.2, 52.3, 43.4, 36.0 at t-IoU 0.1 to 0.5, the best step on the test set, on
the authors' reduced list of instances (protocol thumos_d2). Not measured here: the features are not
part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/d2net_thumos.py --config.data.dir=FOLDER

`--config configs/d2net_thumos.py:paper` takes the paper's values where they differ from the code's.
With its denoising loss as printed D2-Net does not train on the data sets that are measured here
(docs/methods/d2net.md); `:paper_bounded` is the same with a bounded gradient of that loss.
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config(preset: str = "code") -> ConfigDict:
    """Return all fields of a D2-Net run.

    Args:
        preset: "code" for the published program's values, "paper" for the paper's where they
            differ, "paper_bounded" for the paper's with a bounded gradient of the denoising loss.

    Returns:
        The fields of configs/common.py and D2-Net's own.

    Raises:
        ValueError: the preset does not exist.
    """
    config = common.get_config()
    config.method = "d2net"
    # [snippets] M: longer videos are cropped at random, shorter ones padded
    config.data.num_snippets = 750
    config.train.update(steps=20000, batch_size=20, eval_every=500)
    config.optimizer.update(learning_rate=1e-4, weight_decay=5e-4)
    config.model = ConfigDict(
        {
            "kernel_size": 3,  # [snippets] of the two hidden temporal convolutions; odd
            "dilation": 1,  # [snippets] of all three temporal convolutions
            "classifier_kernel_size": 1,  # [snippets] of the last temporal convolution; odd
            "residual": True,  # residual connections; the paper does not mention them
            "dropout": 0.7,  # rate on the last features
            # "masked": padding has no effect; "published": padded snippets enter the convolutions
            "padding": "masked",
        }
    )
    config.loss = ConfigDict(
        {
            "classification": "discriminative",  # or "focal", "cross_entropy" (D2-Net, Table 3)
            "topk_divisor": 8,  # video probability: mean of the k = ceil(T / 8) largest entries
            "foreground_threshold": 0.5,  # on lambda, for the foreground embedding
            "background_threshold": 0.5,  # on 1 - lambda, for the background embedding
            "focusing": 2.0,  # beta, exponent of the focal factor
            "gamma": 0.01,  # factor of the compactness weights
            # video that receives a separation weight: "list_index", an indexing error of the
            # published code; "video", the video of the embedding
            "separation_row": "list_index",
            # pairs of embeddings: "any", also a video with itself; the paper's: "different"
            "pairs": "any",
            "reduction": "mean",  # over the classes: "mean"; the paper's: "sum"
            "reweight_positives": True,  # factor C on positive entries; the paper's: False
            # of each video: "peak", the most background-like snippet; "mean", its background
            # embedding; the paper's: "sum", the same times the sum of its attention
            "running_background": "peak",
            "bottom_up_foreground": 0.5,  # pseudo-foreground: bottom-up attention above it
            "bottom_up_background": 0.5,  # pseudo-background: bottom-up attention below it
            "denoising": "pdmi",  # "pdmi", "dmi", "l1", "bce" (D2-Net, Table 4), "none"
            "denoising_video": "same",  # of the video level: as `denoising`, or one of its values
            # joint matrix of L_DS: "class_conditional"; the paper's: "joint"
            "snippet_joint": "class_conditional",
            # joint matrix of L_DV: "filtered", without classes below 20 % of the best; the
            # paper's: "joint"
            "video_joint": "filtered",
            "denoising_start": 1002,  # [updates] the first step with denoising
            "denoising_every": 2,  # [updates] from one step with denoising to the next
            "gradient_cap": 1e3,  # bound on 1 / singular value in the gradient of pDMI
            "weights": {
                "discriminative": 1.0,  # L_Dis, or the loss that `classification` names
                "snippet_denoising": 0.1,  # L_DS, snippet level
                "video_denoising": 0.1,  # L_DV, video level
            },
        }
    )
    config.localization.update(
        thresholds=(0.025, 0.475, 19),
        min_length=2,
        drop_first_snippet_only=False,
        class_rule="share_of_best",
        class_threshold=0.5,
        class_scores="refined",  # sequence to pool: attention x T-CAM; the paper's: "cas"
        relative_attention=False,  # divide the attention by half of its maximum in the video
        topk_divisor=8,
        topk_rounding="down",  # of the snippets T / topk_divisor; the paper's: "up"
        class_weight=0.0,
        outer="sides",
        min_contrast=-0.4,
        nms="hard",
        nms_threshold=0.3,
        inclusive_iou=False,
        relative_score=0.1,
        relative_to="class",
    )
    if preset not in ("code", "paper", "paper_bounded"):
        raise ValueError(f"preset {preset!r}; wanted code, paper or paper_bounded")
    if preset != "code":
        _as_in_paper(config)
    if preset == "paper_bounded":
        config.loss.gradient_cap = 1.0
    return config


def _as_in_paper(config: ConfigDict) -> None:
    # The paper is silent about residual connections, dropout 0.7, crops of 750 snippets and the
    # shortest proposal of 2 snippets: these are the code's.
    config.train.batch_size = 10
    config.optimizer.weight_decay = 5e-3
    config.model.classifier_kernel_size = 3
    config.loss.update(
        separation_row="video",
        pairs="different",
        reduction="sum",
        reweight_positives=False,
        running_background="sum",
        snippet_joint="joint",
        video_joint="joint",
        denoising_start=0,
        denoising_every=1,
        gradient_cap=1e12,  # none
    )
    config.loss.weights.update(snippet_denoising=0.2, video_denoising=0.2)
    config.localization.update(
        thresholds=(0.025, 0.5, 20),
        class_scores="cas",
        topk_rounding="up",
        outer="symmetric",
        min_contrast=None,
        nms_threshold=0.5,
        relative_to="video",
    )
