"""Reader of data sets prepared by TFDS, with random access to videos, without TensorFlow.

`jaxtal data prepare` writes them. A prepared folder, <builder>/[<config>/]<version> in a TFDS data
folder, has one record per video in array_record files. Its metadata.json has everything else: the
annotations in ActivityNet form, with the shape, the type and a checksum of each video's features.
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

from jaxtal.data import activitynet, activitynet_writer
from jaxtal.data.dataset import Dataset, Video, as_stream_widths
from jaxtal.data.io import feature_files, json_files
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.tfds.records import DTYPES, FORMAT, from_bytes
from jaxtal.errors import DataError, JaxtalError

_ABOUT = "jaxtal_prepared"  # marks metadata.json as one of jaxtal's builders
_INFO, _METADATA, _FEATURES = "dataset_info.json", "metadata.json", "features.json"
_FORM = "metadata as jaxtal data prepare writes them"
_HOW_TO_FIX = "remove the folder and prepare it again"

_SAFE = "tensorflow_datasets.core.features."


def detect(path: Path) -> bool:
    """Return True if `path` is a prepared folder or a TFDS data folder that contains one."""
    return any(True for _ in _folders(path))


def read(path: Path, name: str = "", features: bool = True) -> LazyDataset:
    """Return a prepared data set; a video's features are read from its record on demand.

    Args:
        path: the prepared folder, or a TFDS data folder.
        name: <builder>, <builder>/<config>, <builder>/<config>/<version>, or the name of the data
            set, e.g. Thumos14reduced; "": the data folder contains only one.
        features: True: prepare reading of features; False: annotations only.

    Returns:
        The data set.

    Raises:
        DataError: no data set or several match the name, or it is incomplete or damaged.
    """
    folder = _find(path, name)
    content = json_files.load(folder / _METADATA, _FORM)
    about = _about(content, folder / _METADATA)
    dataset = activitynet.read(folder / _METADATA)
    notes = [f"prepared from {about.get('from')!s:.200}"]
    if skipped := about.get("left_out"):
        notes.append(f"{len(skipped)} videos were skipped when it was prepared")
    has_time_grid = bool(about.get("has_time_grid"))
    widths = as_stream_widths(about.get("stream_widths", []), f"{folder / _METADATA}")
    source = LazyDataset(
        "tfds",
        folder,
        dataclasses.replace(dataset, stream_widths=widths),
        notes=tuple(notes),
        has_time_grid=has_time_grid,
        has_streams=bool(widths),
    )
    if not features:
        return source
    records = _Records(folder)
    for split, videos in dataset.parts.items():
        for index, video in enumerate(videos):
            entry = content["database"][video.name]
            records.add(video.name, split, index, _header(entry, f"{folder}, video {video.name}"))
    records.open()
    return dataclasses.replace(source, features=records.read, snippets=records.shape)


def metadata(
    dataset: Dataset, headers: dict[str, dict[str, Any]], source: LazyDataset, skipped: list[str]
) -> dict[str, Any]:
    """Return the content of metadata.json.

    Args:
        dataset: videos in the order of their records.
        headers: video name -> `header` of its features.
        source: the data set that was read.
        skipped: names of its videos without a record.
    """
    content = activitynet_writer.to_content(dataset, more=lambda video: headers[video.name])
    about = {
        "format": FORMAT,
        "from": f"{source.path} (layout {source.layout})",
        "has_time_grid": source.has_time_grid,
        "stream_widths": list(dataset.stream_widths),
        "left_out": skipped,
        "crc32": _checksum(content),
    }
    return {_ABOUT: about, **content}


def _about(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the header of metadata.json; DataError if it is not jaxtal's, or was changed."""
    about = content.pop(_ABOUT, None)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(
            f"{path}: {_ABOUT!r} is {about!r:.80}; wanted format {FORMAT}, {_FORM}; prepare the "
            "data set with this version"
        )
    if about.get("crc32") != _checksum(content) or not isinstance(about.get("left_out"), list):
        raise DataError(f"{path}: damaged or changed (its checksum differs); {_HOW_TO_FIX}")
    return about


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _folders(path: Path) -> Iterator[Path]:
    """Yield the prepared folders at `path` or up to three levels below it."""
    for pattern in ("", "*/", "*/*/", "*/*/*/"):
        for info in sorted(path.glob(pattern + _INFO)):
            unfinished = info.parent.name.startswith("incomplete.")  # TFDS's prefix
            if not unfinished and any(info.parent.glob("*.array_record*")):
                yield info.parent


