"""Examination of time: the extent of the features against the durations of the videos."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.examination.facts import Facts
from jaxtal.data.findings import ERROR, WARNING, Finding
from jaxtal.data.reading import THREE

# The time grids of published features, of those that are equal the most common one first.
_STRIDES = (16, 4, 8, 32, 64, 6, 12, 2, 1, 10)
KNOWN_GRIDS = (
    *(TimeGrid(fps, 1, 1) for fps in (1, 2, 5)),
    TimeGrid(25, 24, 24),
    *(TimeGrid(fps, n, max(n, 16)) for fps in (25, 30, 24, 15, 10) for n in _STRIDES),
)
_VIDEO_RATES = (25, 30, 24, 29.97)  # of videos as they are recorded
FRAME_RATES = (*_VIDEO_RATES, 15, 10, 50, 60)
MANY, MUCH, LITTLE = 0.1, 0.25, 0.05  # shares of the videos; of a duration
_SHORT = 2.0  # [seconds] a little is at least as much
_CLOSE = 0.01  # relative difference of the extents and durations on the right time grid
_FIT = 0.9  # share of the videos that another explanation must fit
_MOST_ODD = 0.4  # share of the videos that may be odd where the others fit a time grid
_FEW = 3  # [videos] fewer allow no conclusion about the whole data set
_UNITS = {"minutes": 60.0, "milliseconds": 1e-3}  # seconds
_MEASURED = (
    "a snippet lasts {:.4g} s of video: state the fps=... of the features, the stride=... of that "
    "length and the window=..."
)
# Findings after which nothing follows from where instances lie in their videos.
OF_DURATIONS = ("durations in frames", "durations in another unit")


@dataclasses.dataclass(frozen=True, eq=False)
class _Extents:
    """Extents of the features and durations of the V videos whose features are known.

    Attributes:
        dataset: the data set.
        names: (V,) names.
        snippets: (V,) lengths in snippets.
        padding: (V,) snippets of zeros, or copies of the last one.
        grid: the time grid of the videos.
        durations: (V,) durations of the videos in seconds.
        origin: the source of the time grid, for messages.
    """

    dataset: Dataset
    names: np.ndarray
    snippets: np.ndarray
    padding: np.ndarray
    grid: TimeGrid
    durations: np.ndarray
    origin: str

    @property
    def seconds(self) -> np.ndarray:
        """Extents of the features on the data set's time grid, (V,)."""
        return self.grid.to_seconds(self.snippets)

    @property
    def measured(self) -> float:
        """Seconds per snippet that the durations imply, the median of all videos."""
        return float(np.median(self.durations / self.snippets))

    @property
    def much(self) -> np.ndarray:
        """Videos whose features differ from the duration by a quarter of it, (V,) bool."""
        snippet = self.grid.stride / self.grid.fps
        difference = np.abs(self.seconds - self.durations)
        return difference > np.maximum(MUCH * self.durations, 1.5 * snippet)

    @property
    def little(self) -> np.ndarray:
        """Videos whose features differ from the duration by more than 5 % and 2 s, (V,) bool."""
        difference = np.abs(self.seconds - self.durations)
        return difference > np.maximum(LITTLE * self.durations, _SHORT)

    def examples(self, which: np.ndarray) -> tuple[str, ...]:
        """Return a text for each of the videos in a mask (V,)."""
        columns = self.names, self.seconds, self.durations
        rows = zip(*(column[which].tolist() for column in columns), strict=True)
        text = "{} {:.1f} s of features, {:.1f} s of video"
        return tuple(text.format(*row) for row in rows)


def _error(
    seconds: np.ndarray, durations: np.ndarray, snippet: ArrayLike, share: float = _FIT
) -> float:
    """Return the median relative difference, or infinity if less than a share of videos fits."""
    difference = np.abs(seconds - durations)
    fits = difference <= np.maximum(0.1 * durations, 1.5 * np.asarray(snippet))
    if fits.mean() < share:
        return np.inf
    if np.median(difference) > max(
        _CLOSE * np.median(durations), float(np.median(np.asarray(snippet)))
    ):
        return np.inf
    return float(np.median(np.abs(np.log(seconds / durations))))


def find(dataset: Dataset, facts: Facts, origin: str = "") -> Iterator[Finding]:
    """Yield findings about the time grid, units and lengths.

    Args:
        dataset: the videos.
        facts: the facts of their features.
        origin: the source of the time grid, for messages; "": that of the data set.
    """
    known = np.flatnonzero(facts.snippets)
    if not len(known):
        return
    every = dataset.videos
    videos = [every[index] for index in known.tolist()]
    extents = _Extents(
        dataset,
        np.array([video.name for video in videos]),
        facts.snippets[known],
        np.maximum(facts.zeros, facts.tails)[known],
        dataset.grid.of(videos),
        np.array([video.duration for video in videos]),
        origin or origin_of_grid(dataset),
    )
    much, little = extents.much, extents.little
    if (much.mean() > MANY and len(known) >= _FEW) or (much.all() and len(known) > 1):
        yield _explained(extents, much)
    elif little.mean() > MANY and len(known) >= _FEW:
        yield _nearly(extents, little)
    elif len(known) >= _FEW and _is_systematic(extents):
        yield _nearly(extents, extents.seconds != extents.durations)
    elif (much | little).any():
        off = much | little
        yield _of_part(extents, off) or _single_videos(extents, off)


