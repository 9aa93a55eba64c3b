"""A data set as it lies on disk: annotations in memory, features read video by video."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import UserError, warn


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What a layout's reader returns: everything but the features, and how to get those.

    Attributes:
        layout: the layout's name, see `layouts.LAYOUTS`.
        path: what was read.
        dataset: the videos without features.
        features: of a video its (T, 2D) float16 or float32 features, checked; they may be mapped
            from the file. Raises UserError where they are missing or damaged; None: the source has
            annotations only.
        notes: what a person should know, a sentence each: what was assumed, what does not fit.
        missing: names of the videos that have annotations but no features.
        declared_missing: those of them that the data set itself says are missing.
        unannotated: names of the feature files that belong to no video of the data set.
        states_grid: the files state the time grid; else it is what the layout's programs assume.
    """

    layout: str
    path: Path
    dataset: Dataset
    features: Callable[[Video], np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    declared_missing: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()
    states_grid: bool = False

    @property
    def videos(self) -> tuple[Video, ...]:
        """Training, then test videos."""
        return (*self.dataset.train, *self.dataset.test)

    def read(self, video: Video) -> Video:
        """`video` with its features."""
        if self.features is None:
            raise UserError(f"{self.path}: annotations only, no features of {video.name} or others")
        return dataclasses.replace(video, features=self.features(video))

    def each(self, skip_damaged: bool = False, how_to_skip: str = "") -> Iterator[Video]:
        """All videos with features, training videos first, one after the other.

        Videos that the data set says are missing are left out. One whose features are missing or
        damaged is an error, or left out with a warning.

        Args:
            skip_damaged: leave it out.
            how_to_skip: the option that does so, for the error.
        """
        known = set(self.declared_missing)
        first = None
        for video in self.videos:
            if video.name in known:
                continue
            try:
                full = self.read(video)
                check_widths((first or full, full), f"{self.path}")
                first = first or full
                yield full
            except UserError as error:
                if self.features is None:
                    raise
                if not skip_damaged:
                    raise UserError(f"{error}; {how_to_skip} leaves such videos out") from None
                warn(f"left out: {error}")

    def load(self, skip_damaged: bool = False) -> Dataset:
        """The data set with all features in memory.

        Raises:
            UserError: features are missing or damaged and not to be skipped; no training or no
                test video is left; widths differ.
        """
        kept = {video.name: video for video in self.each(skip_damaged, "config.data.skip_damaged")}
        train, test = (
            tuple(kept[video.name] for video in part if video.name in kept)
            for part in (self.dataset.train, self.dataset.test)
        )
        if not train or not test:
            raise UserError(
                f"{self.path}: features of {len(train)} training and {len(test)} test videos; "
                "wanted some of both"
            )
        check_widths((*train, *test), f"{self.path}")
        return dataclasses.replace(self.dataset, train=train, test=test)


def check_widths(videos, where: str) -> None:
    """Raise UserError if features differ in width, or it is odd: RGB and flow are as wide."""
    first = videos[0]
    for video in videos:
        width = video.features.shape[1]
        if width % 2:
            raise UserError(
                f"{where}, video {video.name}: {width} features a snippet; wanted an even number, "
                "RGB then flow"
            )
        if width != first.features.shape[1]:
            raise UserError(
                f"{where}, video {video.name}: {width} features a snippet, but {first.name} has "
                f"{first.features.shape[1]}; extract all videos with the same network"
            )
