"""Detections in videos that nobody annotated, from a trained model, without the model's code.

What a `Model` holds comes from a run's work directory (`jaxtal/inference/restore.py`) or from a file
that `python -m jaxtal.export` wrote (`jaxtal/inference/exported.py`).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.segments import Segments, concatenate
from jaxtal.errors import DataError, JaxtalError, warn
from jaxtal.input_pipeline.packing import length_buckets, subsample_uniformly
from jaxtal.localization import localize_videos
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.scoring import ScoreSpec, check_finite

_T = TypeVar("_T")
_Output = tuple[int, dict[str, np.ndarray]]  # a video's index and its outputs, {} if too short


class Prediction(NamedTuple):
    """What was found.

    Attributes:
        videos: names of the videos, without those that were left out.
        detections: in seconds; `video` counts `videos`, ascending, then as `nms.apply_nms`.
    """

    videos: tuple[str, ...]
    detections: Segments


class VideoPrediction(NamedTuple):
    """What was found in one video, as soon as it was.

    Attributes:
        video: where its features lie.
        outputs: the model's, {name: (rows, n)}, or (1, n) for what a video has once; {} for a video
            that is too short.
        detections: in seconds.
        grid: its time grid.
    """

    video: FeatureFile
    outputs: dict[str, np.ndarray]
    detections: Segments
    grid: TimeGrid


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model and all that detections in new videos need besides features.

    Attributes:
        method: name of the method.
        classes: names, in the order of the model's outputs.
        grid: the time grid of the training data.
        feature_width: numbers a snippet, 2D.
        min_snippets: shorter videos have no detections.
        row_limits: (least, most) rows fed of a video, spread evenly over it; None for no limit.
        recipe: how evidence follows from the outputs.
        localized: names of the outputs that it reads.
        localization: the numbers of the localization.
        variables: what `program` is called with first, arrays in a tree.
        program: (variables, features [B, T, 2D] float32, 0 after a video's end, lengths [B] int32)
            -> {name: [B, T, n], or [B, 1, n] for what a video has once}; jitted.
    """

    method: str
    classes: tuple[str, ...]
    grid: TimeGrid
    feature_width: int
    min_snippets: int
    row_limits: tuple[int, int | None]
    recipe: ScoreSpec
    localized: tuple[str, ...]
    localization: LocalizationConfig
    variables: Any
    program: Callable[..., dict[str, jax.Array]]

    def predict(
        self,
        videos: Sequence[FeatureFile],
        grid: TimeGrid | None = None,
        skip_damaged: bool = False,
        watch: Callable[[VideoPrediction], None] = lambda found: None,
    ) -> Prediction:
        """Detections in all videos; no more than two batches of features are in memory at once.

        Args:
            videos: with different names.
            grid: the features' time grid; None for the training data's.
            skip_damaged: leave out, with a warning, what cannot be used.
            watch: is told what was found in every video that is not left out, batch after batch.

        Raises:
            DataError: features are damaged or of another width, and not to be skipped; or no video
                is left.
            NotFiniteError: an output is not finite.
        """
        detections: dict[int, Segments] = {}
        for batch in self._batches(videos, skip_damaged):
            for index, found in self._localize(batch, videos, grid or self.grid):
                detections[index] = found.detections
                watch(found)
        if not detections:
            raise DataError("no video is left to predict; the warnings above say why")
        kept = sorted(detections)
        parts = [
            dataclasses.replace(detections[index], video=np.full(len(detections[index]), number))
            for number, index in enumerate(kept)
        ]
        return Prediction(tuple(videos[index].name for index in kept), concatenate(parts))

    def _batches(
        self, videos: Sequence[FeatureFile], skip_damaged: bool
    ) -> Iterator[list[_Output]]:
        """The outputs of all videos that are not left out, those that are too short first.

        While the device computes a batch the next one is read.
        """
        usable = [skip_if_damaged(partial(self._fitting, video), skip_damaged) for video in videos]
        known = np.array([video is not None for video in usable], bool)
        snippets = np.array([video.shape[0] for video in videos], np.int64)
        long = snippets >= self.min_snippets
        yield [(int(index), {}) for index in np.flatnonzero(known & ~long)]
        rows = np.clip(snippets, *self.row_limits)
        pending = None
        for time, members in length_buckets(rows, known & long):
            chosen = subsample_uniformly(snippets[members], rows[members], time)
            features, lengths = self._read(videos, members, rows, chosen, skip_damaged)
            started = members, lengths, self.program(self.variables, features, lengths)
            if pending is not None:
                yield _fetch(*pending)
            pending = started
        if pending is not None:
            yield _fetch(*pending)

    def _fitting(self, video: FeatureFile) -> FeatureFile:
        """`video`; UserError if its features are not as wide as the model's."""
        if video.shape[1] != self.feature_width:
            raise DataError(
                f"{video.where}: {video.shape[1]} features a snippet; wanted {self.feature_width}, "
                "RGB then flow, from the network that the training data's are from"
            )
        return video

    def _read(self, videos, members, rows, chosen, skip_damaged: bool):
        """Features [B, T, 2D] of the `chosen` snippets (B, T), and lengths [B]; 0: left out."""
        features = np.zeros((*chosen.shape, self.feature_width), np.float32)
        lengths = np.zeros(len(members), np.int32)
        for row, member in enumerate(members):
            if member >= 0:
                wanted = chosen[row, : rows[member]]
                fill = partial(_fill, features[row], videos[member], wanted)
                lengths[row] = skip_if_damaged(fill, skip_damaged) or 0
        return jax.device_put(features), jax.device_put(lengths)

    def _localize(
        self, batch: list[_Output], videos: Sequence[FeatureFile], grid: TimeGrid
    ) -> Iterator[tuple[int, VideoPrediction]]:
        mine = [videos[index] for index, _ in batch]
        grids = grid.of(mine)
        for video, (_, output) in zip(mine, batch, strict=True):
            if output:
                check_finite(output, self.localized, f"video {video.name}")
        detections = localize_videos(
            (self.recipe.compute(output) if output else None for _, output in batch),
            [len(output["cas"]) if output else 1 for _, output in batch],
            [video.shape[0] for video in mine],
            grids,
            self.localization,
        )
        for place, (index, output) in enumerate(batch):
            found = detections.take(detections.video == place)
            yield index, VideoPrediction(mine[place], output, found, grids.take(place))


def _fill(into: np.ndarray, video: FeatureFile, wanted: np.ndarray) -> int:
    """Put the `wanted` snippets of a video into the first rows; how many they are."""
    features = video.read()
    if features.shape != video.shape:
        raise DataError(f"{video.where}: the file has changed while it was read; predict again")
    into[: len(wanted)] = features[wanted]
    return len(wanted)


def _fetch(members, lengths, outputs) -> list[_Output]:
    """The outputs of the videos of a batch that were not left out, without padding."""
    lengths, outputs = jax.device_get((lengths, outputs))
    return [
        (int(member), {name: out[row, : lengths[row]] for name, out in outputs.items()})
        for row, member in enumerate(members)
        if lengths[row]
    ]


def skip_if_damaged(read: Callable[[], _T], skip_damaged: bool) -> _T | None:
    """What `read` returns; None, with a warning, if it raises DataError and may be left out."""
    try:
        return read()
    except JaxtalError as error:
        if not skip_damaged:
            raise DataError(f"{error}; --skip_damaged leaves such videos out") from None
        warn(f"left out: {error}")
        return None