def _explained(extents: _Extents, off: np.ndarray) -> Finding:
    """Return the finding of a time grid that does not fit, with its most likely reason."""
    seen, examples = _observation(extents, off), extents.examples(off)
    snippet = extents.grid.stride / extents.grid.fps
    bare = extents.grid.to_seconds(extents.snippets - extents.padding)
    if extents.padding.any() and _error(bare, extents.durations, snippet) < np.inf:
        message = f"{seen}; they were padded with zeros or copies of the last snippet: remove these"
        return Finding("padded features", WARNING, message, examples)
    if _rescaled(extents):
        return _of_rescaled(extents, off)
    if stride := _stride_of_own_rates(extents):
        message = (
            f"{seen}; the videos' own frame rates fit with another stride: state stride={stride} "
            f"window={max(stride, 16)}"
        )
        return Finding("other time grid", ERROR, message, examples)
    fractional = bool((np.abs(extents.durations - extents.durations.round()) > 1e-3).any())
    rate, grid = _frame_rate(extents), _known_grid(extents.snippets, extents.durations)
    if rate and not (grid and fractional):
        message = (
            f"{seen}; the durations are frames at about {rate:g} fps: {_in_frames(extents, rate)}"
        )
        return Finding("durations in frames", ERROR, message, examples)
    if grid:
        message = f"{seen}; another time grid fits: state {_stated(grid)}"
        return Finding("other time grid", ERROR, message, examples)
    for rate in () if fractional else _VIDEO_RATES:
        if grid := _known_grid(extents.snippets, extents.durations / rate):
            how = f"{_in_frames(extents, rate)} {_stated(grid)}"
            message = f"{seen}; the durations are frames on another time grid: {how}"
            return Finding("durations in frames", ERROR, message, examples)
    for unit, seconds in _UNITS.items():
        if _error(extents.seconds, extents.durations * seconds, snippet) < np.inf:
            message = f"{seen}; the durations are {unit}: give them in seconds"
            return Finding("durations in another unit", ERROR, message, examples)
    if found := _of_part(extents, off):
        return found
    if off.mean() <= _MOST_ODD:
        return _single_videos(extents, off)
    if off.all() and (grid := _known_grid(extents.snippets, extents.durations, 1 - _MOST_ODD)):
        message = f"{seen}; another time grid fits most of them: state {_stated(grid)}"
        return Finding("other time grid", ERROR, message, examples)
    message = (
        f"{seen}, and no known time grid fits; {examples[0]}; "
        f"{_MEASURED.format(extents.measured)}, or correct the durations"
    )
    ratio = float(np.median(extents.seconds / extents.durations))
    severity = WARNING if 0.1 < ratio < 10 else ERROR
    return Finding("time that does not fit", severity, message, examples)


def _of_part(extents: _Extents, off: np.ndarray) -> Finding | None:
    """Return the finding of a part of the data set that has another time grid than the rest."""
    for part, videos in extents.dataset.parts.items():
        inside = np.isin(extents.names, [video.name for video in videos])
        if inside.all() or not np.array_equal(inside, off):
            continue
        if grid := _known_grid(extents.snippets[off], extents.durations[off]):
            message = (
                f"{_observation(extents, off)}; these are the {THREE[part]} videos, which fit "
                f"{grid.in_words}: extract all features on one time grid"
            )
            return Finding("parts on different time grids", ERROR, message, extents.examples(off))
    return None


def _stride_of_own_rates(extents: _Extents) -> int | None:
    """Return the known stride that fits on the videos' own frame rates, None if they have none."""
    if len(set(extents.grid.fps.tolist())) == 1:
        return None
    for stride in _STRIDES:
        grid = TimeGrid(extents.grid.fps, stride, max(stride, 16))
        seconds = grid.to_seconds(extents.snippets)
        if _error(seconds, extents.durations, stride / extents.grid.fps) < np.inf:
            return stride
    return None


def _is_systematic(extents: _Extents) -> bool:
    """Return True if all extents are wrong by one factor, however small."""
    ratio = extents.seconds / extents.durations
    quarters = np.quantile(ratio, [0.25, 0.75])
    snippet = float(np.median(extents.grid.stride / extents.grid.fps))
    now = np.median(np.abs(extents.seconds - extents.durations))
    if now <= 1.5 * snippet:
        return False
    if _close_grid(extents):
        return True
    return bool(abs(np.median(ratio) - 1) > 2 * _CLOSE and np.ptp(quarters) < _CLOSE)


