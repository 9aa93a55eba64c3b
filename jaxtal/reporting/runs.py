"""Read finished work directories for a report."""

import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal import methods
from jaxtal.data import activations, activitynet_writer
from jaxtal.data import detections as detection_files
from jaxtal.data.activations import Activations
from jaxtal.data.dataset import Dataset
from jaxtal.data.findings import NOTE
from jaxtal.data.io import json_files
from jaxtal.data.layouts import load_annotations
from jaxtal.data.segments import Segments
from jaxtal.errors import CheckpointError, DataError, one_line, warn
from jaxtal.evaluation import detection_map, error_analysis, protocols
from jaxtal.evaluation.detection_map import Evaluation
from jaxtal.evaluation.error_analysis import ErrorAnalysis
from jaxtal.inference.restore import config_from
from jaxtal.methods.base import ProposalScores
from jaxtal.reporting import tables
from jaxtal.reporting.tables import Result
from jaxtal.training.workdir import Workdir

ERRORS_AT = 0.5  # t-IoU threshold of the error analysis
METRICS = "metrics.jsonl as a run writes it; delete it to omit the curves"


class Curves(NamedTuple):
    """Saved outputs, and the mapping from these outputs to the T-CAM of the page."""

    saved: Activations
    score_spec: ProposalScores


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """Detections of a model in the test videos.

    Attributes:
        name: name of the work directory, and of the model if the directory has several.
        truth: the ground truth; the other attributes index its test videos.
        protocol: name of the protocol of the evaluation.
        found: detections, in seconds.
        curves: outputs for the same videos, if they were saved.
    """

    name: str
    truth: Dataset
    protocol: str
    found: Segments
    curves: Curves | None = None

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """Evaluation under the protocol."""
        protocol = protocols.get(self.protocol)
        truth = self.truth
        return detection_map.evaluate(
            truth.test, self.found, protocol, len(truth.classes), truth.grid
        )

    @functools.cached_property
    def diagnosis(self) -> ErrorAnalysis:
        """Error analysis at t-IoU `ERRORS_AT`."""
        return error_analysis.analyze_errors(self.evaluation, ERRORS_AT)

    @functools.cached_property
    def kind(self) -> np.ndarray:
        """Index into `ERROR_TYPES` of each detection, (n,) int; the length if not evaluated."""
        kind = np.full(len(self.found), len(error_analysis.ERROR_TYPES))
        kind[self.evaluation.given] = self.diagnosis.kind
        return kind


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished work directory.

    Attributes:
        name: name of the folder, with parent folders if several have the same name.
        result: content of result.json.
        metrics: lines of metrics.jsonl.
        truth: the ground truth, None if it was not saved.
        models: the trained model; for a population the first member that did not diverge and the
            ensemble of all, if there is one.
        missing: a line for each part that the report lacks, with the way to get it.
        data: content of data.json without the findings, "" if there is none.
        findings: errors and warnings of the examination of the data set, a line each.
    """

    name: str
    result: Result
    metrics: list[dict[str, Any]]
    truth: Dataset | None
    models: list[Model]
    missing: list[str]
    data: str
    findings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs on the same test videos with the same ground truth and official protocol.

    Attributes:
        title: name of the data set, with a number if several have the same name.
        truth: the ground truth, None if it was not saved.
        runs: the runs.
    """

    title: str
    truth: Dataset | None
    runs: list[Run]

    @property
    def models(self) -> list[Model]:
        """Models of all runs."""
        return [model for run in self.runs for model in run.models]


def evaluation(folder: Path, checkpoint: int | str = "last") -> Path:
    """Return the folder with the results of a checkpoint of a run.

    Args:
        folder: work directory of a finished run.
        checkpoint: "last", whose results are in `folder` itself; "best"; or a step.

    Raises:
        CheckpointError: there is no such checkpoint, or it has not been evaluated.
    """
    if checkpoint == "last":
        return folder
    files = Workdir(folder)
    step = files.checkpoint(checkpoint)
    if step == files.latest_step():
        return folder
    found = files.evaluation_dir(step, {}).path
    if not (found / "result.json").is_file():
        raise CheckpointError(
            f"{folder}: the checkpoint of step {step} has not been evaluated on its own; do it "
            f"with `jaxtal train --mode=eval --checkpoint={checkpoint}` and the run's --config and "
            "--workdir, then repeat this command"
        )
    return found


def read(folders: Sequence[Path]) -> list[Run]:
    """Read finished work directories.

    Args:
        folders: the work directories.

    Returns:
        The runs, in the same order.

    Raises:
        DataError: a folder is given twice or is not a work directory, its run has not finished, or
            a file in it is damaged or does not match the others.
    """
    called = names(folders)
    return [_read(Workdir(folder), name) for folder, name in zip(folders, called, strict=True)]


def names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest distinct names of folders: base names, with parents if necessary.

    Args:
        folders: the folders.

    Returns:
        A name per folder.

    Raises:
        DataError: a folder is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise DataError(f"workdir={folders[index]} is given twice; name each folder once")

    def last(path: Path, count: int) -> str:
        return "/".join(path.parts[-count:])

    return [
        next(
            one_line(last(path, count))
            for count in itertools.count(3 if path.parent.name == "evaluations" else 1)
            if [last(other, count) for other in paths].count(last(path, count)) == 1
        )
        for path in paths
    ]


