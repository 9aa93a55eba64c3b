"""High-level functions of `import jaxtal`: train, evaluate, analyze errors, localize.

Only training and trained models import JAX; evaluation and localization use NumPy.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtal import reprs
from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.detections import Detections, spelled_as_in
from jaxtal.data.examination import examine_truth
from jaxtal.data.reading import THREE, from_keywords
from jaxtal.data.segments import Segments
from jaxtal.errors import ConfigError, DataError, short_repr, warn
from jaxtal.evaluation import detection_map, error_analysis, protocols
from jaxtal.evaluation.detection_map import Evaluation
from jaxtal.evaluation.error_analysis import ErrorAnalysis
from jaxtal.evaluation.plausibility import warn_of_implausible
from jaxtal.evaluation.protocols import Protocol
from jaxtal.localization import proposals
from jaxtal.localization.config import LocalizationConfig

if TYPE_CHECKING:  # these import JAX or Matplotlib
    from matplotlib.figure import Figure
    from ml_collections import ConfigDict

    from jaxtal.inference.model import Model

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """Finished training run, as returned by `train`.

    Attributes:
        workdir: Folder with all files of the run.
        result: Content of result.json: mAP (fractions) of the last and the best step, times in
            seconds; no mAP if no test video is annotated.
        metrics: Lines of metrics.jsonl: loss terms and evaluations by step.

    Examples:
        >>> result = jaxtal.train(jaxtal.get_config("co2net_demo"), "runs/co2net_demo")
        >>> detections = result.model().predict("features/")
    """

    workdir: Path
    result: dict[str, Any]
    metrics: list[dict[str, Any]]

    def model(self, *, member: int | None = None, ensemble: bool = False) -> "Model":
        """Load the trained model of the last step.

        Args:
            member: Member of a population, counted from 0; None for a run with one model.
            ensemble: Average the outputs of all members of a population that have not diverged.

        Returns:
            The model.

        Raises:
            CheckpointError: The member does not exist, or its training has diverged.
        """
        from jaxtal.inference.model import load_model

        return load_model(self.workdir, member=member, ensemble=ensemble)

    def plot(self) -> "Figure":
        """Draw the loss terms and the mAP by step, see `jaxtal.plot.training`.

        Returns:
            A Matplotlib figure.
        """
        from jaxtal.visualization.plot import training

        return training(self)

    def __repr__(self) -> str:
        return reprs.plain(*self._table())

    def _repr_html_(self) -> str:
        return reprs.as_html(*self._table())

    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        result = self.result
        mean = result.get("mean", result)  # the mean, for a population
        named = {
            title: reprs.at(mean, path) for title, path in reprs.evaluation_paths(mean).items()
        }
        known = {title: {**one.get("map", {}), **one["average"]} for title, one in named.items()}
        columns = next(iter(known.values()), {})
        rows = [
            [title, *(reprs.per_cent(values.get(name, np.nan)) for name in columns)]
            for title, values in known.items()
        ]
        run = f"{result['method']} on {result['data']}"
        if not known:
            return f"{run}: no mAP, as no test video is annotated", [], []
        protocol = next(iter(named.values())).get("protocol") or result["protocol"]
        return f"{run}: mAP, % ({protocol})", ["t-IoU", *columns], rows


def train(
    config: "ConfigDict",
    workdir: _Path | None = None,
    *,
    dataset: Dataset | None = None,
    resume: bool = True,
    progress: bool = True,
) -> TrainResult:
    """Train a method and evaluate it on the test videos of a data set.

    With validation videos, these are evaluated during training, and the test videos at the end.

    Args:
        config: Config of the run, as returned by `get_config`; it is not modified.
        workdir: Folder for checkpoints, metrics, detections and plots; None for a temporary folder,
            which is removed together with the returned object.
        dataset: Data set with features; None for the one that `config.data` names. Its name
            selects the protocol, unless `config.evaluation.protocol` does.
        resume: Resume a run in `workdir`; False raises an error if there is one.
        progress: Show a progress bar.

    Returns:
        The finished run.

    Raises:
        ConfigError: The config is invalid, or `workdir` holds a run and `resume` is False.
        DataError: The data set is invalid.
        CheckpointError: `workdir` holds a run that cannot be resumed.

    Examples:
        >>> config = jaxtal.get_config("co2net_demo", overrides={"train.steps": 400})
        >>> result = jaxtal.train(config, "runs/co2net_demo")
    """
    from jaxtal.training import trainer
    from jaxtal.training.workdir import Workdir

    if not hasattr(config, "to_dict"):
        raise ConfigError(
            f"config is {short_repr(config)}; wanted a config as returned by jaxtal.get_config"
        )
    show = _bar if progress else trainer.no_progress
    with contextlib.ExitStack() as on_error:
        if workdir is None:
            folder = Path(tempfile.mkdtemp(prefix="jaxtal_"))
            on_error.callback(shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = Path(workdir)
        files = Workdir(folder)
        if not resume and files.latest_step() is not None:
            raise ConfigError(
                f"{folder} holds a run, at step {files.latest_step()}; resume=True resumes it, "
                "or give another workdir=..."
            )
        result = trainer.train_and_evaluate(config, folder, dataset=dataset, progress=show)
        found = TrainResult(folder, result, files.metrics())
        on_error.pop_all()
    if workdir is None:
        weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
    return found


@contextlib.contextmanager
def _bar(start: int, steps: int) -> Iterator:
    from jaxtal.visualization import console  # imports rich, which is slow

    with console.progress(start, steps) as show:
        yield show


def evaluate(
    dataset: Dataset | _Path,
    detections: Detections | _Path,
    protocol: str | Protocol = "official",
    *,
    skip_unknown: bool = False,
    **options: Any,
) -> Evaluation:
    """Evaluate detections of any program against the test videos of a data set.

    A warning is logged if most detections begin after the end of their video, with the unit that
    they seem to have, or if more than half of the test videos have no detections.
    Detections in training videos are skipped and counted. Test videos without detections count as
    missed. The function needs neither a model nor JAX.

    Args:
        dataset: Ground truth: a `Dataset`, a JSON file in ActivityNet form, or a data set in any
            layout that has annotations.
        detections: `Detections`, or a JSON file in ActivityNet form, times in seconds.
        protocol: Name of a protocol (see `jaxtal.protocols.names`), with switches as in
            "thumos_d2+stop_at_empty_class", or a `Protocol`.
        skip_unknown: Skip detections of unknown videos and classes, with a warning, instead of
            raising.
        **options: Statements about the annotations, fields of
            `jaxtal.data.reading.ReadingOptions` such as `unit="frames"`.

    Returns:
        mAP by t-IoU threshold and average precision by class, as fractions, and the counts of
        skipped detections.

    Raises:
        ConfigError: The protocol or its switch does not exist.
        DataError: A file is missing or malformed, a video or class is unknown, or an option does
            not exist or has no effect.

    Examples:
        >>> result = jaxtal.evaluate("data/thumos14", "detections.json", "thumos14")
        >>> result.map[0.5]  # a fraction
    """
    chosen = protocol if isinstance(protocol, Protocol) else protocols.get(protocol)
    stated = from_keywords("evaluate", **options)
    if isinstance(dataset, Dataset):
        truth = layouts.in_memory(dataset, stated, "dataset is in memory")
    else:
        truth = layouts.load_annotations(Path(dataset), stated)
    found = detections if isinstance(detections, Detections) else Detections.from_json(detections)
    where = "detections" if isinstance(detections, Detections) else f"{detections}"
    found = dataclasses.replace(found, videos=tuple(spelled_as_in(truth, found.videos, where)))
    examine_truth(truth, truth.name)
    segments, left_out = _in_test_videos(found, truth, skip_unknown)
    warn_of_implausible(where, segments, truth.test)
    result = detection_map.evaluate(
        truth.test, segments, chosen, len(truth.classes), truth.grid, truth.classes
    )
    return dataclasses.replace(result, left_out={**result.left_out, **left_out})


def _in_test_videos(
    detections: Detections, dataset: Dataset, skip_unknown: bool
) -> tuple[Segments, dict[str, int]]:
    """Return the detections with the data set's indices, and counts of skipped detections."""
    given = detections.segments
    test = {video.name: index for index, video in enumerate(dataset.test)}
    others = {
        video.name: f"of {THREE[part]} videos"
        for part in ("train", "validation")
        for video in getattr(dataset, part)
        if video.name not in test
    }
    classes = {name: index for index, name in enumerate(dataset.classes)}
    videos = np.array([test.get(name, -1) for name in detections.videos], np.int64)[given.video]
    labels = np.array([classes.get(name, -1) for name in detections.classes], np.int64)[given.label]
    other = np.array([others.get(name, "") for name in detections.videos], object)[given.video]
    unknown = {
        "of unknown videos": (videos < 0) & (other == ""),
        "of unknown classes": (videos >= 0) & (labels < 0),
    }
    for what, where in unknown.items():
        if where.any():
            _report_unknown(what, np.flatnonzero(where), detections, dataset, skip_unknown)
    counts = {what: int(where.sum()) for what, where in unknown.items() if where.any()}
    counts |= Counter(other[other != ""].tolist())
    known = (videos >= 0) & (labels >= 0)
    segments = dataclasses.replace(given, video=videos, label=labels).take(known)
    return segments, counts


