"""The hybrid of the three methods on THUMOS14: CO2-Net with the others' heads and losses.

It is not published, and not measured on THUMOS14: the features are not part of this project. Put
`Thumos14reduced-I3D-JOINTFeatures.npy` beside `Thumos14reduced-Annotations/` into
`config.data.dir`.

    python -m jaxtal.main --config configs/hybrid_thumos.py --config.data.dir=FOLDER

Each part has the values of the method that it comes from. The others were chosen on the training
videos of the demo (configs/hybrid_demo.py).
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_thumos, d2net_thumos, twostream_thumos

# The fields of `loss` that belong to the parts from the other two methods.
_DENOISING = (
    "denoising",
    "denoising_video",
    "denoising_start",
    "denoising_every",
    "snippet_joint",
    "video_joint",
    "bottom_up_foreground",
    "bottom_up_background",
    "gradient_cap",
)
_DICTIONARY = ("dictionary_init", "warmup", "warmup_steps")


def get_config() -> ConfigDict:
    """Return CO2-Net's config and the fields of the other two methods that the hybrid uses."""
    config = co2net_thumos.get_config()
    config.method = "hybrid"
    parts = ((d2net_thumos, _DENOISING), (twostream_thumos, _DICTIONARY))
    for module, names in parts:
        theirs = module.get_config().loss
        config.loss.update({name: theirs[name] for name in names})
    config.loss.denoising_every = 1
    config.loss.weights.update(
        foreground=1.0,  # L_fg of the attention branch; 0: no attention branch and no L_bg
        background=0.1,  # L_bg, background
        semantic=0.05,  # L_smt, semantic; 0: no semantic dictionary
        snippet_denoising=0.1,  # L_DS; 0 for both L_DS and L_DV: no denoising
        video_denoising=0.1,  # L_DV, video level
    )
    config.optimizer.learning_rate = 1e-4
    config.localization.update(
        thresholds=(0.2, 0.9, 29),
        outer_ratio=0.5,
        outer="sides",
        sigma=0.2,
        drop_first_snippet_only=False,
    )
    return config