def _find(path: Path, name: str) -> Path:
    """Return the only prepared folder that matches `name`."""
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
    """Return True if `name` is the name of the data set or of its builder."""
    try:
        own = json_files.load(folder / _METADATA, _FORM).get("name")
        builder = json_files.load(folder / _INFO, _FORM).get("name")
    except JaxtalError:
        return False
    return name in (own, builder)


def _header(entry: dict[str, Any], where: str) -> tuple[tuple[int, int], str, int]:
    """Return shape, type and checksum of a video's features."""
    shape, dtype, checksum = (entry.get(f"feature_{key}") for key in ("shape", "dtype", "crc32"))
    match shape, dtype, checksum:
        case [int(snippets), int(width)], str(), int() if dtype in DTYPES:
            return (snippets, width), dtype, checksum
    raise DataError(
        f"{where}: features of shape {shape!r:.40}, type {dtype!r:.40}, checksum {checksum!r:.40}; "
        f"wanted {_FORM}; {_HOW_TO_FIX}"
    )


class _Records:
    """Records of a prepared folder by video name."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._where: dict[str, tuple[str, int]] = {}
        self._headers: dict[str, tuple[tuple[int, int], str, int]] = {}
        self._sources: dict[str, Any] = {}

    def add(self, name: str, split: str, index: int, header: tuple) -> None:
        """Register the video `name` as record `index` of `split`."""
        self._where[name] = split, index
        self._headers[name] = header

    def open(self) -> None:
        """Open the splits; DataError if files or records are missing."""
        try:
            self._sources = _open(
                self._folder, [*dict.fromkeys(split for split, _ in self._where.values())]
            )
        except JaxtalError:
            raise
        except Exception as error:  # TFDS reads several files and may raise any exception
            raise self._damaged("cannot be opened", error) from None
        for split, source in self._sources.items():
            count = sum(where[0] == split for where in self._where.values())
            if len(source) != count:
                raise DataError(
                    f"{self._folder / _INFO}: {len(source)} records in split {split}, but "
                    f"{_METADATA} lists {count} videos; {_HOW_TO_FIX}"
                )

    def shape(self, video: Video) -> tuple[int, int]:
        """Return (T, 2D) of the features of `video`, from the metadata."""
        return self._headers[video.name][0]

    def read(self, video: Video) -> np.ndarray:
        """Return the (T, 2D) features of `video`; only its record is read."""
        split, index = self._where[video.name]
        shape, dtype, checksum = self._headers[video.name]
        what = f"record {index} of split {split}, video {video.name},"
        try:
            example = self._sources[split][index]
            stored = np.asarray(example["features"])
            name = bytes(example["name"]).decode("utf-8", "replace")
            wanted = (shape[0], shape[1] * np.dtype(DTYPES[dtype]).itemsize)
        except Exception as error:  # array_record and protobuf may raise any exception
            raise self._damaged(f"{what} cannot be read", error) from None
        if name != video.name or stored.shape != wanted or zlib.crc32(stored.data) != checksum:
            raise self._damaged(
                f"{what} does not match {_METADATA}", f"{name!r:.40}, {stored.shape}"
            )
        where = f"{self._folder}, video {video.name}"
        return feature_files.check_features(from_bytes(stored, dtype), where)

    def _damaged(self, what: str, error: object) -> JaxtalError:
        return DataError(
            f"{self._folder}: {what} ({' '.join(str(error).split())[:160]}); {_HOW_TO_FIX}"
        )


def _open(folder: Path, splits: list[str]) -> dict[str, Any]:
    """Return TFDS's random access sources of the splits."""
    _check_features(json_files.load(folder / _FEATURES, _FORM), folder / _FEATURES)
    import tensorflow_datasets as tfds

    from jaxtal.data.tfds.records import record

    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # TFDS prints a hint about TensorFlow for damaged folders
        builder = tfds.builder_from_directory(folder)
    if repr(builder.info.features) != repr(record()):
        raise DataError(f"{folder / _FEATURES}: the fields are not those of jaxtal; {_HOW_TO_FIX}")
    for split in splits:
        for part in builder.info.splits[split].file_instructions:
            file = Path(part.filename)
            if file.parent.resolve() != folder.resolve() or not file.is_file():
                raise DataError(f"{file} is missing; {_HOW_TO_FIX}")
    return {split: builder.as_data_source(split) for split in splits}


def _check_features(value: Any, path: Path) -> None:
    """Raise DataError if features.json would make TFDS import modules other than its own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("type", "pythonClassName") and not f"{inner}".startswith(_SAFE):
                raise DataError(f"{path}: {key} is {inner!r:.80}; wanted {_FORM}; {_HOW_TO_FIX}")
            _check_features(inner, path)