def _report_unknown(
    what: str, where: np.ndarray, detections: Detections, dataset: Dataset, skip: bool
) -> None:
    if skip:
        warn(f"{len(where)} detections {what} are skipped")
        return
    first = detections.to_records()[where[0]]
    kind, known = ("video", "test videos") if "video" in what else ("label", "classes")
    skips = ", or skip_unknown=True skips them" if len(where) < len(detections) else ""
    raise DataError(
        f"{len(where)} detections {what}, the first with {kind} {short_repr(first[kind])}, "
        f"which is not among the {known} of {dataset.name}; correct them{skips}"
    )


def analyze_errors(result: Evaluation, tiou: float = 0.5, top: int = 10) -> ErrorAnalysis:
    """Classify the detections of an evaluation by error type.

    Args:
        result: Result of `evaluate`.
        tiou: t-IoU threshold at which detections are classified, one of the protocol's.
        top: Number of false positives with the highest scores to list.

    Returns:
        Counts and mAP gains by error type, recall by instance, and the listed false positives.

    Raises:
        DataError: The protocol does not have the threshold.

    Source: Alwassel et al. 2018 ([docs][evaluation-error-analysis]).

    Examples:
        >>> result = jaxtal.evaluate("data/thumos14", "detections.json", "thumos14")
        >>> print(jaxtal.analyze_errors(result, tiou=0.5))
    """
    return error_analysis.analyze_errors(result, tiou, top)


