"""A data set as it lies on disk: annotations in memory, features read video by video."""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import DataError, JaxtalError, warn


@dataclasses.dataclass(frozen=True, eq=False)
class LazyDataset:
    """What a layout's reader returns: everything but the features, and how to get those.

    Attributes:
        layout: the layout's name, see `layouts.LAYOUTS`.
        path: what was read.
        dataset: the videos without features.
        features: of a video its (T, 2D) float16 or float32 features, checked; they may be mapped
            from the file. Raises DataError where they are missing or damaged; None: the source has
            annotations only.
        notes: what a person should know, a sentence each: what was assumed, what does not fit.
        missing: names of the videos that have annotations but no features.
        declared_missing: those of them that the data set itself says are missing.
        unannotated: names of the feature files that belong to no video of the data set.
        has_time_grid: the files state the time grid; else it is what the layout's programs assume.
        snippets: of a video the shape (T, 2D) of its features, which are not read for it; raises
            DataError likewise. None: the layout does not know it.
    """

    layout: str
    path: Path
    dataset: Dataset
    features: Callable[[Video], np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    declared_missing: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()
    has_time_grid: bool = False
    snippets: Callable[[Video], tuple[int, int]] | None = None

    @property
    def videos(self) -> tuple[Video, ...]:
        """Training, then test videos."""
        return (*self.dataset.train, *self.dataset.test)

    def read(self, video: Video) -> Video:
        """`video` with its features."""
        if self.features is None:
            raise DataError(f"{self.path}: annotations only, no features of {video.name} or others")
        return dataclasses.replace(video, features=self.features(video))

    def iter_videos(
        self,
        skip_damaged: bool = False,
        how_to_skip: str = "skip_damaged=True",
        without: Collection[str] = (),
        like: tuple[str, int] | None = None,
    ) -> Iterator[Video]:
        """All videos with features, training videos first, one after the other.

        Videos that the data set says are missing are left out. One whose features are missing,
        damaged or of another width is an error, or left out with a warning.

        Args:
            skip_damaged: leave it out.
            how_to_skip: what does so, for the error.
            without: names of videos that are not wanted.
            like: name and width of a video that has the right one; None: the first has it.
        """
        for video in self.videos:
            if video.name in self.declared_missing or video.name in without:
                continue
            try:
                full = self.read(video)
                like = check_width(full, f"{self.path}", like)
            except JaxtalError as error:
                if self.features is None:
                    raise
                if not skip_damaged:
                    raise DataError(f"{error}; {how_to_skip} leaves such videos out") from None
                warn(f"left out: {error}")
                continue
            yield full
            del full  # before the next one is read

    def load(self, skip_damaged: bool = False, how_to_skip: str = "skip_damaged=True") -> Dataset:
        """The data set with all features in memory.

        Args:
            skip_damaged, how_to_skip: see `each`.

        Raises:
            DataError: features are missing or damaged and not to be skipped; no training or no
                test video is left; widths differ.
        """
        kept = {video.name: video for video in self.iter_videos(skip_damaged, how_to_skip)}
        train, test = (
            tuple(kept[video.name] for video in part if video.name in kept)
            for part in (self.dataset.train, self.dataset.test)
        )
        if not train or not test:
            raise DataError(
                f"{self.path}: features of {len(train)} training and {len(test)} test videos; "
                "wanted some of both"
            )
        return dataclasses.replace(self.dataset, train=train, test=test)


def check_width(video: Video, where: str, like: tuple[str, int] | None) -> tuple[str, int]:
    """Raise DataError if features are of another width than `like`, or it is odd.

    Returns:
        `like`, or without one the video's own name and width.
    """
    width = video.features.shape[1]
    if width % 2:
        raise DataError(
            f"{where}, video {video.name}: {width} features a snippet; wanted an even number, "
            "RGB then flow"
        )
    if like is not None and width != like[1]:
        raise DataError(
            f"{where}, video {video.name}: {width} features a snippet, but {like[0]} has "
            f"{like[1]}; extract all videos with the same network"
        )
    return like or (video.name, width)
