"""Reading of arrays in untrusted files of several forms.

| suffix | content |
|---|---|
| `.npy` | an array |
| `.npz` | one or several named arrays |
| `.pt`, `.pth` | a PyTorch tensor, or a dict of tensors |
| `.pkl`, `.pickle` | a NumPy array, or a dict of arrays |
| `.h5`, `.hdf5` | one or several data sets; or those of all videos, each under its video's name |
| `.csv` | a row for each snippet, with or without a line of names |

No code in a file is executed, and memory is bounded by its size.
"""

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal import extras
from jaxtal.data.io import object_arrays, pickled_arrays, torch_files
from jaxtal.data.io.files import RefusedError, open_regular, parse_errors_as_data_error
from jaxtal.data.io.zip_files import check_disjoint, read_member
from jaxtal.errors import DataError, short_repr

_UNPACKED, _TIMES = 2**26, 64  # bytes, and times the packed size, that may be unpacked
_MOST_LISTED = 10_000  # entries of one file
_NAMES = ("features", "feature", "feats", "feat")
_STREAMS = ("rgb", "flow")


class Place(NamedTuple):
    """Place of one video's features.

    Attributes:
        path: the file.
        key: the video's name in an HDF5 file of all videos; "" for a file of one video.
    """

    path: Path
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path}, {self.key}" if self.key else f"{self.path}"


class _Entry(NamedTuple):
    """An array in a file: shape, type, and a function that reads it.

    `check` raises an error if the file cannot have an array of this shape.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    check: Callable[[], object] = lambda: None


_Entries = contextlib.AbstractContextManager[dict[str, _Entry]]


def read_array(place: Place, width_axis: int = 1) -> np.ndarray:
    """Read the features of a video.

    Args:
        place: the file.
        width_axis: axis along which arrays named rgb and flow are concatenated.

    Returns:
        The only array in the file, the one named features or feats, or else rgb and flow side by
        side; it may be mapped from the file.

    Raises:
        DataError: the file is missing or damaged, or has several arrays with other names.
    """
    with _entries(place) as entries:
        chosen = _chosen(entries, place)
        _shape(chosen, width_axis, place)
        arrays = [entry.read() for entry in chosen]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, width_axis)


def array_shape(place: Place, width_axis: int = 1) -> tuple[int, ...]:
    """Return the shape of what `read_array` returns, from the file's header if it has one.

    Args:
        place: the file.
        width_axis: as for `read_array`.

    Raises:
        DataError: as `read_array`.
    """
    with _entries(place) as entries:
        chosen = _chosen(entries, place)
        for entry in chosen:
            entry.check()  # memory for the features is planned by the shape
        return _shape(chosen, width_axis, place)


def _entries(place: Place) -> _Entries:
    reader = _READERS.get(place.path.suffix.lower())
    if reader is None:
        raise DataError(f"{place.path}: not a file of arrays; wanted one of {', '.join(SUFFIXES)}")
    return reader(place)


def _chosen(entries: dict[str, _Entry], place: Place) -> list[_Entry]:
    """Return the array of features, or those of RGB and flow."""
    if len(entries) == 1:
        return list(entries.values())
    last = {name: name.rpartition("/")[2].lower() for name in entries}
    for wanted in (*((name,) for name in _NAMES), _STREAMS):
        found = [[entries[name] for name in entries if last[name] == one] for one in wanted]
        if all(len(named) == 1 for named in found):
            return [named[0] for named in found]
    arrays = [
        entry for entry in entries.values() if entry.dtype.kind == "f" and len(entry.shape) > 1
    ]
    if len(arrays) == 1:
        return arrays
    listed = [f"{name} {entry.shape}" for name, entry in list(entries.items())[:5]]
    named = f" ({short_repr(', '.join(listed), 200)[1:-1]})" if listed else ""
    raise DataError(
        f"{place}: {len(entries)} arrays{named}; "
        "wanted one of a video's features, or one named features, or two named rgb and flow"
    )


def _shape(chosen: list[_Entry], width_axis: int, place: Place) -> tuple[int, ...]:
    shape = chosen[0].shape
    if len(chosen) == 1:
        return shape
    rest = {
        len(one.shape) > width_axis and np.delete(one.shape, width_axis).tobytes() for one in chosen
    }
    if len(rest) > 1 or False in rest:
        raise DataError(
            f"{place}: rgb has the shape {shape}, flow {chosen[1].shape}; wanted the same number "
            "of snippets"
        )
    width = sum(one.shape[width_axis] for one in chosen)
    return (*shape[:width_axis], width, *shape[width_axis + 1 :])


def _loaded(load: Callable[[Path], dict[str, np.ndarray]]) -> Callable[[Place], _Entries]:
    """Return a reader of entries for a form whose arrays are loaded or mapped at once."""

    @contextlib.contextmanager
    def entries(place: Place) -> Iterator[dict[str, _Entry]]:
        arrays = load(place.path)
        yield {
            name: _Entry(array.shape, array.dtype, lambda array=array: array)  # type: ignore[misc]
            for name, array in arrays.items()
        }

    return entries


@contextlib.contextmanager
def _npz(place: Place) -> Iterator[dict[str, _Entry]]:
    wanted = "arrays of numbers, as numpy.savez writes them"
    with (
        open_regular(place.path) as file,
        parse_errors_as_data_error(place.path, ".npz", wanted),
        zipfile.ZipFile(file) as archive,
    ):
        check_disjoint(archive)
        size = os.fstat(file.fileno()).st_size
        yield {
            info.filename.removesuffix(".npy"): _member(archive, info, size)
            for info in archive.infolist()[:_MOST_LISTED]
            if info.filename.endswith(".npy")
        }


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> _Entry:
    # The memory that other compression methods need is chosen by the file.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError("a member that is compressed by an unusual method")
    with archive.open(info) as member:
        shape, _, dtype = object_arrays.read_header(member)
        after = info.file_size - member.tell()

    def check() -> None:
        _check_unpacked(info.file_size, min(info.compress_size, size))
        if math.prod(shape) * dtype.itemsize > after:
            raise EOFError(f"{after} bytes for {math.prod(shape)} entries of type {dtype}")

    def read() -> np.ndarray:
        check()
        return object_arrays.plain(read_member(archive, info))

    return _Entry(shape, dtype, read, check)


def _check_unpacked(unpacked: int, packed: int) -> None:
    if unpacked > max(_UNPACKED, _TIMES * packed):
        raise RefusedError(f"an array of {unpacked} bytes that is packed to {packed}")


_CODECS = {1, 2, 3, 4, 5, 6, 32000}  # deflate ... scale-offset, LZF; others are plug-ins


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, and convert every error in the block to a DataError."""
    with extras.required("hdf5", f"reading {path.name}"):
        import h5py
    wanted = "data sets of numbers in this file"
    with open_regular(path), parse_errors_as_data_error(path, "HDF5", wanted):
        try:
            # Locks fail on read-only file systems.
            with h5py.File(path, "r", locking=False) as file:
                yield file
        except OSError as error:
            raise ValueError(error) from None


