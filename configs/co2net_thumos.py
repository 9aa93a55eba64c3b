"""CO2-Net (Hong et al., ACM Multimedia 2021) on THUMOS14, with the published code's numbers.

The paper: 44.6 average mAP (t-IoU 0.1:0.7), the best step on the test set. Not measured here: the
features are not part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/co2net_thumos.py --config.data.dir=FOLDER

`--config configs/co2net_thumos.py:paper` takes the paper's values where they differ from those of
the code.
"""

from ml_collections import ConfigDict

from jaxtal.configs import common


def get_config(preset: str = "code") -> ConfigDict:
    """Return all fields of a CO2-Net run.

    Args:
        preset: "code" for the published program's values, "paper" for the paper's where they
            differ.

    Returns:
        The fields of configs/common.py and CO2-Net's own.

    Raises:
        ValueError: the preset does not exist.
    """
    config = common.get_config()
    config.method = "co2net"
    config.train.pairs = 3  # [pairs] of videos that share a class, first in each batch
    config.model = ConfigDict(
        {
            # "code": dropout 0.5 after layer 1 and on the logit; "paper": 0.7 between layers
            "attention_unit": "code",
            "classifier": "code",  # "code": fusion layer, then two layers; "paper": three layers
            # "code": leaky ReLU and dropout in the consensus modules; "paper": neither
            "ccm_dropout": "code",
            "fusion": "ccm",  # "ccm", "add", "concat", "se", "ssma" (CO2-Net, Table 6)
            "ccm_main": "global",  # context of the main modality: "global", "local" (Table 5)
            "ccm_auxiliary": "local",  # context of the auxiliary modality: "local", "global"
            "pool_window": 1,  # [snippets] moving average of T-CAM and attentions; odd
        }
    )
    config.loss = ConfigDict(
        {
            "topk_divisor": 7,  # video score: mean of the k = max(1, floor(T / 7)) largest entries
            "suppression": "min_shift",  # of the T-CAM in training; the paper's: "product"
            "mutual_metric": "mse",  # "mse", "mae", "kl", "js" (CO2-Net, Table 4)
            "mutual_alpha": 0.5,  # alpha: weight of the term that trains RGB; flow's has 1 - alpha
            "opposition_reduction": "mean",  # over the snippets of a video: "mean", "sum"
            "norm_reduction": "mean",  # over the snippets: "mean", "sum" (the L1 norm)
            "weights": {  # one weight per loss term; 0 drops the term (CO2-Net, Table 3)
                "mil_original": 1.0,  # L_mil of the original T-CAM
                "mil_suppressed": 1.0,  # L_mil of the suppressed T-CAM
                "co_activity": 1.0,  # L_cas, co-activity similarity
                "mutual": 1.0,  # L_ml, mutual learning of the attentions of RGB and flow
                "opposition": 0.8,  # L_oppo, attention against background probability
                "norm": 0.8,  # L_norm, sparsity of the attention
            },
        }
    )
    if preset == "paper":
        _as_in_paper(config)
    elif preset != "code":
        raise ValueError(f"preset {preset!r}; wanted code or paper")
    return config


def _as_in_paper(config: ConfigDict) -> None:
    config.model.update(attention_unit="paper", classifier="paper", ccm_dropout="paper")
    # The paper does not state how opposition and norm are reduced. They remain means: sums with its
    # weights of 0.8 push all attentions below the lowest threshold (docs/results/generated.md).
    config.loss.suppression = "product"
