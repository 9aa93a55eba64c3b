"""Trained models: detections in new videos, without the code of the network.

A `Model` is made from a run's work directory (`jaxtal/inference/restore.py`) or from an exported
file (`jaxtal/inference/exported.py`).
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxtal.data import inputs as inputs_of
from jaxtal.data.dataset import TimeGrid, in_words
from jaxtal.data.detections import Detections
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.segments import Segments, clip, concatenate
from jaxtal.errors import CheckpointError, ConfigError, DataError, JaxtalError, warn
from jaxtal.input_pipeline.packing import length_buckets, subsample_uniformly
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.proposals import localize_videos
from jaxtal.localization.scoring import ScoreSpec, check_finite

_T = TypeVar("_T")
_Output = tuple[int, dict[str, np.ndarray]]  # index and outputs of a video, {} if it is too short


class VideoPrediction(NamedTuple):
    """Prediction for one video, as passed to the `callback` of `Model.predict`.

    Attributes:
        video: Name and feature file of the video.
        outputs: Outputs of the network as {name: float32 array (rows, n)}, or (1, n) for outputs
            with one value per video; {} for a video shorter than `Model.min_snippets`.
        detections: Detections of the video, times in seconds.
        grid: Time grid of the video's features.
    """

    video: FeatureFile
    outputs: dict[str, np.ndarray]
    detections: Segments
    grid: TimeGrid


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """Trained model, with everything besides features that detections in new videos need.

    `load_model` and `TrainResult.model` return one.

    Attributes:
        method: Name of the method, such as "co2net".
        classes: Names of the C classes, in the order of the network's outputs.
        time_grid: Time grid of the training data, the default for inputs without their own.
        feature_width: Features per snippet of all streams together.
        stream_widths: Features per snippet of each stream; (): RGB features, then as many of
            optical flow.
        min_snippets: Length in snippets below which a video has no detections.
        test_length_limits: Smallest and largest number of rows per video that the network gets,
            subsampled uniformly; None for no upper limit.
        score_spec: Mapping from the outputs of the network to proposal scores.
        localization_inputs: Names of the outputs that `score_spec` reads.
        localization: Settings of the localization: thresholds, non-maximum suppression.
        variables: Parameters, a tree of arrays, the first argument of `apply_fn`.
        apply_fn: The jitted network: (variables, features (B, T, 2D) float32 with zeros after a
            video's end, lengths (B,) int32 in rows) -> {name: (B, T, n) float32 array, or
            (B, 1, n) for outputs with one value per video}.
        rescaled: True if the features of each training video were rescaled to a fixed number of
            snippets, so that times follow from the durations of videos and not from `time_grid`.

    Examples:
        >>> model = jaxtal.load_model("runs/co2net_demo")
        >>> detections = model.predict("features/")
    """

    method: str
    classes: tuple[str, ...]
    time_grid: TimeGrid
    feature_width: int
    min_snippets: int
    test_length_limits: tuple[int, int | None]
    score_spec: ScoreSpec
    localization_inputs: tuple[str, ...]
    localization: LocalizationConfig
    variables: Any
    apply_fn: Callable[..., dict[str, jax.Array]]
    stream_widths: tuple[int, ...] = ()
    rescaled: bool = False

    def __repr__(self) -> str:
        grid, width = self.time_grid, in_words(self.stream_widths) or self.feature_width
        return (
            f"Model({self.method}, {len(self.classes)} classes, {width} features per "
            f"snippet, {grid.fps:g} fps, stride {grid.stride:g})"
        )

    def predict(
        self,
        inputs: Any,
        *,
        time_grid: TimeGrid | None = None,
        skip_damaged: bool = False,
        callback: Callable[[VideoPrediction], None] | None = None,
        **options: Any,
    ) -> Detections:
        """Detect actions in videos.

        Feature files are read batch by batch, with at most two batches in memory.

        Args:
            inputs: Features of the videos. A path: VIDEO.npy, a folder of such files, or a data
                set. In memory: a `Dataset`, a (T, 2D) array of any float type with the RGB columns
                before optical flow, a list of such arrays (named video_0, video_1, ...), or a dict
                of them by video name.
            time_grid: Time grid of the features; None for the grid of `inputs`, if they have one,
                else the grid of the training data.
            skip_damaged: Skip videos that cannot be used, with a warning, instead of raising.
            callback: Function that is called with the prediction of each video.
            **options: Statements about a path or a data set, fields of
                `jaxtal.data.reading.ReadingOptions` such as `axes="DT"`.

        Returns:
            The detections of all videos, times in seconds, classes in the order of `classes`.

        Raises:
            DataError: Features are damaged, of another width, no usable video remains, or an
                option does not exist or has no effect.
            NonFiniteError: An output of the network is not finite.

        Examples:
            >>> features = np.load("features/video_a.npy")  # (T, 2D)
            >>> model.predict({"video_a": features}).to_json("detections.json")
        """
        reads, grid, _ = inputs_of.find(inputs, self.time_grid, time_grid, **options)
        opened = read_usable(reads, skip_damaged)
        videos = [video for video in opened if video is not None]
        if self.rescaled:
            _warn_of_unknown_times(videos)
        detections: dict[int, Segments] = {}
        for batch in self._batches(videos, skip_damaged):
            for index, found in self._localize(batch, videos, grid):
                detections[index] = found.detections
                if callback is not None:
                    callback(found)
        if not detections:
            raise DataError("no usable video to predict; see the warnings above")
        kept = sorted(detections)
        parts = [
            dataclasses.replace(detections[index], video=np.full(len(detections[index]), number))
            for number, index in enumerate(kept)
        ]
        names = tuple(videos[index].name for index in kept)
        return Detections(concatenate(parts), names, self.classes)

    def outputs(self, features: Any) -> dict[str, np.ndarray]:
        """Compute the outputs of the network for one video.

        Args:
            features: (T, 2D) array of any float type, RGB columns before optical flow.

        Returns:
            Outputs as {name: float32 array (rows, n)}, or (1, n) for outputs with one value per
            video. "cas" is the class activation sequence. There is one row per snippet, unless
            `test_length_limits` subsamples a long video.

        Raises:
            DataError: The features are invalid, or the video is shorter than `min_snippets`.

        Examples:
            >>> outputs = model.outputs(np.load("features/video_a.npy"))
            >>> outputs["cas"].shape  # (T, C), or (T, C + 1) with background
        """
        video = inputs_of.from_array("video_0", features)
        for batch in self._batches([video], skip_damaged=False):
            for _, outputs in batch:
                if outputs:
                    return outputs
        raise DataError(
            f"features: {video.shape[0]} snippets; this model was trained without videos of "
            f"fewer than {self.min_snippets}"
        )

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Export the model to one file that `load_model` reads without the code of the network.

        Args:
            path: File to write, such as "model.jaxtal".

        Returns:
            The path.

        Raises:
            CheckpointError: The method scores proposals with its own code instead of a `ScoreSpec`.
            DataError: The file cannot be written.

        Examples:
            >>> path = model.export("model.jaxtal")
            >>> detections = jaxtal.load_model(path).predict("features/")
        """
        from jaxtal.inference import exported  # imports this module

        exported.export_model(path, self)
        return Path(path)

    def _batches(
        self, videos: Sequence[FeatureFile], skip_damaged: bool
    ) -> Iterator[list[_Output]]:
        """Yield the outputs of all usable videos, too short ones first.

        The next batch is read while the device computes the present one.
        """
        usable = read_usable([partial(self._fitting, video) for video in videos], skip_damaged)
        known = np.array([video is not None for video in usable], bool)
        snippets = np.array([video.shape[0] for video in videos], np.int64)
        long = snippets >= self.min_snippets
        yield [(int(index), {}) for index in np.flatnonzero(known & ~long)]
        rows = np.clip(snippets, *self.test_length_limits)
        pending, zeros = None, []
        for time, members in length_buckets(rows, known & long):
            chosen = subsample_uniformly(snippets[members], rows[members], time)
            features, lengths = self._read(videos, members, rows, chosen, skip_damaged)
            empty = (lengths > 0) & ~features.any(axis=(1, 2))
            zeros += [videos[member].name for member in members[empty]]
            features, lengths = jax.device_put((features, lengths))
            started = members, lengths, self.apply_fn(self.variables, features, lengths)
            if pending is not None:
                yield _fetch(*pending)
            pending = started
        if pending is not None:
            yield _fetch(*pending)
        if zeros:
            first = ", ".join(zeros[:3])
            warn(f"the features of {len(zeros)} of {len(videos)} videos are all zero: {first}")

    def _fitting(self, video: FeatureFile) -> FeatureFile:
        """Return `video`; raise DataError if the width of its features is not the model's."""
        if video.shape[1] != self.feature_width:
            turned = video.shape[0] == self.feature_width
            hint = " (give its transpose, or axes=DT, so that rows are snippets)" if turned else ""
            two = len(self.stream_widths) != 1
            raise DataError(
                f"{video.where}: {video.shape[1]} features per snippet; wanted "
                f"{self.feature_width}{', RGB then flow' * two}, extracted with the network of the "
                f"training data{hint}"
            )
        return video

    def _read(self, videos, members, rows, chosen, skip_damaged: bool):
        """Return features (B, T, 2D) of the `chosen` snippets, and lengths (B,), 0 if skipped."""
        features = np.zeros((*chosen.shape, self.feature_width), np.float32)
        lengths = np.zeros(len(members), np.int32)
        for row, member in enumerate(members):
            if member >= 0:
                wanted = chosen[row, : rows[member]]
                fill = partial(_fill, features[row], videos[member], wanted)
                others = (video.read for video in videos if video is not videos[member])
                lengths[row] = _skip_if_damaged(fill, skip_damaged, others) or 0
        return features, lengths

    def _localize(
        self, batch: list[_Output], videos: Sequence[FeatureFile], grid: TimeGrid
    ) -> Iterator[tuple[int, VideoPrediction]]:
        mine = [videos[index] for index, _ in batch]
        grids = grid.of(mine)
        for video, (_, output) in zip(mine, batch, strict=True):
            if output:
                check_finite(output, self.localization_inputs, f"video {video.name}")
        detections = localize_videos(
            (self.score_spec.compute(output) if output else None for _, output in batch),
            [len(output["cas"]) if output else 1 for _, output in batch],
            [video.shape[0] for video in mine],
            grids,
            self.localization,
        )
        detections = clip(detections, [video.duration for video in mine])
        for place, (index, output) in enumerate(batch):
            found = detections.take(detections.video == place)
            yield index, VideoPrediction(mine[place], output, found, grids.take(place))


