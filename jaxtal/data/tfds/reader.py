"""Data sets prepared once by TFDS, without TensorFlow: any video is read by itself.

`jaxtal data prepare` writes them. A prepared folder, <builder>/[<config>/]<version> below a
TFDS data folder, has a record for each video in array_record files, and in metadata.json all that
is not features: the data set's annotations in ActivityNet form, with the shape, the type and a
checksum of each video's features.
"""

import contextlib
import dataclasses
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import activitynet
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.io import feature_files, json_files
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.tfds.records import DTYPES, FORMAT, from_bytes
from jaxtal.errors import DataError, JaxtalError

_ABOUT = "jaxtal_prepared"  # tells our metadata.json from those of other builders
_INFO, _METADATA, _FEATURES = "dataset_info.json", "metadata.json", "features.json"
_FORM = "what jaxtal data prepare writes"
_MEND = "remove the folder and prepare it again"

_SAFE = "tensorflow_datasets.core.features."


def detect(path: Path) -> bool:
    """Whether `path` is a prepared folder or has one below it, as a TFDS data folder does."""
    return any(True for _ in _folders(path))


def read(path: Path, name: str = "", features: bool = True) -> LazyDataset:
    """A prepared data set; features are read from their record when asked for.

    Args:
        path: the prepared folder, or a TFDS data folder with several.
        name: <builder>, <builder>/<config>, <builder>/<config>/<version>, or what the data set
            itself is called, e.g. Thumos14reduced; "" where there is only one.
        features: False for annotations only.

    Raises:
        DataError: there is none or more than one of that name, or it is incomplete or damaged.
    """
    folder = _find(path, name)
    content = json_files.load(folder / _METADATA, _FORM)
    about = _about(content, folder / _METADATA)
    dataset = activitynet.read(folder / _METADATA)
    notes = [f"prepared from {about.get('from')!s:.200}"]
    if left_out := about.get("left_out"):
        notes.append(f"{len(left_out)} videos were left out when it was prepared")
    has_time_grid = bool(about.get("has_time_grid"))
    source = LazyDataset("tfds", folder, dataset, notes=tuple(notes), has_time_grid=has_time_grid)
    if not features:
        return source
    records = _Records(folder)
    for split, videos in (("train", dataset.train), ("test", dataset.test)):
        for index, video in enumerate(videos):
            entry = content["database"][video.name]
            records.add(video.name, split, index, _header(entry, f"{folder}, video {video.name}"))
    records.open()
    return dataclasses.replace(source, features=records.read)


def metadata(
    dataset: Dataset, headers: dict[str, dict[str, Any]], source: LazyDataset, left_out: list[str]
) -> dict[str, Any]:
    """What metadata.json holds.

    Args:
        dataset: videos in the order of their records.
        headers: video name -> `header` of its features.
        source: where they are from.
        left_out: names of its videos that have no record.
    """
    content = activitynet.to_content(dataset, more=lambda video: headers[video.name])
    about = {
        "format": FORMAT,
        "from": f"{source.path} (layout {source.layout})",
        "has_time_grid": source.has_time_grid,
        "left_out": left_out,
        "crc32": _checksum(content),
    }
    return {_ABOUT: about, **content}


