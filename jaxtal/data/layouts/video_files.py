"""Feature files of the annotated videos of a folder: where they are, and how they are named."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtal.data.affixes import Affix, recognize
from jaxtal.data.dataset import Video
from jaxtal.data.io.array_files import HDF5, SUFFIXES, Place
from jaxtal.data.io.feature_files import (
    COMPARED,
    by_name,
    feature_shape,
    inside,
    read_streams,
    stream_shapes,
)
from jaxtal.data.io.files import contents
from jaxtal.errors import DataError, JaxtalError, short_repr

PREFIX = "v_"  # of the names of ActivityNet's feature files
_MOST_FILES = 16  # HDF5 files that may have several videos each
# Where features may be beside those of the layout, one level deeper or in one file.
_ELSEWHERE = (
    "features/{video}", "features/{set}/{video}", "features/{set}/*/{video}",
    "{set}_features/{video}", "{video}.h5", "{video}.hdf5",
)  # fmt: skip
_RGB_AND_FLOW = tuple(
    (f"{folder}rgb/{{video}}", f"{folder}flow/{{video}}")
    for folder in ("features/", "features/{set}/", "{subset}/", "")
)
Streams = list[dict[str, Place]]


def paths(folder: Path, stream: str) -> list[Path]:
    """Return the files that match the pattern of a stream, of all forms of features and others.

    Args:
        folder: the data set's folder.
        stream: the pattern; {subset} is train, val or test, {set} any folder, {video} the name.
    """
    pattern = stream.removesuffix(".npy")
    subsets = ("t*", "val*") if "{subset}" in pattern else ("",)
    patterns = [pattern.format(subset=subset, set="*", video="*") for subset in subsets]
    return sorted(itertools.chain(*map(folder.glob, patterns)))


def deeper(streams: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield patterns with one more folder, which may have any name, at every level.

    Args:
        streams: the patterns of a layout's streams.
    """
    for place in range(streams[0].count("/") + 1):
        parts = [stream.split("/") for stream in streams]
        yield tuple("/".join([*part[:place], "*", *part[place:]]) for part in parts)


def has_files(folder: Path, streams: Sequence[str]) -> bool:
    """Return True if a folder has feature files where a layout has them, or one level deeper.

    Args:
        folder: the data set's folder.
        streams: the patterns of the layout's streams.
    """
    return any(
        path.suffix.lower() in SUFFIXES
        for patterns in (streams, *deeper(streams))
        for stream in patterns
        for path in paths(folder, stream)
    )


class _Match(NamedTuple):
    """Files of videos: {name: file} of every stream, and the affixes that give names of files.

    Every entry of `lookups` has one affix for each stream; the first with files for a video is
    used. `matched` is the number of videos with files.
    """

    streams: Streams
    lookups: list[tuple[Affix, ...]]
    matched: int

    def places(self, video: str) -> list[Place] | None:
        for affixes in self.lookups:
            found = [
                stream.get(affix.file_name(video) or "")
                for stream, affix in zip(self.streams, affixes, strict=True)
            ]
            if all(found):
                return [place for place in found if place]
        return None


_PLAIN, _PREFIXED = Affix(), Affix(added=(PREFIX, ""))


def _is_prefixed(streams: Streams) -> bool:
    return all(streams) and all(name.startswith(PREFIX) for stream in streams for name in stream)


def _match(streams: Streams, videos: Collection[str]) -> _Match:
    """Match the names of files with those of videos, with another affix if none matches."""
    order = (_PREFIXED, _PLAIN) if _is_prefixed(streams) else (_PLAIN, _PREFIXED)
    known = [(affix,) * len(streams) for affix in order]
    found = _counted(streams, known, videos)
    if found.matched or not all(streams):
        return found
    affixes = [_affix(stream, videos) for stream in streams]
    others = [tuple(affix for affix in affixes if affix)]
    return _counted(streams, others, videos) if all(affixes) else found


def _counted(streams: Streams, lookups: list[tuple[Affix, ...]], videos: Collection[str]) -> _Match:
    match = _Match(streams, lookups, 0)
    return match._replace(matched=sum(match.places(video) is not None for video in videos))


def _affix(stream: dict[str, Place], videos: Collection[str]) -> Affix | None:
    for affix in (_PLAIN, _PREFIXED):
        if any(affix.file_name(video) in stream for video in videos):
            return affix
    return recognize(videos, stream.keys())


def _at(folder: Path, patterns: Sequence[str], videos: Collection[str]) -> _Match | None:
    """Return the files at a place, None if a stream has none there."""
    streams = [by_name(paths(folder, pattern)) for pattern in patterns]
    if not all(streams):
        return None
    found, files = _match(streams, videos), [*itertools.chain(*(s.values() for s in streams))]
    several = len(files) <= _MOST_FILES and all(f.path.suffix.lower() in HDF5 for f in files)
    if found.matched or not several:
        return found
    inner = _match([inside(stream.values()) for stream in streams], videos)
    return inner if inner.matched else found