@contextlib.contextmanager
def _hdf5(place: Place) -> Iterator[dict[str, _Entry]]:
    with _opened(place.path) as file:
        found: dict[str, _Entry] = {}
        if place.key:
            _collect(file, place.key, "", found)
        else:
            for name in file:
                _collect(file, name, name, found)
        yield found


def _collect(group: Any, key: str, name: str, found: dict[str, _Entry], depth: int = 0) -> None:
    """Add the data sets at `key` of a group, and in groups below it, to {name: entry}."""
    import h5py

    if len(found) >= _MOST_LISTED or depth > 3:
        return
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise RefusedError("a link to another place")
    item = group[key]
    if isinstance(item, h5py.Group):
        for inner in item:
            _collect(item, inner, f"{name}/{inner}".lstrip("/"), found, depth + 1)
    elif isinstance(item, h5py.Dataset) and item.shape is not None:
        found[name] = _Entry(
            item.shape, item.dtype, lambda: _read_dataset(item), lambda: _check_dataset(item)
        )


def _read_dataset(item: Any) -> np.ndarray:
    _check_dataset(item)
    return item[()]


def _check_dataset(item: Any) -> None:
    """Raise RefusedError for a data set that takes more memory than the file, or other files."""
    if item.external or item.is_virtual:
        raise RefusedError("a data set that is stored in another file")
    if item.dtype.kind not in "biuf":
        raise RefusedError(f"an array of type {short_repr(str(item.dtype), 40)}")
    plan, packed = item.id.get_create_plist(), item.id.get_storage_size()
    if {plan.get_filter(number)[0] for number in range(plan.get_nfilters())} - _CODECS:
        raise RefusedError("data that is compressed by an unusual method")
    sizes = [item.size] + ([int(np.prod(item.chunks, dtype=object))] if item.chunks else [])
    _check_unpacked(max(sizes) * item.dtype.itemsize, packed)


def video_names(path: Path) -> list[str]:
    """Return the names in the first level of an HDF5 file, which may be those of videos.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing or damaged.
        JaxtalError: h5py is not installed.
    """
    with _opened(path) as file:
        return list(file)


# Names of columns that are no features.
_INDEX = ("", "index", "snippet", "frame", "time", "timestamp", "start", "end", "id", "unnamed: 0")


def _csv(path: Path) -> dict[str, np.ndarray]:
    form = "a row of numbers for each snippet, separated by commas, semicolons or blanks"
    with open_regular(path) as file, parse_errors_as_data_error(path, ".csv", form):
        text = file.read().decode("utf-8-sig")
        first = text.partition("\n")[0]
        separator = next((sign for sign in ";," if sign in first), None)  # None: blanks
        closed = first.rstrip().endswith(separator or "\n")  # "1,2," are two numbers
        names = first.strip().rstrip(separator).split(separator)
        counting = [[str(n) for n in range(start, start + len(names))] for start in (0, 1)]
        header = not all(map(_is_number, names)) or (len(names) > 7 and names in counting)
        columns = [
            number
            for number, name in enumerate(names)
            if not header or name.strip().lower() not in _INDEX
        ]
        if not text[len(first) * header :].strip():
            raise ValueError("no rows of numbers")
        numbers = np.loadtxt(
            io.StringIO(text),
            dtype=np.float64,
            comments=None,
            delimiter=separator,
            skiprows=int(header),
            usecols=columns if closed or len(columns) < len(names) else None,
            ndmin=2,
        )
        return {"": numbers[:, int(_counts_rows(numbers)) :]}


def _counts_rows(numbers: np.ndarray) -> bool:
    """Return True if the first column counts the rows from 0 or 1."""
    first = numbers[:, 0]
    return len(first) > 2 and first[0] in (0, 1) and bool((np.diff(first) == 1).all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_PYTORCH, _PICKLE = _loaded(torch_files.load_tensors), _loaded(pickled_arrays.load)
_READERS: dict[str, Callable[[Place], _Entries]] = {
    ".npy": _loaded(lambda path: {"": object_arrays.load(path)}),
    ".npz": _npz,
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".csv": _loaded(_csv),
}
SUFFIXES = tuple(_READERS)
HDF5 = (".h5", ".hdf5")