def localize(
    activations: Any,
    *,
    classes: Sequence[str] | None = None,
    gate: Any = None,
    video_scores: Any = None,
    time_grid: TimeGrid | None = None,
    **options: Any,
) -> Detections:
    """Localize actions from the class activation sequences (T-CAMs) of any model, without JAX.

    Args:
        activations: (T, C) array of values from 0 to 1, one row per snippet and one column per
            class, without background; or a list of such arrays (named video_0, video_1, ...), or
            a dict of them by video name.
        classes: Names of the C classes; by default "0", "1", ...
        gate: Sequence that the thresholds apply to, for example an attention: (T, C), or (T, 1)
            for all classes, in a container like `activations`; None for the activations.
        video_scores: (C,) class scores of a video, in a container like `activations`; None for
            the mean of the max(1, floor(T / topk_divisor)) largest activations.
        time_grid: Time grid of the snippets; None for 25 frames per second and 16 frames per
            snippet.
        **options: Fields of `jaxtal.localization.config.LocalizationConfig`, such as
            `class_threshold=0.1`; the defaults are those of configs/common.py.

    Returns:
        The detections, times in seconds.

    Raises:
        ConfigError: An option does not exist.
        DataError: There is no video, an array is not finite or has the wrong shape, or the
            arguments differ in their videos or classes.

    Source: [docs][localization].

    Examples:
        >>> tcam = np.load("tcam.npy")  # (T, 2)
        >>> jaxtal.localize(tcam, classes=["jump", "throw"], class_threshold=0.1)
    """
    settings = _localization_config(options)
    sequences = _by_name(activations, "activations")
    if not sequences:
        raise DataError("activations: no video; wanted (T, C) arrays")
    num_classes = _columns_of(sequences)
    names = tuple(classes or map(str, range(num_classes)))
    if len(names) != num_classes:
        raise DataError(
            f"activations have {num_classes} columns, but classes=... has {len(names)} names"
        )
    gates = _alike(gate, sequences, "gate")
    scores = _alike(video_scores, sequences, "video_scores")
    evidence = [
        _evidence(name, sequence, gates.get(name), scores.get(name), settings)
        for name, sequence in sequences.items()
    ]
    lengths = [len(sequence) for sequence in sequences.values()]
    grid = time_grid or TimeGrid()
    found = proposals.localize_videos(evidence, lengths, lengths, grid, settings)
    return Detections(found, tuple(sequences), names)


