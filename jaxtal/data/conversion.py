"""Convert data sets between the field's layouts, video by video, resumable and with checksums.

During a conversion the folder holds the journal `.jaxtal-convert.jsonl`: a line that describes the
conversion, then a line for each finished video. All files are written atomically, except the joint
file of W-TALC's layout, which grows as `<name>.part` and is renamed when it is complete.
`jaxtal.json` is written last and marks a complete conversion.
"""

import contextlib
import dataclasses
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxtal.data import activitynet_writer
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.io import checksums, json_files, object_arrays
from jaxtal.data.io.files import atomic_write
from jaxtal.data.io.journal import JOURNAL, LOCK, HashedFile, Journal
from jaxtal.data.layouts import manifest, per_video, wtalc, wtalc_writer
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError

_JOINT = ("wtalc", "hamnet")
LAYOUTS = (*_JOINT, *(spec.name for spec in per_video.LAYOUT_SPECS), "activitynet")
_SYNC = 2**26  # bytes of the joint file between two fsyncs; the journal lists synced videos only


# (videos, videos done) -> a context that yields advance(); each video calls it once.
Progress = Callable[[int, int], contextlib.AbstractContextManager[Callable[[], None]]]


def convert(
    source: LazyDataset,
    layout: str,
    folder: Path,
    *,
    skip_damaged: bool = False,
    how_to_skip: str = "skip_damaged=True",
    progress: Progress | None = None,
) -> Dataset:
    """Write a data set in another layout, or resume an interrupted conversion.

    Features and segments are copied bit for bit, training videos first. The memory needed is that
    of a few videos, independent of the size of the data set. The source must not change between an
    interruption and the resumed conversion.

    Args:
        source: the data set to convert; only its annotations are written if it has no features.
        layout: one of `LAYOUTS`.
        folder: the target: new, empty, or with an interrupted conversion of the same source.
        skip_damaged: skip videos whose features cannot be used, with a warning.
        how_to_skip: spelling of the option `skip_damaged=True` in error messages.
        progress: (videos, videos done) -> context that yields a function, called once per video.

    Returns:
        The data set as written, without features.

    Raises:
        DataError: the folder has other content, a file cannot be read or written, or the layout
            cannot represent the data set.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout {layout!r} cannot be written; wanted {', '.join(LAYOUTS)}")
    if layout == "activitynet" or not source.features:
        source = _without_features(source)
    dataset = source.dataset
    if source.features and (skip_damaged or source.declared_missing):
        dataset = _readable(source, skip_damaged, how_to_skip)
    _check_subsets(dataset, layout, source.path)
    task = _task(source, dataset, layout)
    if manifest.conversion(folder) == _number(task):  # an earlier run completed it
        _check_complete(folder)
        return dataset
    _check_folder(folder)
    try:
        with contextlib.closing(Journal(folder, task)) as journal:
            _write_features(source, layout, folder, dataset, journal, how_to_skip, progress)
            _finish(layout, folder, dataset, journal, _number(task))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); run the same command again "
            "to resume"
        ) from None
    return dataset


def _write_features(
    source: LazyDataset,
    layout: str,
    folder: Path,
    dataset: Dataset,
    journal: Journal,
    how_to_skip: str,
    progress: Progress | None,
) -> None:
    """Write the features of the videos that the journal does not list, one at a time."""
    names = [video.name for video in dataset.videos] if source.features else []
    unwanted = {video.name for video in source.videos} - set(names)
    kind = _Joint if layout in _JOINT else _PerVideo
    with contextlib.closing(kind(layout, folder, dataset, journal)) as writer:
        with (progress or _silent)(len(names), len(journal.done)) as advance:
            without = unwanted | journal.done.keys()
            for video in source.iter_videos(False, how_to_skip, without, journal.width()):
                writer.add(video)
                del video  # free the memory before the next video is read
                advance()
        writer.end()


def _finish(layout: str, folder: Path, dataset: Dataset, journal: "Journal", number: int) -> None:
    """Write annotations, checksums and jaxtal.json."""
    for name, text in _annotation_files(layout, dataset).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        json_files.write(folder / name, text)
    if layout in _JOINT:
        wtalc_writer.write_annotations(folder, dataset)
    lines = journal.done.values()
    sums = journal.sums | {
        name: value for line in lines for name, value in line.get("sums", {}).items()
    }
    of_features = set(sums)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(".tmp") and path.name.startswith("."):
            path.unlink()  # from an interrupted write
        elif path.is_file() and name not in (JOURNAL, LOCK, checksums.LIST, manifest.NAME):
            sums.setdefault(name, checksums.of_file(path))
    json_files.write(folder / checksums.LIST, checksums.to_list(sums))
    videos = {
        name: {key: line[key] for key in ("snippets", "crc32") if key in line}
        for name, line in journal.done.items()
    }
    of_features.add(_joint_file(dataset))
    annotations = {name: value for name, value in sums.items() if name not in of_features}
    annotations[checksums.LIST] = checksums.of_file(folder / checksums.LIST)
    content = manifest.content(layout, dataset, videos, annotations, number)
    json_files.write(folder / manifest.NAME, json_files.to_sealed_text(content))
    journal.remove()


@contextlib.contextmanager
def _silent(_: int, __: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def _without_features(source: LazyDataset) -> LazyDataset:
    return LazyDataset(source.layout, source.path, source.dataset)


def _check_subsets(dataset: Dataset, layout: str, where: Path) -> None:
    """Raise DataError for parts that the layout cannot represent."""
    split = any(spec.split for spec in per_video.LAYOUT_SPECS if spec.name == layout)
    judges = [any(len(v.segments) for v in videos) for videos in (dataset.validation, dataset.test)]
    if dataset.validation and (split or (layout in _JOINT and not all(judges))):
        raise DataError(
            f"{where}: {dataset.counts_in_words}; the layout {layout!r} "
            + ("has two parts" if split else "needs annotated instances in the last two")
            + "; choose another layout, or assign the subsets to two parts, as in "
            "test_subset=validation or train_subset=training,validation"
        )
    if layout in (*_JOINT, "actionformer") and not (dataset.train and dataset.test):
        raise DataError(
            f"{where}: {dataset.counts_in_words}; the layout {layout!r} needs both; choose another "
            "layout"
        )


def _task(source: LazyDataset, dataset: Dataset, layout: str) -> dict[str, Any]:
    """Return the parameters that must match for an interrupted conversion to be resumed."""
    annotations = zlib.crc32(json.dumps(activitynet_writer.to_content(dataset)).encode())
    return {
        "from": str(source.path.resolve()),
        "layout": source.layout,
        "to": layout,
        "features": source.features is not None,
        "annotations": annotations,
    }


def _number(task: dict[str, Any]) -> int:
    """Return a checksum that identifies a conversion."""
    return zlib.crc32(json.dumps(task).encode())


def _check_complete(folder: Path) -> None:
    """Raise DataError if a file of a finished conversion is missing, or the list of its files."""
    manifest.check_annotations(folder, "auto")
    for name in checksums.read_list(folder):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder} was complete, but {name} is missing; delete the folder and convert again"
            )


def _check_folder(folder: Path) -> None:
    """Create the folder; DataError if it has content other than an unfinished conversion."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None
    if names - {LOCK, f".{JOURNAL}.tmp"} and JOURNAL not in names:
        what = "a complete data set" if manifest.NAME in names else f"{sorted(names)[0]!r}"
        raise DataError(f"{folder} holds {what} already; give a new folder")


