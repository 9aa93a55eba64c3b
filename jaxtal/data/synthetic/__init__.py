"""The embedded default data set: untrimmed videos generated from a seed, no files on disk.

A video is a sum of things that last for a while, each a vector of a modality's latent space times
an amplitude over time: backgrounds, a venue, a style, action instances, their context, nuisances.
A fixed random projection with a soft ReLU makes the D features of a modality from them. The video
label is easy to tell (the venue lasts), the location hard: context shows what only the action
should, and each modality has distractors of its own. What marks the action is that RGB and flow
agree.

Shapes: modalities (RGB, flow) are the leading axis of 2; L is the latent width, M sub-modes.
"""

import dataclasses

from jaxtal.data.dataset import Dataset
from jaxtal.data.synthetic.annotations import annotations
from jaxtal.data.synthetic.config import SyntheticConfig
from jaxtal.data.synthetic.features import World, generate_video


def generate(config: SyntheticConfig) -> Dataset:
    """The data set that `config` describes.

    Returns:
        Videos with features (T, 2D), T = floor(duration * fps / stride), RGB first, non-negative.

    Raises:
        DataError: a field of `config` or the file `config.annotations` cannot be used.
    """
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))
    train, test = (
        tuple(generate_video(config, world, video, dataset.grid) for video in videos)
        for videos in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)