def _in_frames(extents: _Extents, rate: float) -> str:
    """Return the options for durations in frames; segments are, too, if they would fit."""
    videos = extents.dataset.videos
    ends = [float(v.segments.max()) / v.duration for v in videos if len(v.segments)]
    unit = "frames" if not ends or np.median(ends) > 2 / rate else "duration_frames"
    own = f" annotation_fps={rate:g}" * (rate != extents.dataset.grid.fps)
    return f"state unit={unit}{own}"


def origin_of_grid(dataset: Dataset) -> str:
    """Return the source of a data set's time grid, for messages."""
    origin = dataset.origin
    if origin is None or origin.has_time_grid:
        return "stated"
    return f"assumed for the layout {origin.layout}"


def _observation(extents: _Extents, off: np.ndarray) -> str:
    grid, ratio = extents.dataset.grid, np.median(extents.seconds / extents.durations)
    return (
        f"on the time grid of {grid.in_words} ({extents.origin}) the features last {ratio:.3g} "
        f"times as long as the videos (median; {off.sum()} of {len(off)} differ)"
    )


def _stated(grid: TimeGrid) -> str:
    note = " (window: the frames that a snippet is computed from)" * (grid.window != grid.stride)
    return f"fps={grid.fps:g} stride={grid.stride:g} window={grid.window:g}{note}"


def _rescaled(extents: _Extents) -> bool:
    """Return whether all videos have one number of snippets but different durations."""
    durations = extents.durations
    return bool((extents.snippets == extents.snippets[0]).all()) and (
        durations.max() > 1.1 * durations.min()
    )


def _of_rescaled(extents: _Extents, off: np.ndarray) -> Finding:
    axes = ", or axes=DT if snippets are columns" * (int(extents.snippets[0]) % 64 == 0)
    message = (
        f"{_observation(extents, off)}; all videos have {extents.snippets[0]} snippets: if the "
        f"features were rescaled, state time=rescaled{axes}; if they were padded or cut, extract "
        "them again"
    )
    return Finding("rescaled features", ERROR, message, extents.examples(off))


def _frame_rate(extents: _Extents) -> float:
    """Return the frame rate by which all durations are too large; 0 if there is none."""
    snippet = extents.grid.stride / extents.grid.fps
    rates = (float(extents.dataset.grid.fps), *FRAME_RATES)
    errors = [_error(extents.seconds, extents.durations / rate, snippet) for rate in rates]
    best = 0 if errors[0] < min(errors) + 0.01 else int(np.argmin(errors))
    return rates[best] if errors[best] < np.inf else 0.0


def _known_grid(
    snippets: np.ndarray, durations: np.ndarray, share: float = _FIT
) -> TimeGrid | None:
    """Return the known time grid that fits best, the more common one if two fit equally."""
    best, least = None, np.inf
    for grid in KNOWN_GRIDS:
        snippet = grid.stride / grid.fps
        error = _error(grid.to_seconds(snippets), durations, snippet, share)
        if error < least - 0.005 or (best is None and error < np.inf):
            best, least = grid, error
    return best


def _close_grid(extents: _Extents) -> TimeGrid | None:
    """Return the known time grid that fits within 1 % and three times as well as the present."""
    grid = _known_grid(extents.snippets, extents.durations)
    seconds = grid.to_seconds(extents.snippets) if grid else extents.seconds
    now, then = (
        np.median(np.abs(np.log(s / extents.durations))) for s in (extents.seconds, seconds)
    )
    return grid if then <= min(_CLOSE, now / 3) else None


def _nearly(extents: _Extents, off: np.ndarray) -> Finding:
    """Return the finding of features that are a little longer or shorter in many videos."""
    if _rescaled(extents):
        return _of_rescaled(extents, off)
    fix = _MEASURED.format(extents.measured)
    if grid := _close_grid(extents):
        fix = f"another time grid fits better: state {_stated(grid)}"
    message = f"{_observation(extents, off)}; {fix}"
    return Finding("time grid that fits badly", WARNING, message, extents.examples(off))


def _single_videos(extents: _Extents, off: np.ndarray) -> Finding:
    """Return the finding of single videos whose features are longer or shorter."""
    examples = extents.examples(off)
    short = (extents.seconds < extents.durations) & off
    message = (
        f"the features of {off.sum()} of {len(off)} videos are much longer or shorter than the "
        f"video ({short.sum()} are shorter, as if half extracted): {'; '.join(examples[:3])}; "
        "extract them again, or correct the durations"
    )
    kind = "features much longer or shorter than the video"
    return Finding(kind, WARNING, message, examples)
