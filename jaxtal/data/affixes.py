"""Names of files and detections that differ from those of their videos by a prefix or suffix."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

_SAMPLED = 64  # names that are compared with all names of the other kind
_CANDIDATES = 16
_EXTENSIONS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".flv", ".wmv", ".m4v")


class Affix(NamedTuple):
    """Difference between names of videos and of their files, or of videos in two files.

    Attributes:
        removed: prefix and suffix of the video's name that the file's name lacks.
        added: prefix and suffix of the file's name that the video's name lacks.
    """

    removed: tuple[str, str] = ("", "")
    added: tuple[str, str] = ("", "")

    def file_name(self, video: str) -> str | None:
        """Return the name of a video's file, None if the video's name lacks the prefix or suffix.

        Args:
            video: the video's name.
        """
        before, after = self.removed
        if len(video) <= len(before + after) or not video.startswith(before):
            return None
        if not video.endswith(after):
            return None
        core = video[len(before) : len(video) - len(after)]
        return f"{self.added[0]}{core}{self.added[1]}"

    def __str__(self) -> str:
        """Return the form of both names, e.g. "VIDEO_feat for the annotated VIDEO"."""
        video, file = (f"{before}VIDEO{after}" for before, after in (self.removed, self.added))
        return f"{file} for the annotated {video}"


def recognize(videos: Collection[str], files: Collection[str]) -> Affix | None:
    """Return the affix that gives the most videos a file.

    Args:
        videos: names of the annotated videos, none of which is the name of a file.
        files: names of the feature files, without the suffix of their form.

    Returns:
        The affix; None if none matches two videos and a tenth of all, if two affixes match equally
        many, or if two videos would have the same file.
    """
    found, least = set(files), max(2, min(len(videos), len(files)) / 10)
    counts = []
    for affix in _candidates(list(videos), list(files)):
        named = [name for video in videos if (name := affix.file_name(video)) in found]
        if len(named) >= least and len(set(named)) == len(named):
            counts.append((len(named), affix))
    counts.sort(key=lambda count: count[0], reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]):
        return None
    return counts[0][1]


def _candidates(videos: list[str], files: list[str]) -> Iterator[Affix]:
    for affix in _around(videos, files):
        yield Affix(added=affix)
    for affix in _around(files, videos):
        yield Affix(removed=affix)
    for extension in _EXTENSIONS:
        named = [video.removesuffix(extension) for video in videos if video.endswith(extension)]
        for affix in _around(named, files) if named else ():
            if affix != ("", extension) and affix != ("", ""):
                yield Affix(("", extension), affix)


def _around(inner: Sequence[str], outer: Sequence[str]) -> list[tuple[str, str]]:
    """Return the most frequent (prefix, suffix) that make an outer name from an inner one."""
    found: Counter[tuple[str, str]] = Counter()
    few_inner, few_outer = (
        inner[:: len(inner) // _SAMPLED + 1],
        outer[:: len(outer) // _SAMPLED + 1],
    )
    for shorts, longs in ((few_inner, outer), (inner, few_outer)):
        found.update(
            (before, after)
            for short in shorts
            for long in longs
            if short in long
            for before, _, after in [long.partition(short)]
            if not _continues(before, short, after)
        )
    return [affix for affix, _ in found.most_common(_CANDIDATES)]


def _continues(before: str, name: str, after: str) -> bool:
    """Return True if a number in the name goes on in the affix: 1 is not the 1 in 12."""
    pairs = before[-1:] + name[:1], name[-1:] + after[:1]
    return any(len(pair) == 2 and pair.isdigit() for pair in pairs)
