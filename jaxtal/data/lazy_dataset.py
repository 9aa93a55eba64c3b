"""Data sets on disk: annotations in memory, features read video by video."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import axes
from jaxtal.data.dataset import (
    Dataset,
    Origin,
    Video,
    as_stream_widths,
    in_words,
    stream_widths,
)
from jaxtal.data.reading import THREE, ReadingOptions
from jaxtal.errors import DataError, JaxtalError, warn

_COMPARED = 9  # [videos] by which exchanged axes are recognized


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
        computed_durations: number of videos whose duration is not stated, but computed from the
            length of their features.
        unused: number of annotated videos by the name of a subset that is in no part of `dataset`.
        contradictory: names of the videos for which the files state two different parts.
        lengthened: names of the videos whose durations are too short, so that the extent of their
            features is used.
        snippets: video -> shape (T, 2D) of its features, without reading them; raises DataError as
            `features` does. None: the layout does not provide it.
        check: video with features -> None; raises DataError unless they match their checksum. None:
            there are no checksums.
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
    computed_durations: int = 0
    unused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    contradictory: tuple[str, ...] = ()
    lengthened: tuple[str, ...] = ()
    snippets: Callable[[Video], tuple[int, int]] | None = None
    check: Callable[[Video], None] | None = None

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos: training, validation, test."""
        return self.dataset.videos

    @property
    def origin(self) -> Origin:
        """Layout, path and remarks of the data set."""
        names = [field.name for field in dataclasses.fields(Origin)]
        return Origin(**{name: getattr(self, name) for name in names})

    @property
    def bare(self) -> Dataset:
        """The data set without features, with its origin."""
        return dataclasses.replace(self.dataset, origin=self.origin)

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
        full = dataclasses.replace(video, features=self.features(video))
        if self.check:
            self.check(full)
        return full

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
                like = check_width(full, f"{self.path}", like, self.dataset.stream_widths)
            except JaxtalError as error:
                if self.features is None:
                    raise
                if exchanged := self._exchanged_axes():
                    raise DataError(f"{self.path}: {exchanged}") from None
                self._skip(error, skip_damaged, how_to_skip, without, quiet)
                continue
            yield full
            del full  # free the memory before the next video is read

    def _skip(
        self,
        error: JaxtalError,
        skip_damaged: bool,
        how_to_skip: str,
        without: Collection[str] = (),
        quiet: bool = False,
    ) -> None:
        """Warn about a video that is skipped, or raise DataError if none is."""
        if not skip_damaged:
            skips = f"; {how_to_skip} skips such videos"
            raise DataError(f"{error}{skips * self._some_remain(without)}") from None
        if not quiet:
            warn(f"skipped: {error}")

    def _exchanged_axes(self) -> str:
        """Return a message if the axes of the first videos' features are exchanged."""
        shapes = []
        if self.snippets is None:
            return ""
        for video in self.videos[:_COMPARED]:
            with contextlib.suppress(JaxtalError):
                shapes.append(self.snippets(video))
        return axes.exchanged(shapes)

    def _some_remain(self, without: Collection[str]) -> bool:
        """Return False if no video of a part remains when unusable ones are skipped."""
        for part in filter(None, self.dataset.parts.values()):
            alone = dataclasses.replace(self.dataset, train=part, validation=(), test=())
            usable = dataclasses.replace(self, dataset=alone).iter_videos(
                True, without=without, quiet=True
            )
            if next(usable, None) is None:
                return False
        return True

    def load(self, skip_damaged: bool = False, how_to_skip: str = "skip_damaged=True") -> Dataset:
        """Return the data set with all features in memory.

        Checksums are verified by a second thread, while the next videos are read.

        Args:
            skip_damaged: skip videos whose features are unusable, with a warning.
            how_to_skip: spelling of the option `skip_damaged=True` in the error message.

        Raises:
            DataError: features are unusable and `skip_damaged` is False, or none of the videos of a
                part remains.
        """
        kept, checks = {}, {}
        with ThreadPoolExecutor(1) as pool:
            unchecked = dataclasses.replace(self, check=None)
            for video in unchecked.iter_videos(skip_damaged, how_to_skip):
                kept[video.name] = video
                if self.check:
                    checks[video.name] = pool.submit(self.check, video)
        for name, check in checks.items():
            try:
                check.result()
            except JaxtalError as error:
                self._skip(error, skip_damaged, how_to_skip)
                del kept[name]
        parts = {
            part: [kept[video.name] for video in videos if video.name in kept]
            for part, videos in self.dataset.parts.items()
        }
        for part, videos in self.dataset.parts.items():
            if videos and not parts[part]:
                raise DataError(
                    f"{self.path}: features of 0 of {len(videos)} {THREE[part]} videos; wanted some"
                )
        return dataclasses.replace(self.dataset.with_parts(parts), origin=self.origin)


_ONE_OR_TWO = "streams=1 for features of one encoder, stream_widths=D1,D2 for two"


def check_width(
    video: Video, where: str, like: tuple[str, int] | None, streams: tuple[int, ...] = ()
) -> tuple[str, int]:
    """Check that the width of a video's features is that of the streams and of the reference.

    Args:
        video: a video with features.
        where: the data set, for the error message.
        like: name and width of a reference video; None for the first video.
        streams: width of each stream; (): two equal halves.

    Returns:
        `like`, or the name and width of `video` if `like` is None.

    Raises:
        DataError: the width differs from the reference's, or is not that of the streams.
    """
    width = video.features.shape[1]
    if not streams and width % 2:
        raise DataError(
            f"{where}, video {video.name}: {width} features a snippet; wanted an even number, "
            f"RGB then flow, or {_ONE_OR_TWO}"
        )
    if streams and like is None and width != sum(streams):
        raise DataError(
            f"{where}, video {video.name}: {width} features a snippet, but the streams are "
            f"{in_words(streams)} wide; wanted {_ONE_OR_TWO}"
        )
    if like is not None and width != like[1]:
        raise DataError(
            f"{where}, video {video.name}: {width} features a snippet, but {like[0]} has "
            f"{like[1]}; extract all videos with the same network"
        )
    return like or (video.name, width)


