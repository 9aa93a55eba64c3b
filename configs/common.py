"""The fields that the configs of all methods share, with their defaults.

A method's THUMOS14 config begins with these, sets what differs, and adds fields of its own; none is
deleted. Defaults stand nowhere else: where a method sets nothing, the numbers below are used, which
for training, optimizer and localization are those of CO2-Net's published code.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Return what every run has; a method's config sets `method`, `model` and `loss`."""
    return ConfigDict(
        {
            "method": "",  # name of a registered method, e.g. "co2net"
            "seed": 3552,  # of everything random: parameters, batches, dropout
            "population": 1,  # M models trained at once, with the seeds seed, seed + 1, ...
            # In what else they differ: "optimizer.learning_rate=1e-4,5e-5 loss.weights.norm=0,1",
            # a value for each member; also loss weights, weight decay, seed.
            "vary": "",
            "precision": "float32",  # of the layers' products; "bfloat16": the rest stays float32
            "mesh": {
                # Devices that share the members and devices that share a batch; -1: all the rest
                # that the population, or the batch, can be divided over.
                "member": -1,
                "data": 1,  # devices that share a batch; -1 as for `member`
                "features": "replicated",  # on each device, or "sharded" over those of `data`
            },
            "profile": False,  # write a trace of a few steps to profile/, for xprof
            "data": _data(),
            "model": {},
            "loss": {"weights": {}},  # a weight for each term; 0 drops it
            "train": {
                "steps": 5000,  # parameter updates
                "batch_size": 10,  # videos in a batch
                "log_every": 20,  # steps per dispatch and line of metrics; should divide eval_every
                "eval_every": 200,  # steps; each evaluation is followed by a checkpoint
                "tensorboard": False,  # log to tensorboard/ too; needs the extra `tensorboard`
            },
            "optimizer": {
                "learning_rate": 5e-5,  # of Adam, constant
                "weight_decay": 1e-3,  # L2: added to the gradients, as PyTorch's Adam does
            },
            "localization": _localization(),
            "evaluation": {
                "protocol": "",  # "" = the one that the method's authors use on this data set
                "plot_videos": 4,  # test videos whose activations and detections are plotted
                "save_activations": False,  # to activations.npz, for jaxtal localize
            },
        }
    )


def _data() -> dict[str, object]:
    return {
        "dir": "data",  # the data set's folder; "" = generated videos, see `generator`
        "name": "Thumos14reduced",  # <DS> in <DS>-Annotations, <DS>-I3D-JOINTFeatures.npy
        "layout": "",  # as jaxtal data inspect --help lists them; "" = what is recognized
        # Without `dir`: a preset of the generated videos and what differs from it, e.g.
        # "demo num_train=12 num_classes=3"; jaxtal.data.synthetic lists both. "" = none
        "generator": "",
        "fps": 0.0,  # frames per second of the features; 0 = as the data set or layout says
        "stride": 0.0,  # frames from one snippet to the next; 0 = the same
        "window": 0.0,  # frames that a snippet is computed from; 0 = the same
        "skip_damaged": False,  # leave out videos without features or with damaged ones
        "num_snippets": 500,  # N, snippets drawn from every training video
        "min_snippets": 0,  # shorter videos get no detections
        "device_dtype": "",  # features on the device: float32, float16, bfloat16; "" = own
        "device_share": 0.5,  # of the device's memory for features; more are streamed
    }


def _localization() -> dict[str, object]:
    return {
        "thresholds": (0.1, 0.9, 10),  # first, last, how many
        "inclusive": False,  # an activation that equals a threshold is above it
        "upsample": 1,  # interpolated positions a snippet; 1: none
        "min_length": 1,  # positions; shorter runs are no proposals
        "drop_first_snippet_only": True,  # thresholds that only snippet 0 exceeds, as published
        "class_rule": "above",  # what is localized; or "more_than", "share_of_best", "top_two"
        "class_threshold": 0.2,  # what the rule compares a video's class scores with
        "topk_divisor": 10,  # the T / 10 largest activations make a video's class score
        "class_weight": 0.2,  # share of the class score in a proposal's score
        "outer_ratio": 0.25,  # outer region on either side, relative to the proposal's length
        "outer": "joint",  # one mean over both flanks; "sides": the mean of both sides' means
        "min_contrast": config_dict.placeholder(float),  # drops proposals with less, before NMS
        "nms": "gaussian",  # soft-NMS; or "linear", "hard", "none"
        "sigma": 0.3,  # of "gaussian": scores are multiplied by exp(-iou^2 / sigma)
        "nms_threshold": 0.7,  # of "linear" and "hard": the t-IoU from which they act
        "inclusive_iou": True,  # t-IoU of the NMS with lengths + 1, as published
        "min_score": config_dict.placeholder(float),  # drops weaker detections, after NMS
        "relative_score": config_dict.placeholder(float),  # the same, as a share of the best score
        "relative_to": "class",  # the best score of the class, or of the whole "video"
    }
