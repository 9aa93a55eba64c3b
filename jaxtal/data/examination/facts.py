"""Facts about the features of a data set, one row a video, collected in one pass."""

import contextlib
import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from jaxtal.data.dataset import Dataset
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import JaxtalError

# Zeros are looked for everywhere only if these columns and rows, from the end, have some.
_COLUMNS = 8
_MOST_ROWS = 32
_ROWS = 8  # first snippets, by which equal features are recognized


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Columns with one entry per video, in the order of `Dataset.videos`.

    Attributes:
        snippets: (V,) int64, length in snippets; 0: unknown.
        widths: (V,) int64, features per snippet; 0: unknown.
        zeros: (V,) int64, snippets in which all features are zero; 0 if none of about 32 evenly
            spaced ones is.
        scales: (V, 2) float64, mean absolute value of the first 8 features of each stream's first
            snippet; NaN: unknown.
        zero_streams: (V, 2) bool, streams of zeros only; a data set of one stream has one of them.
        equal_streams: (V,) bool, both streams have the same features, not only zeros.
        constant: (V,) bool, all snippets are equal.
        repeated: (V,) int64, snippets equal to the one before, without zeros; 0 if all snippets
            are, or neither half of the first ones nor the last one is.
        tails: (V,) int64, snippets at the end that are equal to the one before.
        beginnings: (V,) int64, checksum of the first and last snippets and the length; -1: unknown
            or the first ones are equal.
        seen: (V,) bool, the features themselves were read.
    """

    snippets: np.ndarray
    widths: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray
    zero_streams: np.ndarray
    equal_streams: np.ndarray
    constant: np.ndarray
    repeated: np.ndarray
    tails: np.ndarray
    beginnings: np.ndarray
    seen: np.ndarray

    @classmethod
    def unknown(cls, count: int) -> "Facts":
        """Return the facts of V videos of which nothing is known."""
        return cls(
            snippets=np.zeros(count, np.int64),
            widths=np.zeros(count, np.int64),
            zeros=np.zeros(count, np.int64),
            scales=np.full((count, 2), np.nan),
            zero_streams=np.zeros((count, 2), bool),
            equal_streams=np.zeros(count, bool),
            constant=np.zeros(count, bool),
            repeated=np.zeros(count, np.int64),
            tails=np.zeros(count, np.int64),
            beginnings=np.full(count, -1),
            seen=np.zeros(count, bool),
        )

    def add(self, video: int, features: np.ndarray, stream_widths: Sequence[int] = ()) -> None:
        """Enter the features of one video.

        Args:
            video: index of the video.
            features: (T, D).
            stream_widths: features per snippet of each stream; (): two equal halves.
        """
        length, width = features.shape
        self.snippets[video], self.widths[video], self.seen[video] = length, width, True
        spaced = features[:: -max(1, length // _MOST_ROWS), :_COLUMNS]
        # The first column alone is a third of the time; rarely is one of its numbers zero.
        if not spaced[:, :1].all() and not spaced.any(axis=1).all():
            self.zeros[video] = length - np.count_nonzero(features.any(axis=1))
        border = stream_widths[0] if stream_widths else width // 2
        streams = features[:, :border], features[:, border:]
        rgb, flow = (stream[0, :_COLUMNS].tolist() for stream in streams)
        for index, first in enumerate((rgb, flow)):
            if scale := sum(map(abs, first)):
                self.scales[video, index] = scale / len(first)
            elif first:
                self.zero_streams[video, index] = not streams[index].any()
        if rgb == flow and not self.zero_streams[video, 0]:
            self.equal_streams[video] = np.array_equal(*streams)
        self._compare_snippets(video, features)

    def _compare_snippets(self, video: int, features: np.ndarray) -> None:
        """Enter which snippets of a video are equal; all are compared if its first ones are."""
        few, length = features[:, :_COLUMNS], len(features)
        beginning, size = few[:_ROWS].tobytes(), few[0].nbytes
        different = {beginning[at : at + size] for at in range(0, len(beginning), size)}
        last = few[-2:].tobytes()
        if len(different) > 1:
            self.beginnings[video] = zlib.crc32(beginning + last, length)
        elif length > 1:
            self.constant[video] = (features == features[0]).all()
        suspect = 2 * len(different) <= min(length, _ROWS)
        if (suspect or last[:size] == last[size:]) and not self.constant[video]:
            again = (features[1:] == features[:-1]).all(axis=1)
            self.tails[video] = np.argmin(again[::-1]) if again[-1] else 0
            self.repeated[video] = again.sum() - self.zeros[video]


def of_dataset(dataset: Dataset) -> Facts:
    """Return the facts of a data set with features in memory.

    Args:
        dataset: videos with features (T, D), or (0, 0) where they are not known.
    """
    facts = Facts.unknown(len(dataset.videos))
    for index, video in enumerate(dataset.videos):
        if video.features.size:
            facts.add(index, video.features, dataset.stream_widths)
    return facts


def of_source(source: LazyDataset) -> Facts:
    """Return the facts of the features that follow from their shapes.

    Args:
        source: the data set.
    """
    facts = Facts.unknown(len(source.videos))
    missing = set(source.missing)
    for index, video in enumerate(source.videos):
        if source.snippets and video.name not in missing:
            with contextlib.suppress(JaxtalError):  # reading reports damaged files
                facts.snippets[index], facts.widths[index] = source.snippets(video)
    return facts