def _readable(source: LazyDataset, skip_damaged: bool, how_to_skip: str) -> Dataset:
    """Return the videos with usable features, determined before anything is written."""
    return _only(source.dataset, {v.name for v in source.iter_videos(skip_damaged, how_to_skip)})


def _only(dataset: Dataset, names: set[str]) -> Dataset:
    return dataset.with_parts(
        {
            part: [video for video in videos if video.name in names]
            for part, videos in dataset.parts.items()
        }
    )


def _annotation_files(layout: str, dataset: Dataset) -> dict[str, str]:
    """Return {path: content} of the annotation files in JSON or text form."""
    if layout == "hamnet":
        return {"gt.json": wtalc.hamnet_ground_truth(dataset)}
    if layout == "activitynet":
        return {f"{dataset.name}.json": activitynet_writer.to_json(dataset)}
    if layout == "wtalc":
        return {}
    return per_video.annotation_files(_spec(layout), dataset)


def assumed(layout: str, dataset: Dataset) -> TimeGrid:
    """Return the time grid that other programs assume for a data set.

    Args:
        layout: one of `LAYOUTS` except "activitynet", which implies no time grid.
        dataset: the data set; only its name and its frame rate matter.

    Returns:
        The time grid that the programs which read the layout assume.
    """
    if layout in _JOINT or dataset.name.startswith("ActivityNet"):
        return TimeGrid()
    grid = _spec(layout).grid
    overlapping = grid.stride != grid.window  # these programs read frame rates from the annotations
    return dataclasses.replace(grid, fps=dataset.grid.fps) if overlapping else grid


