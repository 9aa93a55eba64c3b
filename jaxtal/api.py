"""What `import jaxtal` offers beyond the rooms' own functions: train, evaluate, localize.

JAX is imported by `train` alone: evaluation and localization compute with NumPy.
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
from jaxtal.data.detections import Detections
from jaxtal.data.segments import Segments
from jaxtal.errors import ConfigError, DataError, short_repr, warn
from jaxtal.evaluation import detection_map, error_analysis, protocols
from jaxtal.evaluation.detection_map import Evaluation
from jaxtal.evaluation.error_analysis import ErrorAnalysis
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
    """A finished training run.

    Attributes:
        workdir: the folder with everything that the run wrote.
        result: what result.json holds: mAP of the last step and of the best one, and times.
        metrics: the lines of metrics.jsonl: loss terms and evaluations by step.
    """

    workdir: Path
    result: dict[str, Any]
    metrics: list[dict[str, Any]]

    def model(self, *, member: int | None = None, ensemble: bool = False) -> "Model":
        """Return the trained model, that of the last step; arguments as of `load_model`."""
        from jaxtal.inference.model import load_model

        return load_model(self.workdir, member=member, ensemble=ensemble)

    def plot(self) -> "Figure":
        """Return a figure of the loss terms and the test mAP by step."""
        from jaxtal.visualization.plot import training

        return training(self)

    def __repr__(self) -> str:
        return reprs.plain(*self._table())

    def _repr_html_(self) -> str:
        return reprs.as_html(*self._table())

    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        result = self.result
        mean = result.get("mean", result)  # of a population
        values = {**mean["map"], **mean["average"]}
        rows = [["last step", *map(reprs.per_cent, values.values())]]
        if "best_on_test" in mean:
            best = mean["best_on_test"]
            known = {**best.get("map", {}), **best["average"]}
            rows.append(
                ["best on test", *(reprs.per_cent(known.get(name, np.nan)) for name in values)]
            )
        title = f"{result['method']} on {result['data']}: mAP, % ({result['protocol']})"
        return title, ["t-IoU", *values], rows


def train(
    config: "ConfigDict",
    workdir: _Path | None = None,
    *,
    dataset: Dataset | None = None,
    resume: bool = True,
    progress: bool = True,
) -> TrainResult:
    """Train a method, evaluate it on the test videos, and write everything to a folder.

    Args:
        config: as `get_config` returns it; it is not changed.
        workdir: the folder for checkpoints, metrics, detections and plots. None: a temporary one,
            which is removed with the returned object; give a folder to keep the run.
        dataset: with features, in place of the one that `config.data` names. Its name decides on
            the protocol unless `config.evaluation.protocol` does; a later run in the same folder
            must be on the same data.
        resume: continue a run that `workdir` holds; False: such a folder is an error.
        progress: show a progress bar.

    Raises:
        ConfigError, DataError: the config or the data cannot be used.
        CheckpointError: `workdir` holds a run that cannot be continued.
    """
    from jaxtal.training import trainer
    from jaxtal.training.workdir import Workdir

    if not hasattr(config, "to_dict"):
        raise ConfigError(f"config is {short_repr(config)}; wanted what jaxtal.get_config returns")
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
                f"{folder} holds a run, at step {files.latest_step()}; resume=True continues it, "
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
    from jaxtal.visualization import console  # rich, which takes long to import

    with console.progress(start, steps) as show:
        yield show


def evaluate(
    dataset: Dataset | _Path,
    detections: Detections | _Path,
    protocol: str | Protocol = "official",
    *,
    skip_unknown: bool = False,
) -> Evaluation:
    """Evaluate detections in the test videos of a data set; needs no model and no JAX.

    Detections in training videos, which a model that predicted a whole data set has too, are left
    out. Test videos without detections count.

    Args:
        dataset: the ground truth: a `Dataset`, a JSON file in ActivityNet form, or a data set in
            any layout that has annotations.
        detections: from any program: `Detections`, or a JSON file in ActivityNet form.
        protocol: its name (see `jaxtal.evaluation.protocols.names`), with any switches, or the
            protocol.
        skip_unknown: leave out, with a warning, detections of unknown videos and classes.

    Raises:
        ConfigError: there is no such protocol.
        DataError: a file is missing or malformed; a video or class is unknown.
    """
    chosen = protocol if isinstance(protocol, Protocol) else protocols.get(protocol)
    truth = dataset if isinstance(dataset, Dataset) else layouts.load_annotations(Path(dataset))
    found = detections if isinstance(detections, Detections) else Detections.from_json(detections)
    segments, left_out = _in_test_videos(found, truth, skip_unknown)
    result = detection_map.evaluate(
        truth.test, segments, chosen, len(truth.classes), truth.grid, truth.classes
    )
    return dataclasses.replace(result, left_out={**result.left_out, **left_out})


def _in_test_videos(
    detections: Detections, dataset: Dataset, skip_unknown: bool
) -> tuple[Segments, dict[str, int]]:
    """Return the detections by the data set's numbers, and how many were left out and why."""
    given = detections.segments
    test = {video.name: index for index, video in enumerate(dataset.test)}
    training = {video.name for video in dataset.train} - test.keys()
    classes = {name: index for index, name in enumerate(dataset.classes)}
    videos = np.array([test.get(name, -1) for name in detections.videos], np.int64)[given.video]
    labels = np.array([classes.get(name, -1) for name in detections.classes], np.int64)[given.label]
    trained_on = np.array([name in training for name in detections.videos], bool)[given.video]
    unknown = {
        "of unknown videos": (videos < 0) & ~trained_on,
        "of unknown classes": (videos >= 0) & (labels < 0),
    }
    for what, where in unknown.items():
        if where.any():
            _report_unknown(what, np.flatnonzero(where), detections, dataset, skip_unknown)
    counts = {what: int(where.sum()) for what, where in unknown.items() if where.any()}
    if trained_on.any():
        counts["of training videos"] = int(trained_on.sum())
    known = (videos >= 0) & (labels >= 0)
    segments = dataclasses.replace(given, video=videos, label=labels).take(known)
    return segments, counts


