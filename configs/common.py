"""The fields that the configs of all methods share, with their defaults.

A method's THUMOS14 config starts from these fields, changes values and adds fields of its own; it
deletes none. Defaults are defined here only. Those of training, optimizer and localization are the
values of CO2-Net's published code.

The comment on a field is its documentation: the command line prints it with `--help`, and the
reference of config fields is generated from it. A unit comes first, in brackets.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Return the shared fields; a method's config sets `method`, `model` and `loss`."""
    return ConfigDict(
        {
            "method": "",  # a registered method: one of `jaxtal.methods.names()`
            "seed": 3552,  # of all random numbers: parameters, batches, dropout
            "population": 1,  # [models] M, trained at once; member i has the seed seed + i
            # Fields that differ between members, with one value for each member, e.g.
            # "optimizer.learning_rate=1e-4,5e-5 loss.weights.norm=0,1". Allowed: seed, learning
            # rate, weight decay and all loss weights.
            "vary": "",
            "precision": "float32",  # of the layers' matrix products; or "bfloat16"
            "mesh": {
                # [devices] size of the mesh axis that the population is divided over; -1: all
                # remaining devices that divide the population
                "member": -1,
                # [devices] size of the mesh axis that a batch is divided over; -1: all remaining
                # devices that divide the batch
                "data": 1,
                # placement of the features: "replicated" on each device, or "sharded" over the
                # devices of the axis `data`
                "features": "replicated",
            },
            "profile": False,  # write a trace of the second dispatch to profile/, for xprof
            "data": _data(),
            "model": {},
            "loss": {"weights": {}},  # one weight per loss term; 0 drops the term
            "train": {
                "steps": 5000,  # [updates] length of the training
                # [epochs] length of the training instead of `steps`; 0: none. An epoch has
                # videos / batch_size updates, rounded up
                "epochs": 0,
                "batch_size": 10,  # [videos] size of a batch
                # [updates] in one dispatch and one line of metrics; should divide eval_every
                "log_every": 20,
                "eval_every": 200,  # [updates] from one evaluation and checkpoint to the next
                "tensorboard": False,  # also log to tensorboard/; needs the extra `tensorboard`
            },
            "optimizer": {
                "learning_rate": 5e-5,  # of Adam; constant
                "weight_decay": 1e-3,  # L2 term, added to the gradients as in PyTorch's Adam
            },
            "localization": _localization(),
            "evaluation": {
                # a protocol; "": that of the method's authors for the data set
                "protocol": "",
                "plot_videos": 4,  # [videos] number of plotted test videos
                "save_activations": False,  # write activations.npz, the input of `jaxtal localize`
            },
        }
    )


def _data() -> dict[str, object]:
    return {
        "dir": "data",  # folder of the data set; "": generated videos, see `generator`
        "name": "Thumos14reduced",  # DS in DS-Annotations/ and DS-I3D-JOINTFeatures.npy
        "layout": "",  # a layout that `jaxtal data inspect --help` lists; "": detected
        # generated videos, used if `dir` is "": a preset and changes to its options, e.g.
        # "demo num_train=12 num_classes=3"; `jaxtal.data.synthetic` lists both. "": none
        "generator": "",
        "fps": 0.0,  # [frames/second] frame rate of the features; 0: that of the data set
        "stride": 0.0,  # [frames] from one snippet to the next; 0: that of the data set
        "window": 0.0,  # [frames] length of a snippet; 0: that of the data set
        # "rescaled": the features of each video were rescaled to a fixed number of snippets, which
        # divide its duration evenly; "grid": snippet i begins at i * stride / fps seconds
        "time": "grid",
        # of durations and segments in the annotations: "seconds"; "frames"; "segment_frames" or
        # "duration_frames", if only one of both is in frames
        "unit": "seconds",
        # [frames/second] frame rate of the frames that `unit` states; 0: that of the features
        "annotation_fps": 0.0,
        # axes of a video's features: T snippets, D features, C crops (averaged), 1 of length 1
        "axes": "TD",
        "streams": 2,  # in the columns of the features: 2, RGB then flow; 1, a single encoder
        "stream_widths": (),  # [features/snippet] width of each stream; (): equal parts
        "modality": "",  # train on this stream only: "rgb", "flow"; "": on all streams
        # verify the checksums of converted data: "auto": if it has them; "always": it must; "never"
        "verify": "auto",
        "train_subset": (),  # names of the subsets to train on; (): by their names
        # names of the subsets evaluated during training; (): by their names
        "validation_subset": (),
        "test_subset": (),  # names of the subsets to test on; (): by their names
        "strict": False,  # treat warnings of the examination of the data set as errors
        "skip_damaged": False,  # skip videos with missing or damaged features, with a warning
        "num_snippets": 500,  # [snippets] number sampled from each training video
        "min_snippets": 0,  # [snippets] minimum length; shorter videos get no detections
        # dtype of the features on the device: float32, float16, bfloat16; "": that of the files
        "device_dtype": "",
        "device_share": 0.5,  # share of the device's memory for features; larger data are streamed
    }


def _localization() -> dict[str, object]:
    return {
        "thresholds": (0.1, 0.9, 10),  # on the attention or T-CAM: first, last, number
        "inclusive": False,  # True: an activation equal to a threshold is above it
        "upsample": 1,  # [positions/snippet] density of the interpolation; 1: none
        "min_length": 1,  # [positions] minimum length of a proposal
        # skip thresholds that only snippet 0 exceeds, as the published code does
        "drop_first_snippet_only": True,
        # classes that are localized: "above" (score >= class_threshold) or "more_than" (>), else
        # the best class; "share_of_best" (> class_threshold times the best score); "top_two"
        "class_rule": "above",
        "class_threshold": 0.2,  # the threshold of class_rule
        "topk_divisor": 10,  # class score: mean of the max(1, floor(T / 10)) largest activations
        "class_weight": 0.2,  # weight of the class score in a proposal's score
        "outer_ratio": 0.25,  # length of each outer region, relative to the proposal's
        # outer regions: "joint", rounded up on the left and down on the right, one mean; "sides",
        # rounded down, at least 1, mean of two means; the papers': "symmetric", not rounded, one
        # mean; "padded", the same with 0 outside of the video; W-TALC's: "peak", the largest
        # activation inside instead of a contrast
        "outer": "joint",
        # drop proposals with a lower outer-inner contrast before NMS; None: keep all
        "min_contrast": config_dict.placeholder(float),
        "nms": "gaussian",  # "gaussian" or "linear" soft-NMS, "hard" NMS, "none"
        "sigma": 0.3,  # of "gaussian": the factor is exp(-(t-IoU)^2 / sigma)
        "nms_threshold": 0.7,  # t-IoU from which "linear" and "hard" suppress
        "inclusive_iou": True,  # t-IoU of the NMS with lengths + 1, as in the published code
        # drop detections with a lower score after NMS; None: keep all
        "min_score": config_dict.placeholder(float),
        # drop detections below this share of the best score after NMS; None: keep all
        "relative_score": config_dict.placeholder(float),
        "relative_to": "class",  # the best score of the "class" in the video, or of the "video"
    }