def _spec(layout: str) -> per_video.LayoutSpec:
    return next(c for c in per_video.LAYOUT_SPECS if c.name == layout)


def _line(video: Video) -> dict[str, Any]:
    """Return the journal's entry for a finished video."""
    snippets, width = video.features.shape
    checksum = manifest.checksum(video.features)
    return {"video": video.name, "snippets": snippets, "width": width, "crc32": checksum}


class _PerVideo:
    """Writer of layouts with one or two feature files per video."""

    def __init__(self, layout: str, folder: Path, dataset: Dataset, journal: Journal):
        self._layout, self._folder, self._dataset, self._journal = layout, folder, dataset, journal
        self._train = {video.name for video in dataset.train}
        journal.keep(
            lambda line: "sums" in line and all((folder / name).is_file() for name in line["sums"])
        )

    def add(self, video: Video) -> None:
        """Write the files of one video and record them in the journal."""
        subset = "train" if video.name in self._train else "test"
        files = per_video.feature_files(_spec(self._layout), self._dataset, video, subset)
        sums = {name: _save(self._folder / name, array) for name, array in files.items()}
        self._journal.add({**_line(video), "sums": sums})

    def end(self) -> None:
        """Do nothing: every file is complete."""

    def close(self) -> None:
        """Do nothing: no file is open."""


def _save(path: Path, array: np.ndarray) -> str:
    """Write a .npy file and return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.ascontiguousarray(array)
    with atomic_write(path, "wb") as file:
        hashed = HashedFile(file)
        npy.write_array_header_1_0(hashed, npy.header_data_from_array_1_0(array))
        hashed.write(array.data)
    return hashed.sum.hexdigest()


def _joint_file(dataset: Dataset) -> str:
    return f"{dataset.name}-I3D-JOINTFeatures.npy"


class _Joint:
    """Writer of W-TALC's joint file with the features of all videos."""

    def __init__(self, layout: str, folder: Path, dataset: Dataset, journal: Journal):
        self._path = folder / _joint_file(dataset)
        self._part = folder / f"{self._path.name}.part"
        self._journal, self._written = journal, 0
        self._waiting: list[dict] = []
        self._names = [video.name for video in dataset.videos]
        self._file: Any = None
        complete = self._path.is_file() and list(journal.done) == self._names
        if not complete:  # otherwise only later files are missing
            self._open()

    def _open(self) -> None:
        """Open the file, truncated after the last video that the journal lists as on disk."""
        size = self._part.stat().st_size if self._part.is_file() else 0
        kept = set()
        for name, line in zip(self._names, self._journal.done.values(), strict=False):
            if line["video"] != name or not line.get("end", size + 1) <= size:
                break
            kept.add(name)
        self._journal.keep(lambda line: line["video"] in kept)
        end = max((line["end"] for line in self._journal.done.values()), default=0)
        self._file = open(self._part, "r+b" if end else "w+b")  # noqa: SIM115
        self._file.truncate(end)
        self._hashed = HashedFile(self._file)
        while data := self._file.read(2**22):
            self._hashed.sum.update(data)
        self._writer = object_arrays.Writer(self._hashed, len(self._names), begin=not end)

    def add(self, video: Video) -> None:
        """Append one video."""
        self._writer.add(video.features)
        self._waiting.append({**_line(video), "end": self._file.tell()})
        self._written += video.features.nbytes
        if self._written >= _SYNC:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        for line in self._waiting:
            self._journal.add(line)
        self._waiting, self._written = [], 0

    def close(self) -> None:
        """Close the file, complete or not."""
        if self._file is not None:
            self._file.close()

    def end(self) -> None:
        """Complete the file and rename it; delete it if there are no features."""
        if self._file is None:
            return
        self._sync()
        if not self._journal.done:
            self._file.close()
            self._part.unlink()
            return
        self._writer.end()
        self._sync()
        self._file.close()
        self._journal.sums[self._path.name] = self._hashed.sum.hexdigest()
        os.replace(self._part, self._path)
