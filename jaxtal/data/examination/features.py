"""Examination of features: zeros, constants, equal features, streams."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxtal.data.axes import exchanged
from jaxtal.data.dataset import Dataset
from jaxtal.data.examination.facts import Facts
from jaxtal.data.findings import ERROR, NOTE, WARNING, Finding, few
from jaxtal.data.reading import THREE

ASSUMED_STREAMS = "assumed streams"
_I3D = 2048  # RGB and flow of the I3D networks that published features are from
_LARGER = 5.0  # ratio of medians
_ENOUGH = 6  # [videos] fewer allow no conclusion from medians
_MODALITIES = ("rgb", "flow")
_SPLIT_UNSTATED = ("opentad", "actionformer")  # layouts of features of any number of streams


def find(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield findings about the features of a data set.

    Args:
        dataset: the videos.
        facts: the facts of their features.
    """
    of_zeros = _find_zeros, _find_zero_streams
    for part in (*of_zeros, _find_equal_streams, _find_equal, _find_streams, _find_scales):
        yield from part(dataset, facts)


def _names(dataset: Dataset, which: np.ndarray) -> tuple[str, ...]:
    videos = dataset.videos
    return tuple(videos[index].name for index in np.flatnonzero(which).tolist())


def _find_zeros(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    empty = facts.seen & (facts.zeros == facts.snippets)
    training = np.arange(len(empty)) < len(dataset.train)
    labeled = np.array([len(video.labels) > 0 for video in dataset.videos], bool) & training
    names = _names(dataset, empty)
    if labeled.any() and empty[labeled].all():
        message = (
            f"the features of all {labeled.sum()} labeled training videos are zero, so there is "
            "nothing to learn from; extract them again"
        )
        yield Finding("zero features", ERROR, message, names)
    elif names:
        message = (
            f"all features of {len(names)} of {facts.seen.sum()} videos are zero "
            f"({(empty & training).sum()} training videos): {few(names)}; extract them again, or "
            "remove the videos"
        )
        yield Finding("videos of zeros", WARNING, message, names)
    partly = facts.seen & ~empty & (facts.zeros > facts.snippets / 10)
    if partly.any():
        videos = dataset.videos
        examples = tuple(
            f"{videos[index].name} {facts.zeros[index]} of {facts.snippets[index]}"
            for index in np.flatnonzero(partly).tolist()
        )
        often = (facts.zeros[partly] > facts.snippets[partly] / 4).any()
        message = f"{partly.sum()} videos have snippets of zeros: {few(examples)}"
        yield Finding(
            "videos with snippets of zeros", WARNING if often else NOTE, message, examples
        )


def _find_zero_streams(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield findings about videos of which one stream is zero and the other is not."""
    if len(dataset.stream_widths) == 1:
        return
    known = facts.seen & (facts.zeros < facts.snippets)
    for stream, name in enumerate(_MODALITIES):
        which = known & facts.zero_streams[:, stream]
        if not which.any():
            continue
        names = _names(dataset, which)
        if which.sum() == known.sum():
            fix = f"modality={_MODALITIES[1 - stream]} uses the other stream alone"
            message = f"the {name} features of all {len(names)} videos are zero; {fix}"
        else:
            message = (
                f"the {name} features of {len(names)} of {known.sum()} videos are zero: "
                f"{few(names)}; extract them again"
            )
        yield Finding("stream of zeros", WARNING, message, names)


def _find_equal_streams(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    names = _names(dataset, facts.equal_streams)
    if names and len(dataset.stream_widths) != 1:
        message = (
            f"RGB and flow features of {len(names)} of {facts.seen.sum()} videos are the same: "
            f"{few(names)}; extract flow, or state modality=rgb to use RGB alone"
        )
        yield Finding("equal streams", WARNING, message, names)


def _find_equal(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield findings about features that do not change over time, or are those of others."""
    names = _names(dataset, facts.constant & (facts.zeros < facts.snippets))
    if names:
        message = (
            f"all snippets of {len(names)} videos are equal: {few(names)}; extract their features "
            "again"
        )
        yield Finding("constant features", WARNING, message, names)
    names = _names(dataset, facts.repeated > facts.snippets / 2)
    if names:
        message = (
            f"most snippets of {len(names)} of {facts.seen.sum()} videos are copies of the one "
            f"before: {few(names)}; extract features of the video's own frame rate and length"
        )
        yield Finding("repeated snippets", WARNING, message, names)
    times = Counter(facts.beginnings[facts.beginnings >= 0].tolist())
    again = np.array([times[start] > 1 for start in facts.beginnings.tolist()], bool)
    names = _names(dataset, again)
    if names:
        message = (
            f"{len(names)} videos begin and end with the same features as another one: "
            f"{few(names)}; extract the features of each from its own file"
        )
        yield Finding("equal features", WARNING, message, names)


def _find_streams(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield a finding where nothing states how the columns are divided into streams."""
    origin, width = dataset.origin, int(facts.widths.max(initial=0))
    if origin is None or origin.has_streams or not width:
        return
    if width != _I3D or origin.layout in _SPLIT_UNSTATED:
        half = width // 2
        message = (
            f"{width} features per snippet are taken for {half} of RGB and {half} of flow; state "
            f"streams=1 for features of a single encoder, or stream_widths={half},{half} if this "
            "is right"
        )
        yield Finding(ASSUMED_STREAMS, WARNING, message)


def _find_scales(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield findings about parts whose features are much larger or smaller than in training."""
    for stream, name in enumerate(_MODALITIES if len(dataset.stream_widths) != 1 else ("",)):
        scales = facts.scales[:, stream]
        trained, stop = _median(scales[: len(dataset.train)]), len(dataset.train)
        for part in ("validation", "test"):
            start, stop = stop, stop + len(getattr(dataset, part))
            ratio = _median(scales[start:stop]) / trained
            if ratio > _LARGER or ratio < 1 / _LARGER:
                message = (
                    f"the {name}{' ' * bool(name)}features of the {THREE[part]} videos are "
                    f"{ratio:.3g} times as large as those of the training videos (medians of the "
                    "first snippets); extract and normalize all videos alike"
                )
                yield Finding("features of another scale", WARNING, message)


def _median(values: np.ndarray) -> float:
    """Return the median of the known values, NaN if they are too few."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) >= _ENOUGH else np.nan


def find_exchanged(dataset: Dataset, facts: Facts) -> Iterator[Finding]:
    """Yield a finding about features whose axes are exchanged.

    Args:
        dataset: the videos.
        facts: the facts of their features.
    """
    known = facts.snippets > 0
    shapes = list(zip(facts.snippets[known].tolist(), facts.widths[known].tolist(), strict=True))
    if message := exchanged(shapes):
        yield Finding("axes", ERROR, message, _names(dataset, known))
