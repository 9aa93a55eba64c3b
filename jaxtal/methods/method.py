"""What the trainer needs to know of a method."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Context(NamedTuple):
    """What a loss may depend on besides the batch.

    Attributes:
        step: int32 scalar, the number of updates done before this one.
        key: for random choices inside the loss.
        state: the model's variables without gradient (a dict), to be returned updated.
    """

    step: jax.Array
    key: jax.Array
    state: Any


@dataclasses.dataclass(frozen=True)
class Method:
    """A weakly supervised localisation method: everything that is its own, as plain functions.

    Attributes:
        name: as in ``config.method``.
        build: (config, C) -> flax module called as (features, mask, train=...) -> dict of outputs.
        sample: (key, PackedVideos, config) -> Batch; runs inside the jitted step.
        loss_terms: (outputs, Batch, Context, config) -> ({name: scalar}, state); the total is
            their sum weighted by ``config.loss.weights``.
        check: (config) -> None; raises UserError for what no data could be trained with.
        check_data: (Dataset, config) -> None; raises UserError for data that cannot be trained on.
        outputs: names of the outputs that localisation, scores and plots read.
        video_scores: ({name: (T, ...)} of one video, config) -> (C,) scores for the video-level
            mAP.
        activations: the same -> (T, C) in 0 to 1, how active each class is, for plots.
        localize: ({name: (T, ...)} of one video, config) -> Segments in snippet units, video 0.
        protocols: data set name -> the protocol in which the method's authors evaluate there.
        default_protocol: the same for any other data set.
    """

    name: str
    build: Callable[..., Any]
    sample: Callable[..., Any]
    loss_terms: Callable[..., Any]
    check: Callable[..., None]
    check_data: Callable[..., None]
    outputs: tuple[str, ...]
    video_scores: Callable[..., Any]
    activations: Callable[..., Any]
    localize: Callable[..., Any]
    protocols: Mapping[str, str]
    default_protocol: str
