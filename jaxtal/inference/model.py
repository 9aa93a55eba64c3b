"""Trained models: detections in new videos, without the code of the network.

What a `Model` holds comes from a run's work directory (`jaxtal/inference/restore.py`) or from an
exported file (`jaxtal/inference/exported.py`).
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxtal.data import inputs as inputs_of
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.detections import Detections
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.segments import Segments, concatenate
from jaxtal.errors import CheckpointError, ConfigError, DataError, JaxtalError, warn
from jaxtal.input_pipeline.packing import length_buckets, subsample_uniformly
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.proposals import localize_videos
from jaxtal.localization.scoring import ScoreSpec, check_finite

_T = TypeVar("_T")
_Output = tuple[int, dict[str, np.ndarray]]  # a video's index and its outputs, {} if too short


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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model and all that detections in new videos need besides features.

    Attributes:
        method: name of the method.
        classes: names, in the order of the model's outputs.
        time_grid: of the training data; predictions assume it where the inputs state none.
        feature_width: numbers a snippet, 2D.
        min_snippets: shorter videos have no detections.
        test_length_limits: (least, most) rows per video, spread uniformly over it; None: no limit.
        score_spec: how evidence follows from the outputs.
        localization_inputs: names of the outputs that it reads.
        localization: the numbers of the localization.
        variables: what `apply_fn` is called with first, arrays in a tree.
        apply_fn: (variables, features [B, T, 2D] float32, 0 after a video's end, lengths [B] int32)
            -> {name: [B, T, n], or [B, 1, n] for what a video has once}; jitted.
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

    def __repr__(self) -> str:
        grid = self.time_grid
        return (
            f"Model({self.method}, {len(self.classes)} classes, {self.feature_width} features a "
            f"snippet, {grid.fps:g} fps, stride {grid.stride:g})"
        )

    def predict(
        self,
        inputs: Any,
        *,
        time_grid: TimeGrid | None = None,
        skip_damaged: bool = False,
        callback: Callable[[VideoPrediction], None] | None = None,
    ) -> Detections:
        """Return the detections in all videos of `inputs`.

        Files are read one after the other: no more than two batches of features are in memory.

        Args:
            inputs: a path (VIDEO.npy, a folder of such files, or a data set), a `Dataset`, a
                (T, 2D) array of features, RGB columns before flow, a list of such arrays, or a
                dict of them by video name.
            time_grid: of the features; None for what `inputs` states, or else the training data's.
            skip_damaged: leave out, with a warning, videos that cannot be used.
            callback: called with what was found in each video, batch after batch.

        Raises:
            DataError: features are damaged or of another width, and not to be skipped; or no video
                is left.
            NonFiniteError: an output is not finite.
        """
        reads, grid, _ = inputs_of.find(inputs, self.time_grid, time_grid)
        opened = [skip_if_damaged(read, skip_damaged) for read in reads]
        videos = [video for video in opened if video is not None]
        detections: dict[int, Segments] = {}
        for batch in self._batches(videos, skip_damaged):
            for index, found in self._localize(batch, videos, grid):
                detections[index] = found.detections
                if callback is not None:
                    callback(found)
        if not detections:
            raise DataError("no video is left to predict; the warnings above say why")
        kept = sorted(detections)
        parts = [
            dataclasses.replace(detections[index], video=np.full(len(detections[index]), number))
            for number, index in enumerate(kept)
        ]
        names = tuple(videos[index].name for index in kept)
        return Detections(concatenate(parts), names, self.classes)

    def outputs(self, features: Any) -> dict[str, np.ndarray]:
        """Return the network's outputs for one video.

        Args:
            features: a (T, 2D) array, RGB columns before flow.

        Returns:
            {name: (rows, n)}, "cas" among them, a row for every snippet that was fed (all of them,
            unless the method limits them); (1, n) for what a video has once.

        Raises:
            DataError: the features cannot be used, or the video is shorter than `min_snippets`.
        """
        video = inputs_of.from_array("video_0", features)
        for batch in self._batches([video], skip_damaged=False):
            for _, outputs in batch:
                if outputs:
                    return outputs
        raise DataError(
            f"features: {video.shape[0]} snippets; this model was trained to leave out videos of "
            f"fewer than {self.min_snippets}"
        )

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to one file, which `load_model` reads without the network's code.

        Raises:
            DataError: the method's score_spec is code of its own; the file cannot be written.
        """
        from jaxtal.inference import exported  # which builds models of this class

        exported.export_model(path, self)
        return Path(path)

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
        rows = np.clip(snippets, *self.test_length_limits)
        pending = None
        for time, members in length_buckets(rows, known & long):
            chosen = subsample_uniformly(snippets[members], rows[members], time)
            features, lengths = self._read(videos, members, rows, chosen, skip_damaged)
            started = members, lengths, self.apply_fn(self.variables, features, lengths)
            if pending is not None:
                yield _fetch(*pending)
            pending = started
        if pending is not None:
            yield _fetch(*pending)

    def _fitting(self, video: FeatureFile) -> FeatureFile:
        """`video`; DataError if its features are not as wide as the model's."""
        if video.shape[1] != self.feature_width:
            turned = video.shape[0] == self.feature_width
            hint = " (give its transpose, so that rows are snippets)" if turned else ""
            raise DataError(
                f"{video.where}: {video.shape[1]} features a snippet; wanted {self.feature_width}, "
                f"RGB then flow, from the network that the training data's are from{hint}"
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
                check_finite(output, self.localization_inputs, f"video {video.name}")
        detections = localize_videos(
            (self.score_spec.compute(output) if output else None for _, output in batch),
            [len(output["cas"]) if output else 1 for _, output in batch],
            [video.shape[0] for video in mine],
            grids,
            self.localization,
        )
        for place, (index, output) in enumerate(batch):
            found = detections.take(detections.video == place)
            yield index, VideoPrediction(mine[place], output, found, grids.take(place))


def load_model(
    path: str | os.PathLike[str], *, member: int | None = None, ensemble: bool = False
) -> Model:
    """Load a trained model.

    Args:
        path: the work directory of a run, or a file that `Model.export` wrote; trust such a file
            as you would a program.
        member: of a population, counted from 0; None where there is one, or with `ensemble`.
        ensemble: all members of a population that have not diverged, their outputs averaged.

    Raises:
        DataError: something is missing, damaged or of another version; there is no such member, or
            its training has diverged.
    """
    path = Path(path)
    if path.is_dir():
        from jaxtal.inference import restore

        return restore.load_work_directory(path, member, ensemble)
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such work directory and no such file; give the workdir=... of a training "
            "run, or a file that Model.export wrote"
        )
    if member is not None or ensemble:
        raise ConfigError(
            f"member=... and ensemble=True are for a work directory; {path} is a file, which holds "
            "one model"
        )
    from jaxtal.inference import exported  # and neither flax nor the methods' modules

    return exported.load_exported(path)


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
            raise DataError(f"{error}; skip_damaged=True leaves such videos out") from None
        warn(f"left out: {error}")
        return None
