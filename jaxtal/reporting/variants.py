"""Read the models of work directories, by run and member, for figures that compare them."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.data import detections as detection_files
from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset
from jaxtal.errors import CheckpointError, DataError, JaxtalError, warn
from jaxtal.inference import restore
from jaxtal.reporting import runs
from jaxtal.training.workdir import Workdir
from jaxtal.visualization.timelines import Variant


class Named(NamedTuple):
    """A model of a work directory.

    Attributes:
        folder: the work directory.
        member: "" for a run with one model, the number of a member of a population, or "ensemble".
    """

    folder: Path
    member: str

    @property
    def results(self) -> Path:
        """The folder with its detections."""
        if not self.member:
            return self.folder
        parts = (self.member,) if self.member == "ensemble" else ("members", self.member)
        return self.folder.joinpath(*parts)


def parse(text: str) -> Named:
    """Parse RUN, RUN:MEMBER or RUN:ensemble.

    Args:
        text: a work directory, with the number of a member of a population.

    Raises:
        DataError: there is no such work directory or member.
    """
    match = re.fullmatch(r"(.+):(\d+|ensemble)", text, re.DOTALL)
    folder, member = (match[1], match[2]) if match else (text, "")
    named = Named(Path(folder), member)
    if not (named.folder / "config.json").is_file():
        raise DataError(f"{text}: no work directory; wanted RUN, RUN:MEMBER or RUN:ensemble")
    if not (named.results / "detections.json").is_file():
        raise DataError(f"{text}: no {named.results / 'detections.json'}; {_hint(named.folder)}")
    return named


def _hint(folder: Path) -> str:
    """Return the models that a work directory has, in words."""
    if (folder / "detections.json").is_file():
        return f"the run has one model; give {folder}"
    names = [path.name for path in (folder / "members").glob("*") if path.name.isdigit()]
    members = ", ".join(f":{number}" for number in sorted(map(int, names)))
    if not members:
        return "the run has not finished"
    return f"it is a population; {folder} has {members}; a member that has diverged has no results"


def read_truth(chosen: Sequence[Named]) -> Dataset:
    """Read the ground truth that the runs share.

    Args:
        chosen: the models.

    Raises:
        DataError: there is none, or the runs have other test videos or classes.
    """
    truths = []
    for named in chosen:
        path = named.folder / "annotations.json"
        if not path.is_file():
            raise DataError(f"{path} is missing; a run on annotated test videos writes it")
        truths.append(layouts.load_annotations(path))
    first = truths[0]
    for named, truth in zip(chosen, truths, strict=True):
        if _videos(truth) != _videos(first):
            raise DataError(
                f"{named.folder}: other test videos or classes than in {chosen[0].folder}; compare "
                "runs on the same data"
            )
    return first


def _videos(truth: Dataset) -> Any:
    return truth.classes, [
        (video.name, video.duration, video.segments.tolist()) for video in truth.test
    ]


def labels(chosen: Sequence[Named]) -> list[str]:
    """Return a distinct label for each model: the run's name, with the member."""
    folders = [*dict.fromkeys(named.folder for named in chosen)]
    names = dict(zip(folders, runs.names(folders), strict=True))
    return [names[named.folder] + (f":{named.member}" if named.member else "") for named in chosen]


def read(named: Named, label: str, truth: Dataset, indices: Sequence[int]) -> Variant:
    """Read the detections and curves of a model.

    Curves are those of activations.npz. Without this file the network is run on the features of
    the videos, if the data that the run's config names can be read.

    Args:
        named: the model.
        label: name of the model in the figure.
        truth: as `read_truth` returns it.
        indices: indices of the test videos that need curves.

    Raises:
        DataError: a file is damaged.
    """
    found = detection_files.read(named.results / "detections.json", truth)
    try:
        outputs, activation = _curves(named, truth, indices)
    except (JaxtalError, OSError) as error:
        warn(f"{label}: no attention and no T-CAM in the figure: {error}")
        outputs, activation = {}, {}
    return Variant(label, found, outputs, activation)


def _curves(named: Named, truth: Dataset, indices: Sequence[int]) -> tuple[dict, dict]:
    """Return outputs and activations of videos by their index."""
    saved = named.results / "activations.npz"
    if saved.is_file():
        curves = runs.saved_curves(saved, truth, Workdir(named.folder).read_config())
        stored, spec = curves.saved.outputs, curves.score_spec
        outputs = {index: stored[index] for index in indices if stored[index]}
    else:
        member = int(named.member) if named.member.isdigit() else None
        model = restore.load_work_directory(named.folder, member, named.member == "ensemble")
        features, spec = _features(named.folder, truth), model.score_spec
        outputs = {index: model.outputs(features[index]) for index in indices}
    return outputs, {index: spec.activations(output) for index, output in outputs.items()}


@functools.lru_cache(maxsize=1)
def _features(folder: Path, truth: Dataset) -> list[np.ndarray]:
    """Return the features of the test videos, from the data that the run's config names."""
    config = restore.config_from(Workdir(folder).read_config())
    dataset = layouts.load_from_config(config.data)
    if [video.name for video in dataset.test] != [video.name for video in truth.test]:
        raise CheckpointError(f"{folder}: config.data has other test videos now")
    return [video.features for video in dataset.test]
