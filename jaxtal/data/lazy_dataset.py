"""Data sets on disk: annotations in memory, features read video by video."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from jaxtal.data.dataset import Dataset, Origin, Video
from jaxtal.errors import DataError, JaxtalError, warn


@dataclasses.dataclass(frozen=True, eq=False)
class LazyDataset:
    """A data set as returned by a layout's reader, with functions that read features.

    Attributes:
        layout: the layout's name, see `layouts.LAYOUTS`.
        path: the folder or file that was read.
        dataset: the videos without features.
        features: video -> its checked (T, 2D) float16 or float32 features, possibly mapped from
            the file; raises DataError if they are missing or damaged. None: annotations only.
        notes: remarks for the user about assumptions and inconsistencies, a sentence each.
        missing: names of the videos with annotations but without features.
        declared_missing: the part of `missing` that the data set itself lists as missing.
        unannotated: names of the feature files without a video in the data set.
        has_time_grid: True if the files or the user state the time grid; False if it is the one
            that programs which read the layout assume.
        has_streams: True if the files or the user state how the columns are split into streams.
        unused: number of annotated videos by the name of a subset that is in no part of `dataset`.
        snippets: video -> shape (T, 2D) of its features, without reading them; raises DataError as
            `features` does. None: the layout does not provide it.
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
    has_streams: bool = False
    unused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    snippets: Callable[[Video], tuple[int, int]] | None = None

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos: training, validation, test."""
        return self.dataset.videos

    @property
    def origin(self) -> Origin:
        """Layout, path and remarks of the data set."""
        names = [field.name for field in dataclasses.fields(Origin)]
        return Origin(**{name: getattr(self, name) for name in names})

    def read(self, video: Video) -> Video:
        """Return a video with its features.

        Args:
            video: one of `videos`.

        Returns:
            The video with (T, 2D) float16 or float32 features.

        Raises:
            DataError: the features are missing or damaged, or the data set has annotations only.
        """
        if self.features is None:
            raise DataError(f"{self.path}: annotations only, no features of {video.name} or others")
        return dataclasses.replace(video, features=self.features(video))

    def iter_videos(
        self,
        skip_damaged: bool = False,
        how_to_skip: str = "skip_damaged=True",
        without: Collection[str] = (),
        like: tuple[str, int] | None = None,
        quiet: bool = False,
    ) -> Iterator[Video]:
        """Yield all videos with their features, training videos first, one at a time.

        Videos that the data set itself lists as missing are omitted.

        Args:
            skip_damaged: skip videos whose features are missing, damaged or of a different width,
                with a warning; otherwise such a video is an error.
            how_to_skip: spelling of the option `skip_damaged=True` in the error message.
            without: names of videos to omit.
            like: name and feature width of a reference video; None: the first video.
            quiet: skip videos without a warning.

        Yields:
            Videos with (T, 2D) features of the same width.

        Raises:
            DataError: features are unusable and `skip_damaged` is False.
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
                    skips = f"; {how_to_skip} skips such videos"
                    raise DataError(f"{error}{skips * self._some_remain(without)}") from None
                if not quiet:
                    warn(f"skipped: {error}")
                continue
            yield full
            del full  # free the memory before the next video is read

    def _some_remain(self, without: Collection[str]) -> bool:
        """Return False if no training or no test video remains when unusable ones are skipped."""
        for part in filter(None, (self.dataset.train, self.dataset.test)):
            alone = dataclasses.replace(self.dataset, train=part, validation=(), test=())
            usable = dataclasses.replace(self, dataset=alone).iter_videos(
                True, without=without, quiet=True
            )
            if next(usable, None) is None:
                return False
        return True

    def load(self, skip_damaged: bool = False, how_to_skip: str = "skip_damaged=True") -> Dataset:
        """Return the data set with all features in memory.

        Args:
            skip_damaged: skip videos whose features are unusable, with a warning.
            how_to_skip: spelling of the option `skip_damaged=True` in the error message.

        Raises:
            DataError: features are unusable and `skip_damaged` is False, or no training or no test
                video remains.
        """
        kept = {video.name: video for video in self.iter_videos(skip_damaged, how_to_skip)}
        train, validation, test = (
            tuple(kept[video.name] for video in part if video.name in kept)
            for part in (self.dataset.train, self.dataset.validation, self.dataset.test)
        )
        if not train or not test:
            raise DataError(
                f"{self.path}: features of {len(train)} training and {len(test)} test videos; "
                "wanted some of both"
            )
        return dataclasses.replace(
            self.dataset, train=train, validation=validation, test=test, origin=self.origin
        )


def check_width(video: Video, where: str, like: tuple[str, int] | None) -> tuple[str, int]:
    """Check that the width of a video's features is even and the same as the reference's.

    Args:
        video: a video with features.
        where: the data set, for the error message.
        like: name and width of a reference video; None for the first video.

    Returns:
        `like`, or the name and width of `video` if `like` is None.

    Raises:
        DataError: the width is odd or differs.
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
