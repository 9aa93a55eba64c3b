"""CO2-Net (Hong et al., ACM Multimedia 2021) on THUMOS14, with the published code's numbers.

The paper: 44.6 average mAP (t-IoU 0.1:0.7), the best step on the test set. Not measured here: the
features are not part of this project. Put `Thumos14reduced-I3D-JOINTFeatures.npy` beside
`Thumos14reduced-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/co2net_thumos.py --config.data.dir=FOLDER

`--config configs/co2net_thumos.py:paper` has what the paper says where it differs from the code.
"""

from ml_collections import ConfigDict, config_dict


def get_config(preset: str = "code") -> ConfigDict:
    """Every field of a CO2-Net run; see the comments.

    Args:
        preset: "code", the published program's values, or "paper" (METHODS 2.b, where they differ).
    """
    config = ConfigDict(
        {
            "method": "co2net",
            "seed": 3552,
            "population": 1,  # M models trained at once, with the seeds seed, seed + 1, ...
            # In what else they differ: "optimizer.learning_rate=1e-4,5e-5 loss.weights.norm=0,1",
            # a value for each member; also loss weights, weight decay, seed.
            "vary": "",
            "precision": "float32",  # of the layers' products; "bfloat16": the rest stays float32
            # Devices: those that share the members and those that share a batch; -1: all the rest
            # that the population, or the batch, can be divided over.
            "mesh": {
                "member": -1,
                "data": 1,
                "features": "replicated",  # on each device, or "sharded" over those of `data`
            },
            "profile": False,  # write a trace of a few steps to profile/, for xprof
            "data": {
                "dir": "data",  # "" = the embedded generator of untrimmed videos
                "name": "Thumos14reduced",  # <DS> in <DS>-Annotations, <DS>-I3D-JOINTFeatures.npy
                "layout": "",  # as python -m jaxtal.datasets lists them; "" = what is recognized
                "fps": 0.0,  # frames per second of the features; 0 = as the data set or layout says
                "stride": 0.0,  # frames from one snippet to the next; 0 = the same
                "window": 0.0,  # frames that a snippet is computed from; 0 = the same
                "skip_damaged": False,  # leave out videos without features or with damaged ones
                "num_snippets": 500,  # N, snippets drawn from every training video
                "min_snippets": 0,  # shorter videos train in pairs only and get no detections
                "device_dtype": "",  # features on the device: float32, float16, bfloat16; "" = own
                "device_share": 0.5,  # of the device's memory for features; more are streamed
            },
            # "code" or "paper": where the published code and the paper differ.
            "model": {
                "attention_unit": "code",  # dropout 0.5, also on the logit; paper: 0.7, not there
                "classifier": "code",  # fusion, then two layers; paper: three, no fusion
                "ccm_dropout": "code",  # leaky ReLU and dropout in the CCM; paper: neither
                "fusion": "ccm",  # or "add", "concat", "se", "ssma" (Table 6)
                "ccm_main": "global",  # of the CCM's main modality; or "local" (Table 5)
                "ccm_auxiliary": "local",  # of its auxiliary one; or "global"
                "pool_window": 1,  # snippets that T-CAM and attentions are averaged over, odd
            },
            "loss": {
                "topk_divisor": 7,  # k = max(1, floor(T / 7)) snippets make a video's score
                "suppression": "min_shift",  # in training; the paper's is "product"
                "mutual_metric": "mse",  # mse, mae, kl, js (Table 4)
                "mutual_alpha": 0.5,
                "opposition_reduction": "mean",  # over a video's snippets; or "sum"
                "norm_reduction": "mean",  # or "sum", the L1 norm
                "weights": {  # 0 drops a term (Table 3)
                    "mil_original": 1.0,
                    "mil_suppressed": 1.0,
                    "co_activity": 1.0,
                    "mutual": 1.0,
                    "opposition": 0.8,
                    "norm": 0.8,
                },
            },
            "train": {
                "steps": 5000,
                "batch_size": 10,
                "pairs": 3,  # the batch's first 2 * pairs videos share a class two by two
                "log_every": 20,  # steps per dispatch and line of metrics; should divide eval_every
                "eval_every": 200,  # steps; each evaluation is followed by a checkpoint
                "tensorboard": False,  # log to tensorboard/ too; needs the extra `tensorboard`
            },
            "optimizer": {"learning_rate": 5e-5, "weight_decay": 1e-3},
            "localization": {
                "thresholds": (0.1, 0.9, 10),  # first, last, how many
                "class_threshold": 0.2,
                "topk_divisor": 10,
                "class_weight": 0.2,
                "flank": 0.25,
                "nms": "gaussian",  # soft-NMS; or "linear", "hard", "none"
                "sigma": 0.3,  # of "gaussian": scores are multiplied by exp(-iou^2 / sigma)
                "nms_threshold": 0.7,  # of "linear" and "hard": the t-IoU from which they act
                "count_ends": True,  # t-IoU of the NMS with lengths + 1, as published
                "min_score": config_dict.placeholder(float),  # drops weaker detections
                "skip_lone_zero": True,
            },
            "evaluation": {
                "protocol": "",  # "" = the one that the method's authors use on this data set
                "plot_videos": 4,
                "save_activations": False,  # to activations.npz, for python -m jaxtal.localize
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
    # The paper does not state how opposition and norm are reduced. They stay means: sums under its
    # weights of 0.8 press all attentions below the lowest threshold (docs/results.md).
    config.loss.suppression = "product"