def _read(files: Workdir, name: str) -> Run:
    config = files.read_config()
    result = tables.read(files.path, name)
    missing = []
    if result.diverged:
        numbers = ", ".join(map(str, result.diverged))
        missing.append(f"{name}: diverged, and excluded from all numbers: member {numbers}")
    annotations_file = files.path / "annotations.json"
    truth = load_annotations(annotations_file) if annotations_file.is_file() else None
    models = []
    for called, folder in _folders(files.path, name, result):
        detections, saved = folder / "detections.json", folder / "activations.npz"
        absent = [path for path in (annotations_file, detections, saved) if not path.is_file()]
        if absent:
            missing.append(_lack(called, [path.name for path in absent]))
        if truth is None or detections in absent:
            continue
        found = detection_files.read(detections, truth)
        curves = None
        if config.get("method") not in methods.METHODS:
            missing.append(f"{called}: no curves, as its method is not one of this package's")
        elif saved not in absent:
            curves = saved_curves(saved, truth, config)
        models.append(Model(called, truth, result.official, found, curves))
    data, findings = _data(files.path / "data.json", name)
    metrics, lost = _metrics(files, result.metrics_lines)
    missing += lost
    return Run(name, result, metrics, truth, models, missing, data, findings)


def _data(path: Path, name: str) -> tuple[str, list[str]]:
    """Return the content of data.json without its findings, and a line for each of these."""
    if not path.is_file():
        return "", []
    content = json_files.load(path, "a run's data")
    with tables.naming(path, "a run's data"):
        findings = [
            f"{name}: {finding['severity']}: {one_line(finding['message'])}"
            for finding in content.pop("findings", ())
            if finding["severity"] != NOTE
        ]
    return json.dumps(content, sort_keys=True), findings


def _folders(path: Path, name: str, result: Result) -> Iterator[tuple[str, Path]]:
    """Yield the name of each model in a work directory and the folder of its detections."""
    if result.member is None:
        yield name, path
        return
    yield f"{name}, member {result.member}", path / "members" / str(result.member)
    if result.ensemble:
        yield f"{name}, ensemble", path / "ensemble"


def _lack(name: str, files: list[str]) -> str:
    what = "curves of its attention and T-CAM"
    if files != ["activations.npz"]:
        what = "AP by class, errors and videos"
    how = "mode=eval, the same checkpoint and " if "/evaluations/" in name else ""
    return (
        f"{name}: no {what}, as there is no {' and no '.join(files)}; repeat the run's command "
        f"with {how}config.evaluation.save_activations=True, which writes what is missing"
    )


def saved_curves(path: Path, truth: Dataset, config: dict[str, Any]) -> Curves:
    """Read the saved outputs of the test videos.

    Args:
        path: a file activations.npz.
        truth: the ground truth of the run.
        config: content of the run's config.json.

    Raises:
        DataError: the file is damaged, or of other videos.
    """
    method = methods.get(config["method"])
    with tables.naming(f"the config of {path.parent}", "a config as a run writes it"):
        score_spec = method.score_spec(config_from(config))
    saved = activations.read(path, method.localization_inputs)
    first = next(filter(None, saved.outputs), None)
    columns = len(truth.classes) if first is None else score_spec.activations(first).shape[1]
    names = tuple(video.name for video in truth.test)
    if (saved.videos, saved.classes, columns) != (names, truth.classes, len(truth.classes)):
        raise DataError(
            f"{path}: its videos or classes are not those of annotations.json; repeat the run's "
            "command with config.evaluation.save_activations=True to write both"
        )
    return Curves(saved, score_spec)


def _metrics(files: Workdir, wanted: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines of metrics.jsonl, and a remark if it has fewer than were written."""
    path = files.path / "metrics.jsonl"
    lines = files.metrics()
    if not path.exists() or len(lines) >= wanted:
        return lines, []
    lost = f"{path}: truncated, {len(lines)} of {wanted} lines are left; the curves lack the others"
    warn(lost)
    return lines, [lost]


def groups(runs: Sequence[Run]) -> list[Group]:
    """Group runs by test videos, ground truth and official protocol, in the given order.

    Args:
        runs: as `read` returns them.

    Returns:
        The groups.
    """
    found: dict[tuple[str, str, bool, str], list[Run]] = {}
    for run in runs:
        tested = run.data
        if run.truth is not None:  # the training videos do not matter
            tested = activitynet_writer.to_json(dataclasses.replace(run.truth, train=()))
        key = run.result.data, run.result.official, run.truth is None, tested
        found.setdefault(key, []).append(run)
    named: Counter[str] = Counter()
    made = []
    for (name, _, unknown, _), members in found.items():
        name = f"{name}, annotations not saved" if unknown else name
        named[name] += 1
        title = name if named[name] == 1 else f"{name} ({named[name]})"
        made.append(Group(title, members[0].truth, members))
    return made
