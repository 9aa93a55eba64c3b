"""What the trainer needs to know of a method."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtal.localization import LocalizationConfig


class Context(NamedTuple):
    """What a batch may depend on besides the data, and a loss besides the batch.

    Attributes:
        step: int32 scalar, the number of updates done before this one.
        key: for random choices of this step alone.
        run_key: the same at every step, for choices that outlast one, such as an epoch's order.
        state: the model's variables without gradient (a dict), to be returned updated.
    """

    step: jax.Array
    key: jax.Array
    run_key: jax.Array
    state: Any


@dataclasses.dataclass(frozen=True)
class Method:
    """A weakly supervised localisation method: everything that is its own, as plain functions.

    Attributes:
        name: as in ``config.method``.
        build: (config, C) -> flax module called as (features, mask, train=...) -> dict of outputs.
        sample: (Context, Index, config) -> Draw, what of the training videos makes a batch; runs
            inside the jitted step, or ahead of it where the features are streamed, so it has no
            ``context.state``.
        loss_terms: (outputs, Batch, Context, config) -> ({name: scalar}, state); the total is
            their sum weighted by ``config.loss.weights``.
        outputs: names of the outputs that localisation, scores and plots read, each [B, T, n], or
            [B, 1, n] for what a video has once.
        video_scores: ({name: (T, ...)} of one video, config) -> (C,) scores for the video-level
            mAP.
        recipe: (config) -> `Evidence`, how what proposals are made of follows from the outputs; or
            another object with its functions `of` and `activations`, which cannot be exported.
        localized: those of `outputs` that the recipe reads.
        localization: the type of ``config.localization``.
        check: (config) -> None; raises UserError for what no data could be trained with.
        check_data: (Dataset, config) -> None; raises UserError for data that cannot be trained on.
        initialise: (parameters, Dataset, config) -> parameters of a fresh run, where they depend on
            the training data. Leaves may have leading axes, one entry for every model.
        limit_updates: (updates, step, config) -> what is added to the parameters, where some must
            not change at a step.
        parts: (config) -> into how many equal parts a batch can be divided, so that devices can
            share it; a loss must not take a video of another part (see `mesh.whole`). By default
            its videos.
        row_limits: (config) -> (least, most) rows that are fed of a video at test time, spread
            evenly over its snippets; None for no limit. By default all its snippets.
        protocols: data set name -> the protocol in which the method's authors evaluate there.
        default_protocol: the same for any other data set; "" is the data set's official one.
    """

    name: str
    build: Callable[..., Any]
    sample: Callable[..., Any]
    loss_terms: Callable[..., Any]
    outputs: tuple[str, ...]
    video_scores: Callable[..., Any]
    recipe: Callable[..., Any]
    localized: tuple[str, ...]
    localization: type[LocalizationConfig] = LocalizationConfig
    check: Callable[..., None] = lambda config: None
    check_data: Callable[..., None] = lambda dataset, config: None
    initialise: Callable[..., Any] = lambda params, dataset, config: params
    limit_updates: Callable[..., Any] = lambda updates, step, config: updates
    parts: Callable[..., int] = lambda config: config.train.batch_size
    row_limits: Callable[..., tuple[int, int | None]] = lambda config: (1, None)
    protocols: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_protocol: str = ""

    def rows(self, lengths, config) -> np.ndarray:
        """(V,) rows that are fed at test time of videos of (V,) snippets."""
        return np.clip(lengths, *self.row_limits(config))

    def evidence(self, outputs: dict, config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sequence, gate and class scores, see `localization.propose`, from a video's outputs."""
        return self.recipe(config).of(outputs)

    def activations(self, outputs: dict, config) -> np.ndarray:
        """(T, C) in 0 to 1, how active each class is, a row for each that was fed."""
        return self.recipe(config).activations(outputs)
