"""D2-Net (Narayan et al., ICCV 2021) on ActivityNet 1.2, with the published code's numbers.

The paper: 26.0 average mAP (t-IoU 0.5:0.95), the best step on the validation videos. Not measured
here: the features are not part of this project. Put `ActivityNet1.2-I3D-JOINTFeatures.npy` beside
`ActivityNet1.2-Annotations/` into `config.data.dir`.

    python -m jaxtal.main --config configs/d2net_anet12.py --config.data.dir=FOLDER

No command is published for this data set; the weight of the denoising loss is the paper's.
"""

from ml_collections import ConfigDict

from jaxtal.configs import d2net_thumos


def get_config(preset: str = "code") -> ConfigDict:
    """Return the THUMOS14 config with the values for ActivityNet 1.2.

    Args:
        preset: see `d2net_thumos.get_config`; the paper uses the thresholds of THUMOS14 here too.
    """
    config = d2net_thumos.get_config(preset)
    config.data.name = "ActivityNet1.2"
    # [snippets] minimum number of non-zero ones; other videos are not used
    config.data.min_snippets = 6
    config.model.update(kernel_size=5, dilation=2, classifier_kernel_size=5)
    config.loss.weights.update(snippet_denoising=1e-3, video_denoising=1e-3)
    if preset == "code":
        config.loss.update(topk_divisor=4, background_threshold=0.8, bottom_up_background=0.3)
        config.localization.update(class_rule="top_two", relative_attention=True, topk_divisor=4)
    return config