def load_model(
    path: str | os.PathLike[str],
    *,
    member: int | None = None,
    ensemble: bool = False,
    checkpoint: int | str = "last",
) -> Model:
    """Load a trained model from a work directory or an exported file.

    An exported file is a program: load files from trusted sources only.

    Args:
        path: Work directory of a run, or a file written by `Model.export`.
        member: Member of a population, counted from 0; None for a run with one model, or with
            `ensemble`.
        ensemble: Average the outputs of all members of a population that have not diverged.
        checkpoint: "last", the newest one; "best", the kept one with the best evaluation
            during training (`best_checkpoint.best_step`), on the validation videos if there were
            any, else on the test videos; or its step. A damaged one is never replaced by another.

    Returns:
        The model.

    Raises:
        CheckpointError: A file is missing, damaged or of another version, the member does not
            exist, or its training has diverged.
        ConfigError: `member`, `ensemble` or `checkpoint` is given for an exported file.
        DataError: A file cannot be read.

    Examples:
        >>> model = jaxtal.load_model("runs/co2net_demo")
        >>> print(model.classes, model.feature_width)
    """
    path = Path(path)
    if path.is_dir():
        from jaxtal.inference import restore

        return restore.load_work_directory(path, member, ensemble, checkpoint)
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such work directory and no such file; give the workdir=... of a training "
            "run, or a file written by Model.export"
        )
    if member is not None or ensemble or checkpoint != "last":
        raise ConfigError(
            f"member=..., ensemble=True and checkpoint=... are for a work directory; {path} is a "
            "file, which holds one model"
        )
    from jaxtal.inference import exported  # imports neither flax nor the methods

    return exported.load_exported(path)