class VideoFiles:
    """Reader of a video's features from its file or files.

    Attributes:
        streams: {name: file} of every stream; empty if no file is found.
        prefixed: True if all files have ActivityNet's prefix.
        matched: number of videos with features.
        notes: remarks about a place and names that were assumed.
    """

    def __init__(self, folder: Path, patterns: Sequence[str], videos: Collection[str], axes: str):
        """Find the files of the videos.

        Args:
            folder: the data set's folder.
            patterns: the patterns of the layout's streams.
            videos: names of the annotated videos.
            axes: meaning of the axes in the files.

        Raises:
            DataError: two files have the features of a video, or two folders those of all.
        """
        self._folder, self._axes = folder, axes
        separate = (_at(folder, streams, videos) for streams in _RGB_AND_FLOW)
        own = next(filter(None, separate), None) if len(patterns) == 1 else None
        own = own or _at(folder, patterns, videos)
        other = None if own and own.matched else _elsewhere(folder, patterns, videos)
        match = other if other and (other.matched or not own) else own
        self._match = match or _Match([{} for _ in patterns], [], 0)
        self.streams, self.matched = self._match.streams, self._match.matched
        self.prefixed = _is_prefixed(self.streams)
        self.notes = _notes(folder, self._match, match is not own, patterns[0], len(videos))
        firsts = itertools.islice(self.streams[0].values(), COMPARED + 1)
        self._others = list(firsts)

    def paths(self, video: str) -> list[Place] | None:
        """Return the video's file of every stream; None if one is missing.

        Args:
            video: the video's name.
        """
        return self._match.places(video)

    def snippets(self, video: str) -> int:
        """Return T from the file's header; 0 if it is missing or damaged, which a call reports.

        Args:
            video: the video's name.
        """
        places = self.paths(video)
        try:
            shape = feature_shape(places[0], self._axes) if places else ()
        except JaxtalError:
            return 0
        return shape[0] if len(shape) == 2 else 0

    def shape(self, video: Video) -> tuple[int, int]:
        """Return (T, 2D), from the headers.

        Args:
            video: the video.

        Raises:
            DataError: a file is missing, damaged or does not contain features.
        """
        shapes = stream_shapes(self._found(video), self._axes, self._others)
        return shapes[0][0], sum(width for _, width in shapes)

    def widths(self, video: Video) -> tuple[int, ...]:
        """Return the width of the features in each file, from the headers.

        Args:
            video: the video.

        Raises:
            DataError: a file is missing, damaged or does not contain features.
        """
        shapes = stream_shapes(self._found(video), self._axes, self._others)
        return tuple(width for _, width in shapes)

    def __call__(self, video: Video) -> np.ndarray:
        """Return the (T, 2D) features of a video.

        Args:
            video: the video.

        Raises:
            DataError: a file is missing, damaged or does not contain features.
        """
        return read_streams(tuple(self._found(video)), self._axes, self._others)

    def _found(self, video: Video) -> list[Place]:
        places = self.paths(video.name)
        if places is None:
            raise DataError(f"{self._folder}: no feature file of video {video.name}")
        return places


def _elsewhere(folder: Path, patterns: Sequence[str], videos: Collection[str]) -> _Match | None:
    """Return the files one level deeper than in the layout, or at another common place."""
    found = [match for where in deeper(patterns) if (match := _at(folder, where, videos))]
    matching = [match for match in found if match.matched]
    if distinct := [match for match in matching if match.streams != matching[0].streams]:
        one, other = (next(iter(m.streams[0].values())) for m in (matching[0], distinct[0]))
        raise DataError(
            f"{folder}: two folders have features, those of {one} and {other}; remove one of them"
        )
    if matching:
        return matching[0]
    for pattern in _ELSEWHERE:
        match = _at(folder, [pattern], videos)
        if match and match.matched:
            return match
        found += [match] if match else []
    return found[0] if found else None


def _notes(
    folder: Path, match: _Match, elsewhere: bool, pattern: str, videos: int
) -> tuple[str, ...]:
    """Return remarks about the place and the names of the files, if they were assumed."""
    notes = []
    first = next(iter(match.streams[0].values()), None)
    if match.matched and first and (elsewhere or first.key):
        place = first.path if first.key else first.path.parent
        at = place.relative_to(folder).as_posix()
        notes.append(f"features are read from {at}; the layout has them in {pattern}")
    for affix in dict.fromkeys(affix for affixes in match.lookups for affix in affixes):
        if match.matched and affix not in (_PLAIN, _PREFIXED):
            notes.append(
                f"features of {match.matched} of {videos} videos are recognized by their files' "
                f"names, {affix}"
            )
    return tuple(notes)


def unusable(folder: Path, patterns: Sequence[str], videos: Collection[str]) -> str:
    """Return a sentence about the files of a folder in which no video has features.

    Args:
        folder: the data set's folder.
        patterns: the patterns of the layout's streams.
        videos: names of the annotated videos.
    """
    such = f", such as {short_repr(next(iter(videos)))}," if videos else ""
    stems = [pattern.removesuffix(".npy") for pattern in patterns]
    wanted = " and ".join(
        stem.format(subset="{train,test}", set="SET", video="VIDEO") for stem in stems
    )
    return (
        f"no features of any video{such} among {contents(folder)}; wanted {wanted}.npy, or with "
        f"another of the suffixes {', '.join(SUFFIXES)}"
    )
