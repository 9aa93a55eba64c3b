"""The hybrid of the three methods on THUMOS14: CO2-Net with the others' heads and losses.

No paper has it and it was not measured here: the features are not part of this project. Put
`Thumos14reduced-I3D-JOINTFeatures.npy` beside `Thumos14reduced-Annotations/` into
`config.data.dir`.

    python -m jaxtal.main --config configs/hybrid_thumos.py --config.data.dir=FOLDER

Its numbers are those of the methods that the parts come from, and for the rest what was found on
the training side of the demo's generated videos (configs/hybrid_demo.py).
"""

from ml_collections import ConfigDict

from jaxtal.configs import co2net_thumos, d2net_thumos, twostream_thumos

# The fields of `loss` that belong to the parts from the other two methods.
_DENOISING = (
    "denoising",
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
    """CO2-Net's config with the fields of the other two that the hybrid has."""
    config = co2net_thumos.get_config()
    config.method = "hybrid"
    parts = ((d2net_thumos, _DENOISING), (twostream_thumos, _DICTIONARY))
    for module, names in parts:
        theirs = module.get_config().loss
        config.loss.update({name: theirs[name] for name in names})
    config.loss.denoising_every = 1  # from `denoising_start` on
    config.loss.weights.update(
        foreground=1.0,  # L_fg of the attention branch; 0 takes the branch away, with background
        background=0.1,  # L_bg
        semantic=0.05,  # L_smt; 0: no semantic dictionary
        snippet_denoising=0.1,  # L_DS; 0, and of L_DV, too: no pDMI denoising
        video_denoising=0.1,  # L_DV
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