def _warn_of_unknown_times(videos: Sequence[FeatureFile]) -> None:
    if unknown := sum(video.fps is None for video in videos):
        warn(
            f"the model was trained on rescaled features: the times of {unknown} of {len(videos)} "
            "videos are wrong; give a data set with durations, and time=rescaled"
        )


def _fill(into: np.ndarray, video: FeatureFile, wanted: np.ndarray) -> int:
    """Copy the `wanted` snippets of a video to the first rows, and return their number."""
    features = video.read()
    if features.shape != video.shape:
        raise DataError(f"{video.where}: the file changed while it was read; predict again")
    into[: len(wanted)] = features[wanted]
    return len(wanted)


def _fetch(members, lengths, outputs) -> list[_Output]:
    """Return the outputs of the videos of a batch, without padding and skipped videos."""
    lengths, outputs = jax.device_get((lengths, outputs))
    return [
        (int(member), {name: out[row, : lengths[row]] for name, out in outputs.items()})
        for row, member in enumerate(members)
        if lengths[row]
    ]


def read_usable(reads: Sequence[Callable[[], _T]], skip_damaged: bool) -> list[_T | None]:
    """Return the results of functions, one a video; skip videos that cannot be used, if allowed.

    Args:
        reads: Functions without arguments that raise JaxtalError for an unusable video.
        skip_damaged: Log a warning and return None instead of raising.

    Returns:
        The results, None for skipped videos.

    Raises:
        DataError: A function raised JaxtalError, and `skip_damaged` is False.
    """

    def read(index: int) -> _T | None:
        others = (other for place, other in enumerate(reads) if place != index)
        return _skip_if_damaged(reads[index], skip_damaged, others)

    return [read(index) for index in range(len(reads))]


def _skip_if_damaged(
    read: Callable[[], _T], skip_damaged: bool, others: Iterable[Callable[[], Any]]
) -> _T | None:
    """Return the result of `read`, None for a skipped video; offer skipping if another is usable.

    The other videos are read only after a failure.
    """
    try:
        return read()
    except JaxtalError as error:
        if not skip_damaged:
            hint = "; skip_damaged=True skips such videos" if any(map(_works, others)) else ""
            raise DataError(f"{error}{hint}") from None
        warn(f"skipped: {error}")
        return None


def _works(read: Callable[[], Any]) -> bool:
    try:
        read()
    except JaxtalError:
        return False
    return True
