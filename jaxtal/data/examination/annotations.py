"""Examination of annotations: labels, instances, subsets and classes."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.examination.times import FRAME_RATES, MANY
from jaxtal.data.findings import ERROR, NOTE, WARNING, Finding, few
from jaxtal.data.reading import PARTS, THREE

# Classes of the data sets whose names select protocols of evaluation.
_NUM_CLASSES = {"Thumos14reduced": 20, "Thumos14": 20, "ActivityNet1.2": 100, "ActivityNet1.3": 200}
_ENOUGH = 6  # [videos] fewer allow no conclusion from where their instances end
_EARLY = 0.05  # share of a video
_WHOLE, _MOST = 0.98, 0.9  # share of a video; share of the instances
_BACKGROUND = ("background", "bg", "no action", "no_action", "none", "negative")
_REPEATED = 0.02  # share of the instances; in ActivityNet 1.2 and 1.3 it is below 0.4 %
# Share of the instances above which it is no rare mistake of annotators.
_GRAVE = {
    "instances of no length": 0.02,
    "instances whose class is not a label of the video": 0.1,
}
_WITHHELD = "testing"  # ActivityNet's subset without annotations


class _Instances(NamedTuple):
    """All n instances of a data set as columns.

    Attributes:
        video: (n,) int, position in `Dataset.videos`.
        label: (n,) int, class index.
        start: (n,) seconds.
        end: (n,) seconds.
        duration: (n,) seconds, of the instance's video.
    """

    video: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    duration: np.ndarray


def _columns(videos: Sequence[Video]) -> _Instances:
    counts = [len(video.segments) for video in videos]
    segments = np.concatenate([np.empty((0, 2)), *(video.segments for video in videos)])
    labels = np.concatenate([np.empty(0), *(video.segment_labels for video in videos)])
    return _Instances(
        np.repeat(np.arange(len(videos)), counts),
        labels.astype(np.int64),
        segments[:, 0],
        segments[:, 1],
        np.repeat(np.array([video.duration for video in videos]), counts),
    )


def find(dataset: Dataset, doubtful: bool = False) -> Iterator[Finding]:
    """Yield findings about labels, instances, subsets and classes.

    Args:
        dataset: the videos; their features are not read.
        doubtful: True if the durations are known to be wrong, so that nothing follows from them.
    """
    found = _columns(dataset.videos)
    if not doubtful:
        of_times = itertools.chain(_find_instances(dataset, found), _find_whole(dataset, found))
        yield from [*_find_units(dataset, found)] or [*_find_units_of_parts(dataset)] or of_times
    yield from itertools.chain(_find_labels(dataset), _find_classes(dataset), _find_files(dataset))


def _find_units(dataset: Dataset, found: _Instances) -> Iterator[Finding]:
    """Yield findings about instances that lie in another unit than the durations."""
    late = found.start > found.duration
    enough = len(set(found.video.tolist())) >= _ENOUGH
    reach = found.end / found.duration
    if len(late) and late.mean() > 0.5:
        yield _beyond(dataset, found, reach, enough)
        return
    per_second = dataset.grid.fps / dataset.grid.stride
    if enough and late.mean() > MANY and _fits(reach, per_second, enough):
        message = (
            f"{late.sum()} of {len(late)} instances begin after the end of their video; their "
            f"times fit numbers of snippets of {1 / per_second:g} s: give them in seconds"
        )
        examples = _examples(dataset, found, late)
        yield Finding("segments in another unit", WARNING, message, examples)
        return
    last = np.zeros(len(dataset.videos))
    np.maximum.at(last, found.video, reach)
    if enough and last.max() < 0.5:
        fix = "correct the unit of the segments, or that of the durations"
        if _computed(dataset):
            grid = dataset.grid
            fix = (
                "no durations are given, so they are those of the features on the time grid of "
                f"{grid.in_words}: state the features' fps=..., stride=... and window=..., or "
                "correct the unit of the segments"
            )
        message = (
            f"no instance of {len(dataset.videos)} videos ends after {100 * last.max():.0f} % of "
            f"its video; {fix}"
        )
        yield Finding("instances at the beginning only", WARNING, message)
        return
    early = (last > 0) & (last < _EARLY)
    if enough and early.sum() > MANY * (last > 0).sum():
        names = tuple(dataset.videos[index].name for index in np.flatnonzero(early).tolist())
        message = (
            f"all instances of {early.sum()} of {(last > 0).sum()} videos lie in the first "
            f"{100 * _EARLY:.0f} % of the video: {few(names)}; correct the unit of the segments"
        )
        yield Finding("instances at the beginning only", WARNING, message, names)


def _find_units_of_parts(dataset: Dataset) -> Iterator[Finding]:
    """Yield findings about parts of the data set whose instances are in another unit."""
    for part, videos in dataset.parts.items():
        empty: dict[str, tuple[Video, ...]] = dict.fromkeys(PARTS, ())
        alone = dataset.with_parts(empty | {part: videos})
        enough = sum(len(video.segments) > 0 for video in videos) >= _ENOUGH
        for found in _find_units(alone, _columns(videos)) if enough else ():
            yield dataclasses.replace(found, message=f"{THREE[part]} videos: {found.message}")


def _beyond(dataset: Dataset, found: _Instances, reach: np.ndarray, enough: bool) -> Finding:
    """Return the finding of instances of which most begin after the end of their video."""
    late = found.start > found.duration
    examples = _examples(dataset, found, late)
    seen = f"{late.sum()} of {len(late)} instances begin after the end of their video"
    if _computed(dataset):
        grid = dataset.grid
        message = (
            f"{seen}; no durations are given, so they are those of the features on the time grid "
            f"of {grid.in_words}, and the median instance ends at {np.median(reach):.2g} times of "
            "it: state the features' fps=..., stride=... and window=..., or unit=segment_frames if "
            "the instances are in frames"
        )
        return Finding("segments beyond the features", ERROR, message, examples)
    fps = float(dataset.grid.fps)
    for rate in (fps, *FRAME_RATES):
        if _fits(reach, rate, enough):
            own = f" annotation_fps={rate:g}"
            if rate == fps:
                own = f" (and annotation_fps=... if they are not of {fps:g} fps)"
            message = (
                f"{seen}; their times are frames at about {rate:g} fps, the durations are seconds: "
                f"state unit=segment_frames{own}"
            )
            return Finding("segments in frames", ERROR, message, examples)
    message = f"{seen}; {examples[0]}; correct their unit, or the durations"
    return Finding("segments in another unit", WARNING, message, examples)


def _fits(reach: np.ndarray, per_second: float, enough: bool) -> bool:
    """Return True if instances that end at `reach` of their video are in units of 1/per_second s.

    Args:
        reach: (n,) ends, divided by the durations in seconds.
        per_second: number of units per second.
        enough: True if some of the instances must end in the second half of their video.
    """
    inside = (reach <= 1.05 * per_second).mean() > 0.95
    return bool(inside and not (enough and reach.max() < 0.5 * per_second))


def _computed(dataset: Dataset) -> bool:
    """Return True if most durations are not stated, but those of the features."""
    origin = dataset.origin
    return origin is not None and origin.computed_durations > len(dataset.videos) / 2


def _find_instances(dataset: Dataset, found: _Instances) -> Iterator[Finding]:
    """Yield findings about instances with impossible or unusual times."""
    total = len(found.start)
    outside = (found.start > found.duration) | (found.end < 0)
    backward = found.end < found.start
    kept = "they are kept in the ground truth, where no detection can match them"
    yield from _listed(
        "instances outside their video", WARNING, _examples(dataset, found, outside),
        f"{outside.sum()} of {total} instances lie outside their video; {kept}",
    )  # fmt: skip
    yield from _listed(
        "instances that end before they begin", WARNING, _examples(dataset, found, backward),
        f"{backward.sum()} of {total} instances end before they begin; {kept}",
    )  # fmt: skip
    again = found.video >= len(dataset.train)
    again[np.unique(np.stack(found[:4], axis=1), axis=0, return_index=True)[1]] = False
    if again.sum() > _REPEATED * total:
        yield from _listed(
            "instances annotated more than once", WARNING, _examples(dataset, found, again),
            f"{again.sum()} of {total} instances are copies of others, and one detection matches "
            "only one of them; remove the copies",
        )  # fmt: skip
    beyond = (found.end > found.duration + 0.05) & (found.start <= found.duration)
    num_classes = len(dataset.classes)  # pairs of a video and a class as one number
    labeled, annotated = _label_pairs(dataset), found.video * num_classes + found.label
    unlabeled = ~np.isin(annotated, labeled)
    unusual = {
        "instances that end after their video": beyond,
        "instances that begin before their video": found.start < 0,
        "instances of no length": found.end == found.start,
        "instances whose class is not a label of the video": unlabeled,
    }
    for kind, which in unusual.items():
        grave = _GRAVE.get(kind, 1.0)
        severity = WARNING if which.sum() > grave * max(total, _ENOUGH) else NOTE
        yield from _listed(kind, severity, _examples(dataset, found, which))
    if unlabeled.sum() > max(total, _ENOUGH) / 2:
        message = (
            f"the classes of {unlabeled.sum()} of {total} instances are not labels of their "
            "videos: the labels are those of other videos, or in another order; correct them"
        )
        yield Finding("labels that contradict the instances", ERROR, message)
    bare = labeled[~np.isin(labeled, annotated)]
    names = [
        f"{dataset.videos[video].name} {dataset.classes[label]}"
        for video, label in zip(*map(np.ndarray.tolist, divmod(bare, num_classes)), strict=True)
        if len(dataset.videos[video].segments)
    ]
    yield from _listed("labels without an instance", NOTE, names)


def _label_pairs(dataset: Dataset) -> np.ndarray:
    """Return the sorted video-level labels, each as video * number of classes + class.

    A (videos, classes) mask of a large data set would not fit into memory.
    """
    counts = [len(video.labels) for video in dataset.videos]
    labels = np.concatenate([np.empty(0, np.int64), *(video.labels for video in dataset.videos)])
    first = np.repeat(np.arange(len(counts)) * len(dataset.classes), counts)
    return np.unique(first + labels.astype(np.int64))


def _find_whole(dataset: Dataset, found: _Instances) -> Iterator[Finding]:
    """Yield a finding if test videos are trimmed, so that there is nothing to localize."""
    tested = found.video >= len(dataset.train) + len(dataset.validation)
    whole = tested & (found.end - found.start >= _WHOLE * found.duration)
    if tested.sum() >= _ENOUGH and whole.sum() > _MOST * tested.sum():
        message = (
            f"{whole.sum()} of {tested.sum()} instances of the test videos are as long as their "
            "video, so that mAP measures classification; untrimmed videos are wanted, with the "
            "times of the actions in them"
        )
        yield Finding(
            "instances as long as their video", WARNING, message, _examples(dataset, found, whole)
        )


def _find_labels(dataset: Dataset) -> Iterator[Finding]:
    """Yield findings about videos that nothing can be learned from or tested on."""
    bare = [video.name for video in dataset.train if not len(video.labels)]
    if bare and len(bare) == len(dataset.train):
        message = (
            f"none of the {len(bare)} training videos has a label, so there is nothing to learn "
            'from; add labels ("labels": [...]), or choose other videos with train_subset=...'
        )
        yield Finding("no training label", ERROR, message, tuple(bare))
    elif bare:
        message = f"{len(bare)} of {len(dataset.train)} training videos have no label: {few(bare)}"
        yield Finding("training videos without a label", WARNING, message, tuple(bare))
    total = len(dataset.classes)
    if total > 1 and dataset.train and all(len(v.labels) == total for v in dataset.train):
        message = (
            f"all {len(dataset.train)} training videos have all {total} labels, which do not "
            "distinguish the classes; correct the labels"
        )
        yield Finding("every label in every video", WARNING, message)
    if dataset.train and not dataset.test:
        yield Finding("no test video", NOTE, "there are no test videos, so nothing is predicted")
    elif dataset.test and not dataset.has_ground_truth:
        message = f"none of the {len(dataset.test)} test videos has an annotated instance: no mAP"
        yield Finding("no ground truth", NOTE, message)
    for part, videos in (("validation", dataset.validation), ("test", dataset.test)):
        bare = [video.name for video in videos if not len(video.labels)]
        yield from _listed(f"{part} videos without a label", NOTE, bare)
    bare = [v.name for v in dataset.test if len(v.labels) and not len(v.segments)]
    if dataset.has_ground_truth:
        yield from _listed(
            "test videos with labels only", WARNING, bare, f"{len(bare)} test videos have labels "
            f"but no instances, so that every detection in them is false: {few(bare)}",
        )  # fmt: skip
    names = {video.name for video in dataset.train}
    both = sorted(names & {video.name for video in (*dataset.validation, *dataset.test)})
    yield from _listed(
        "videos in two subsets", WARNING, both, f"{len(both)} videos are in two subsets: "
        f"{few(both)}; a method must not be trained on videos that it is tested on",
    )  # fmt: skip


def _find_classes(dataset: Dataset) -> Iterator[Finding]:
    """Yield findings about classes without videos, and the name of the data set."""
    in_part = {
        part: {label for video in videos for label in video.labels.tolist()}
        for part, videos in (
            ("train", dataset.train), ("other", (*dataset.validation, *dataset.test)),
        )
    }  # fmt: skip
    untrained = sorted(in_part["other"] - in_part["train"]) if in_part["train"] else []
    names = [dataset.classes[label] for label in untrained]
    yield from _listed(
        "classes without a training video", WARNING, names,
        f"{len(names)} classes have test videos but no training video, so that they cannot be "
        f"learned: {few(names)}",
    )  # fmt: skip
    alike: dict[str, list[str]] = {}
    for name in dataset.classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    pairs = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    yield from _listed(
        "classes of one name", WARNING, pairs,
        f"{len(pairs)} classes differ only in capitals or blanks: {few(pairs)}; correct the labels",
    )  # fmt: skip
    seen = in_part["train"] | in_part["other"]
    background = [
        name
        for label, name in enumerate(dataset.classes)
        if name.strip().casefold() in _BACKGROUND and label in seen
    ]
    yield from _listed(
        "background as a class", WARNING, background,
        f"{few(background)} would be learned and evaluated as an action, beside the background "
        "that every method has; remove its labels",
    )  # fmt: skip
    unseen = [name for label, name in enumerate(dataset.classes) if label not in seen]
    yield from _listed("classes without a video", NOTE, unseen)
    wanted = _NUM_CLASSES.get(dataset.name, len(dataset.classes))
    if wanted != len(dataset.classes):
        message = (
            f"the name {dataset.name} selects that data set's protocol of evaluation, but it has "
            f"{wanted} classes, and these videos have {len(dataset.classes)}; give name=..."
        )
        yield Finding("name of another data set", WARNING, message)


def _find_files(dataset: Dataset) -> Iterator[Finding]:
    """Yield findings about unused subsets, missing and superfluous feature files."""
    origin = dataset.origin
    if origin is None:
        return
    counts = [f"{count} of subset {name!r}" for name, count in origin.unused.items()]
    odd = [name for name in origin.unused if name.lower() != _WITHHELD]
    yield from _listed(
        "unused subsets", WARNING if odd else NOTE, counts,
        f"videos in neither training nor test: {', '.join(counts)}; "
        "train_subset=... and test_subset=... choose others",
    )  # fmt: skip
    yield from _listed(
        "contradictory subsets", WARNING, origin.contradictory,
        f"{len(origin.contradictory)} of {len(dataset.videos)} videos are training videos in the "
        'split lists and test videos in the JSON file, or the reverse: '
        f"{few(origin.contradictory)}; the lists are used: correct them, or the file",
    )  # fmt: skip
    yield from _listed(
        "durations shorter than the features", WARNING, origin.lengthened,
        f"{len(origin.lengthened)} of {len(dataset.videos)} durations are more than 5 % shorter "
        f"than the features, whose length is used instead: {few(origin.lengthened)}; correct "
        "them, or the time grid",
    )  # fmt: skip
    if origin.computed_durations:
        message = (
            f"{origin.computed_durations} of {len(dataset.videos)} videos have no duration: that "
            "of their features is used"
        )
        yield Finding("durations of the features", NOTE, message)
    missing = [name for name in origin.missing if name not in set(origin.declared_missing)]
    yield from _listed(
        "videos without features", WARNING, missing,
        f"{len(missing)} videos have no features: {few(missing)}",
    )  # fmt: skip
    yield from _listed("videos listed as missing by the data set", NOTE, origin.declared_missing)
    yield from _listed("feature files without a video", NOTE, origin.unannotated)


def _listed(
    kind: str, severity: str, examples: Sequence[str], message: str = ""
) -> Iterator[Finding]:
    """Yield a finding if there are examples."""
    if examples:
        default = f"{len(examples)} {kind}: {few(examples)}"
        yield Finding(kind, severity, message or default, tuple(examples))


def _examples(dataset: Dataset, found: _Instances, which: np.ndarray) -> tuple[str, ...]:
    """Return a text for each of the instances in a mask (n,)."""
    names = [video.name for video in dataset.videos] if which.any() else []
    rows = zip(*(column[which].tolist() for column in found), strict=True)
    texts = "{} {:g}-{:g} s {}"
    return tuple(texts.format(names[v], s, e, dataset.classes[n]) for v, n, s, e, _ in rows)