def _report_unknown(
    what: str, where: np.ndarray, detections: Detections, dataset: Dataset, skip: bool
) -> None:
    if skip:
        warn(f"{len(where)} detections {what} are left out")
        return
    first = detections.to_records()[where[0]]
    kind, known = ("video", "test videos") if "video" in what else ("label", "classes")
    raise DataError(
        f"{len(where)} detections {what}, the first with {kind} {short_repr(first[kind])}, "
        f"which is not among the {known} of {dataset.name}; correct them, or "
        "skip_unknown=True leaves them out"
    )


def analyze_errors(result: Evaluation, tiou: float = 0.5, top: int = 10) -> ErrorAnalysis:
    """Sort the detections of an evaluation by kind of error.

    Args:
        result: as `evaluate` returns it.
        tiou: the t-IoU threshold at which errors are told apart.
        top: how many false positives with high scores are listed.

    Raises:
        ConfigError: the protocol does not have the threshold.
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
    """Turn class activation sequences of any model into detections; needs no JAX.

    Args:
        activations: a (T, C) array for a video, values in 0 to 1, a row for every snippet and a
            column for every class, without one for the background; or a list of such arrays
            (videos video_0, ...), or a dict of them by video name.
        classes: names of the C classes; by default their numbers.
        gate: what the thresholds apply to, (T, C), or (T, 1) for all classes, e.g. an attention, in
            the same form as `activations`; None: the activations.
        video_scores: (C,) scores of the classes in a video, in the same form; None: the mean of the
            max(1, floor(T / topk_divisor)) largest activations.
        time_grid: where snippets lie in time; None: 25 fps, 16 frames a snippet.
        options: fields of `jaxtal.localization.config.LocalizationConfig`, e.g.
            `class_threshold=0.1`.

    Raises:
        ConfigError: there is no such option.
        DataError: an array is not what was wanted.
    """
    settings = _localization_config(options)
    sequences = _by_name(activations, "activations")
    if not sequences:
        raise DataError("activations: there is no video in it; wanted (T, C) arrays")
    num_classes = _columns_of(sequences)
    names = tuple(classes or map(str, range(num_classes)))
    if len(names) != num_classes:
        raise DataError(f"activations have {num_classes} columns, but {len(names)} classes=...")
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
    # The one source of defaults, which imports no JAX.
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
            f"{where}: an array of shape {array.shape} that is empty or has numbers that are not "
            "finite"
        )
    return array


def _columns_of(sequences: Mapping[str, np.ndarray]) -> int:
    """Return C; DataError unless all arrays are (T, C)."""
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
    """Return as `_by_name`; {} for None, DataError for other videos than the activations'."""
    if value is None:
        return {}
    found = _by_name(value, what)
    if found.keys() != sequences.keys():
        differing = Counter([*found, *sequences])
        name = next(name for name, count in differing.items() if count == 1)
        raise DataError(
            f"{what}: activations and {what} are not of the same videos: {short_repr(name)}"
        )
    return found


def _evidence(
    name: str,
    sequence: np.ndarray,
    gate: np.ndarray | None,
    scores: np.ndarray | None,
    settings: LocalizationConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `proposals.generate_proposals` gets: sequence, gate and class scores."""
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