def with_features(
    source: LazyDataset,
    read: Callable[[Video], np.ndarray],
    shape: Callable[[Video], tuple[int, int]],
    widths: Callable[[Video], tuple[int, ...]] | None,
) -> LazyDataset:
    """Return a data set with its features.

    Args:
        source: the data set without features.
        read: `LazyDataset.features`.
        shape: `LazyDataset.snippets`.
        widths: video -> width of the features in each of its separate files of RGB and flow, which
            are the widths of the streams; None: joint files.
    """
    dataset = source.dataset
    if widths:
        streams = of_first(widths, dataset.videos) or ()
        dataset = dataclasses.replace(dataset, stream_widths=streams)
    return dataclasses.replace(
        source, dataset=dataset, features=read, snippets=shape, has_streams=bool(widths)
    )


def with_streams(source: LazyDataset, options: ReadingOptions) -> LazyDataset:
    """Return a data set whose streams are those that the user states.

    Args:
        source: the data set.
        options: statements of the user, at least one of `streams=1`, `stream_widths` and
            `modality`.

    Returns:
        The data set with `Dataset.stream_widths`; with a modality, only this stream's columns.

    Raises:
        DataError: the statements contradict each other or the width of the features.
    """
    if source.features is None:
        return source
    shape_of = source.snippets or (lambda video: source.read(video).features.shape)
    found = of_first(shape_of, source.videos)
    if found is None:  # reading the features raises the appropriate error
        return source
    own = source.dataset.stream_widths
    columns, streams = select_streams(options, own, found[1], f"{source.path}")
    dataset = dataclasses.replace(source.dataset, stream_widths=streams)
    stated = dataclasses.replace(source, dataset=dataset, has_streams=True)
    if not options.modality:
        return stated
    return dataclasses.replace(
        stated,
        check=None,  # `source.read` checks
        features=lambda video: columns(source.read(video).features, video.name),
        snippets=lambda video: (shape_of(video)[0], streams[0]),
    )


def streams_of_dataset(dataset: Dataset, options: ReadingOptions) -> Dataset:
    """Return a data set in memory whose streams are those that the user states.

    Args:
        dataset: data set with features.
        options: as in `with_streams`.

    Returns:
        The data set with `Dataset.stream_widths`; with a modality, only this stream's columns.

    Raises:
        DataError: the statements contradict each other or the width of the features.
    """
    own, width = dataset.stream_widths, dataset.feature_width
    columns, streams = select_streams(options, own, width, f"data set {dataset.name}")
    dataset = dataclasses.replace(dataset, stream_widths=streams)
    return dataset.map(
        lambda video: dataclasses.replace(video, features=columns(video.features, video.name))
    )


def of_first(read: Callable[[Video], Any], videos: Iterable[Video]) -> Any:
    """Return `read` of the first video for which it raises no `JaxtalError`; None without one."""
    for video in videos:
        with contextlib.suppress(JaxtalError):
            return read(video)
    return None


def _check_streams(options: ReadingOptions, own: tuple[int, ...]) -> None:
    """Raise DataError for statements that contradict each other, or the streams in the files."""
    widths = as_stream_widths(options.stream_widths, "the options")
    if options.streams not in (1, 2):
        raise DataError(f"streams={options.streams}; wanted 1, or 2 for RGB then flow")
    if options.streams == 1 and len(widths) == 2:
        raise DataError(
            f"streams=1, but stream_widths states two, {in_words(widths)}; omit one of them"
        )
    if options.modality and (options.streams == 1 or len(widths or own) == 1):
        raise DataError(
            f"modality={options.modality} selects one of two streams, but the features have one; "
            "omit it"
        )


def select_streams(
    options: ReadingOptions, own: tuple[int, ...], width: int, where: str
) -> tuple[Callable[[np.ndarray, str], np.ndarray], tuple[int, ...]]:
    """Return a function that selects columns of features, and the widths of its streams.

    Args:
        options: statements of the user: `streams`, `stream_widths`, `modality`.
        own: width of each stream as the files state them; (): two equal halves.
        width: features per snippet of all streams.
        where: the data set, for messages.

    Returns:
        A function of (T, width) features and the video's name that returns the modality's columns,
        and the widths of the streams in them.

    Raises:
        DataError: the statements contradict each other or the width.
    """
    _check_streams(options, own)
    one = (width,) * (options.streams == 1)
    streams, modality = options.stream_widths or one or own, options.modality
    if streams and sum(streams) != width:
        raise DataError(
            f"{where}: {width} features a snippet, but the streams are {in_words(streams)} wide, "
            f"together {sum(streams)}; wanted {_ONE_OR_TWO}"
        )
    if modality and not streams and width % 2:
        raise DataError(
            f"{where}: {width} features a snippet, of which modality={modality} is not one half; "
            "wanted stream_widths=D1,D2 too"
        )
    if not modality:
        return (lambda features, name: features), streams
    first, second = stream_widths(streams, width)
    kept, selected = (slice(first), first) if modality == "rgb" else (slice(first, None), second)

    def columns(features: np.ndarray, name: str) -> np.ndarray:
        if features.shape[1] != width:
            raise DataError(
                f"{where}, video {name}: {features.shape[1]} features a snippet, but others have "
                f"{width}; extract all videos with the same network"
            )
        return features[:, kept].copy()  # a view would keep the other columns in memory

    return columns, (selected,)