def _localization_config(options: Mapping[str, Any]) -> LocalizationConfig:
    known = [field.name for field in dataclasses.fields(LocalizationConfig)]
    for name in options:
        if name not in known:
            raise ConfigError(f"localize has no option {name!r}, only {', '.join(known)}")
    # The only source of defaults; it does not import JAX.
    from jaxtal.configs import common

    return LocalizationConfig(**{**common.get_config().localization, **options})


def _by_name(value: Any, what: str) -> dict[str, np.ndarray]:
    """Return {video: float64 array} of an array, a list of arrays or a dict of arrays."""
    if isinstance(value, Mapping):
        named = {str(name): one for name, one in value.items()}
    elif isinstance(value, list | tuple):
        named = {f"video_{index}": one for index, one in enumerate(value)}
    else:
        named = {"video_0": value}
    return {name: _finite(one, f"{what}, video {name}") for name, one in named.items()}


def _finite(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {short_repr(value)}; wanted an array of numbers") from None
    if not array.size or not np.isfinite(array).all():
        raise DataError(
            f"{where}: an array of shape {array.shape} that is empty or has values that are not "
            "finite; wanted finite numbers"
        )
    return array


def _columns_of(sequences: Mapping[str, np.ndarray]) -> int:
    """Return C; raise DataError unless all arrays are (T, C)."""
    shapes = {name: sequence.shape for name, sequence in sequences.items()}
    first = next(iter(shapes.values()))
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[1] != first[1]:
            raise DataError(
                f"activations, video {name}: an array of shape {shape}; wanted (T, C), the same C "
                "for all videos"
            )
    return first[1]


def _alike(value: Any, sequences: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Return {video: array}; {} for None. Raise DataError for other videos than `sequences`."""
    if value is None:
        return {}
    found = _by_name(value, what)
    if found.keys() != sequences.keys():
        differing = Counter([*found, *sequences])
        name = next(name for name, count in differing.items() if count == 1)
        raise DataError(
            f"{what}: video {short_repr(name)} is in only one of activations and {what}"
        )
    return found


def _evidence(
    name: str,
    sequence: np.ndarray,
    gate: np.ndarray | None,
    scores: np.ndarray | None,
    settings: LocalizationConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arguments of `proposals.generate_proposals`: sequence, gate, class scores."""
    length, classes = sequence.shape
    gate = sequence if gate is None else gate
    if scores is None:
        scores = proposals.topk_mean(sequence, max(1, length // settings.topk_divisor))
    if gate.shape not in ((length, classes), (length, 1)):
        raise DataError(
            f"gate, video {name}: shape {gate.shape}; wanted ({length}, {classes}) or ({length}, 1)"
        )
    if scores.shape != (classes,):
        raise DataError(f"video_scores, video {name}: shape {scores.shape}; wanted ({classes},)")
    return sequence, gate, scores