def _about(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What metadata.json says of itself; DataError if it is not ours, or was changed since."""
    about = content.pop(_ABOUT, None)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(
            f"{path}: {_ABOUT!r} is {about!r:.80}; wanted format {FORMAT}, {_FORM}; prepare the "
            "data set with this version"
        )
    if about.get("crc32") != _checksum(content) or not isinstance(about.get("left_out"), list):
        raise DataError(f"{path}: damaged or changed (its checksum is another); {_MEND}")
    return about


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _folders(path: Path) -> Iterator[Path]:
    """Prepared folders at `path` or up to three below it."""
    for pattern in ("", "*/", "*/*/", "*/*/*/"):
        for info in sorted(path.glob(pattern + _INFO)):
            unfinished = info.parent.name.startswith("incomplete.")  # as TFDS calls it
            if not unfinished and any(info.parent.glob("*.array_record*")):
                yield info.parent


def _find(path: Path, name: str) -> Path:
    """The one prepared folder that `name` means."""
    folders = [*_folders(path)]
    wanted = Path(name.replace(":", "/")).parts
    known = {folder: folder.relative_to(path).parts for folder in folders}
    found = [folder for folder in folders if known[folder][: len(wanted)] == wanted]
    found = found or [folder for folder in folders if _named(folder, name)]
    if len(found) != 1:
        names = ", ".join("/".join(known[folder]) or "." for folder in found or folders)
        raise DataError(
            f"{path}: {len(found)} prepared data sets {name!r}; wanted one of: {names or 'none'}; "
            "`jaxtal data prepare` makes one"
        )
    return found[0]


def _named(folder: Path, name: str) -> bool:
    """Whether `name` is what the data set itself is called, or its builder."""
    try:
        own = json_files.load(folder / _METADATA, _FORM).get("name")
        builder = json_files.load(folder / _INFO, _FORM).get("name")
    except JaxtalError:
        return False
    return name in (own, builder)


def _header(entry: dict[str, Any], where: str) -> tuple[tuple[int, int], str, int]:
    """Shape, type and checksum of a video's features."""
    shape, dtype, checksum = (entry.get(f"feature_{key}") for key in ("shape", "dtype", "crc32"))
    match shape, dtype, checksum:
        case [int(snippets), int(width)], str(), int() if dtype in DTYPES:
            return (snippets, width), dtype, checksum
    raise DataError(
        f"{where}: features of shape {shape!r:.40}, type {dtype!r:.40}, checksum {checksum!r:.40}; "
        f"wanted {_FORM}; {_MEND}"
    )


class _Records:
    """The records of a prepared folder, by the name of the video."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._where: dict[str, tuple[str, int]] = {}
        self._headers: dict[str, tuple[tuple[int, int], str, int]] = {}
        self._sources: dict[str, Any] = {}

    def add(self, name: str, split: str, index: int, header: tuple) -> None:
        """Say that the video `name` is record `index` of `split`."""
        self._where[name] = split, index
        self._headers[name] = header

    def open(self) -> None:
        """Open both splits; DataError unless their files are there with as many records."""
        try:
            self._sources = _open(self._folder)
        except JaxtalError:
            raise
        except Exception as error:  # TFDS reads several files and raises whatever it meets
            raise self._damaged("cannot be opened", error) from None
        for split, source in self._sources.items():
            count = sum(where[0] == split for where in self._where.values())
            if len(source) != count:
                raise DataError(
                    f"{self._folder / _INFO}: {len(source)} records in split {split}, but "
                    f"{_METADATA} lists {count} videos; {_MEND}"
                )

    def read(self, video: Video) -> np.ndarray:
        """The (T, 2D) features of `video`, from its record alone."""
        split, index = self._where[video.name]
        shape, dtype, checksum = self._headers[video.name]
        what = f"record {index} of split {split}, video {video.name},"
        try:
            example = self._sources[split][index]
            stored = np.asarray(example["features"])
            name = bytes(example["name"]).decode("utf-8", "replace")
            wanted = (shape[0], shape[1] * np.dtype(DTYPES[dtype]).itemsize)
        except Exception as error:  # array_record and protobuf raise whatever they meet
            raise self._damaged(f"{what} cannot be read", error) from None
        if name != video.name or stored.shape != wanted or zlib.crc32(stored.data) != checksum:
            raise self._damaged(f"{what} holds something else", f"{name!r:.40}, {stored.shape}")
        where = f"{self._folder}, video {video.name}"
        return feature_files.check_features(from_bytes(stored, dtype), where)

    def _damaged(self, what: str, error: object) -> JaxtalError:
        return DataError(f"{self._folder}: {what} ({' '.join(str(error).split())[:160]}); {_MEND}")


def _open(folder: Path) -> dict[str, Any]:
    """TFDS's random access sources of both splits."""
    _check_features(json_files.load(folder / _FEATURES, _FORM), folder / _FEATURES)
    import tensorflow_datasets as tfds

    from jaxtal.data.tfds.records import record

    with contextlib.redirect_stdout(io.StringIO()):  # of a damaged folder TFDS says "TensorFlow"
        builder = tfds.builder_from_directory(folder)
    if repr(builder.info.features) != repr(record()):
        raise DataError(f"{folder / _FEATURES}: other fields than ours; {_MEND}")
    for split in ("train", "test"):
        for part in builder.info.splits[split].file_instructions:
            file = Path(part.filename)
            if file.parent.resolve() != folder.resolve() or not file.is_file():
                raise DataError(f"{file} is missing; {_MEND}")
    return {split: builder.as_data_source(split) for split in ("train", "test")}


def _check_features(value: Any, path: Path) -> None:
    """Raise DataError if TFDS would import anything but its own modules for features.json."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("type", "pythonClassName") and not f"{inner}".startswith(_SAFE):
                raise DataError(f"{path}: {key} is {inner!r:.80}; wanted {_FORM}; {_MEND}")
            _check_features(inner, path)
