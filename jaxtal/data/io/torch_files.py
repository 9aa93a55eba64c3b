"""Reading of PyTorch's files of tensors, without PyTorch.

`torch.save(model.state_dict(), path)` writes a pickle that refers to raw storages: in a zip archive
since PyTorch 1.6, concatenated in one file before. Pickles can run code. The unpickler here builds
tensors, mappings, lists, tuples, numbers and strings only: the names in PyTorch's pickles stand for
plain records of this module, and instructions that `torch.save` does not write are rejected. No
code of PyTorch or of the file runs, and memory is bounded by the size of the file.
"""

import dataclasses
import functools
import io
import math
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import ml_dtypes
import numpy as np

from jaxtal.data.io.files import (
    RefusedError,
    open_regular,
    parse_errors_as_data_error,
)
from jaxtal.data.io.zip_files import check_disjoint

DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_NESTED = ("state_dict", "model_state_dict", "model")  # where training programs put the tensors
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format
_MOST_PICKLED = _MOST_LISTED = 2**21  # bytes of a pickle, of an archive's list: 10,000 tensors
_WANTED = "the tensors alone, as torch.save(model.state_dict(), path) writes them"


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _StorageType:
    """Stand-in for `torch.FloatStorage` and similar types."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Storage:
    """Reference to raw numbers elsewhere in the file."""

    dtype: np.dtype
    key: str
    count: int


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Tensor:
    """View of a storage; offset and strides are counted in numbers, not in bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, raw: Any) -> np.ndarray:
        """Return the tensor as an array, a view of the storage's bytes `raw`."""
        size = self.storage.dtype.itemsize
        strides = [
            stride * size if length > 1 else 0
            for length, stride in zip(self.shape, self.strides, strict=True)
        ]
        return np.ndarray(self.shape, self.storage.dtype, raw, self.offset * size, strides)


class _Mapping(dict):
    """Stand-in for dict and `collections.OrderedDict`."""

    def __setitem__(self, key: Any, value: Any) -> None:
        # Keys of other types could be crafted to collide, which takes unbounded time.
        if type(key) is not str and not (type(key) is int and 0 <= key < 2**31):
            raise RefusedError(f"a mapping with keys of type {type(key).__name__}")
        super().__setitem__(key, value)


# The stand-ins for functions have a fixed number of arguments: a file could pass its longest list
# as the arguments of a thousand calls.
def _ordered_dict() -> _Mapping:
    return _Mapping()


def _size(sizes: Any) -> Any:
    """Stand in for `torch.Size`."""
    return sizes


def _tensor(storage, offset, shape, strides, grad=False, hooks=None, metadata=None) -> _Tensor:
    """Stand in for `torch._utils._rebuild_tensor_v2`; the tensor must lie within its storage."""
    for part in (shape, strides):
        counts = type(part) is tuple and len(part) <= 16
        if not counts or any(type(n) is not int or not 0 <= n < 2**60 for n in part):
            raise RefusedError("a malformed tensor")
    numbers = type(storage) is _Storage and type(offset) is int and offset >= 0
    if not numbers or len(shape) != len(strides):
        raise RefusedError("a malformed tensor")
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count > storage.count or (last if count else offset - 1) >= storage.count:
        raise RefusedError(
            f"a tensor {_shape(shape)} from number {offset} of a storage of {storage.count}"
        )
    return _Tensor(storage, offset, shape, strides)


def _parameter(data, grad=False, hooks=None) -> _Tensor:
    """Stand in for `torch._utils._rebuild_parameter`."""
    if type(data) is not _Tensor:
        raise RefusedError("a malformed tensor")
    return data


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of no dimension"


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in DTYPES.items()},
}


def _refuse(_: Any) -> None:
    raise RefusedError("an instruction that torch.save does not write")


def _empty_mapping(unpickler: Any) -> None:
    unpickler.append(_Mapping())


def _build(unpickler: Any) -> None:
    """Discard the state of a state dict, which holds the versions of its modules."""
    unpickler.stack.pop()
    if type(unpickler.stack[-1]) is not _Mapping:
        raise RefusedError("a state for an object that is not a mapping")


_FOLLOWED = (
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BINPERSID EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 EMPTY_LIST APPEND APPENDS SETITEM SETITEMS BINUNICODE SHORT_BINUNICODE BININT BININT1 "
    "BININT2 LONG1 BINFLOAT NONE NEWTRUE NEWFALSE BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE"
)


# The pure-Python unpickler: its memo is a dict, but the C one allocates up to any index in a file.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), _refuse),
        **{
            code[0]: pickle._Unpickler.dispatch[code[0]]
            for code in (getattr(pickle, name) for name in _FOLLOWED.split())
        },
        pickle.EMPTY_DICT[0]: _empty_mapping,
        pickle.BUILD[0]: _build,
    }

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise RefusedError(f"a reference to {module}.{name}"[:120])
        return _ALLOWED[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        """Return the storage ("storage", type, key, device, count[, None in the older format])."""
        if type(saved) is not tuple or len(saved) not in (5, 6):
            raise RefusedError("a malformed storage")
        kind, of_type, key, _, count = saved[:5]
        numbers = type(key) is str and type(count) is int and 0 <= count < 2**60
        if type(of_type) is not _StorageType or not numbers or kind != "storage":
            raise RefusedError("a malformed storage")
        if len(saved) == 6 and saved[5] is not None:
            raise RefusedError("a storage that is a part of another")
        before = self.storages.setdefault(key, _Storage(of_type.dtype, key, count))
        if (before.dtype, before.count) != (of_type.dtype, count):
            raise RefusedError(f"two descriptions of storage {key:.40}")
        return before


def load(path: Path) -> dict[str, np.ndarray]:
    """Read the named tensors of a model from a PyTorch file.

    The tensors may also be the entry "state_dict", "model_state_dict" or "model" of the file.

    Args:
        path: File in either format, the zip archive or the older one.

    Returns:
        Read-only arrays by name, in the file's order and in the type of the tensor (bfloat16 from
        ml_dtypes). Tensors that share a storage share memory.

    Raises:
        DataError: The file is missing, truncated, not written by `torch.save`, or contains other
            objects than tensors, for example a whole model, whose classes are code.
    """
    return _load(path, _state_dict, _WANTED)


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors in the mapping that a PyTorch file has, or its only tensor.

    Args:
        path: File in either format, the zip archive or the older one.

    Returns:
        Read-only arrays by name, as `load`; the name of a single tensor is "". Other entries of the
        mapping, such as numbers and strings, are omitted.

    Raises:
        DataError: As `load`, but the mapping may have other entries.
    """
    return _load(path, _all_tensors, "a tensor, or a dict of tensors, as torch.save writes them")


_Choose = Callable[[Any], dict[str, _Tensor]]


def _load(path: Path, choose: _Choose, wanted: str) -> dict[str, np.ndarray]:
    """Return the arrays of the tensors that `choose` selects in the object that a file contains."""
    with open_regular(path) as file, parse_errors_as_data_error(path, "PyTorch", wanted):
        size = os.fstat(file.fileno()).st_size
        start = file.read(2)
        file.seek(0)
        if start == b"PK":
            return _load_archive(file, size, choose)
        if start[:1] != pickle.PROTO:
            raise RefusedError(f"data of another kind, which begins with {start!r}")
        return _load_sequence(file, size, choose)


class _Bounded:
    """A file from which at most `most` bytes are read at once."""

    def __init__(self, file: BinaryIO, most: int):
        self._file, self.most = file, most

    def read(self, count: int = -1) -> bytes:
        if count > self.most:
            raise RefusedError(f"a list of members or a member of {count} bytes")
        return self._file.read(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _load_archive(file: BinaryIO, size: int, choose: _Choose) -> dict[str, np.ndarray]:
    bounded: Any = _Bounded(file, _MOST_LISTED)
    with zipfile.ZipFile(bounded) as archive:
        members = _members(archive, size)
        check_disjoint(archive, RefusedError)
        bounded.most = size
        pickled = members["data.pkl"]
        if pickled.file_size > _MOST_PICKLED:
            raise RefusedError(f"a pickle of {pickled.file_size} bytes")
        saved = _Unpickler(io.BytesIO(archive.read(pickled))).load()
        swapped = False
        if "byteorder" in members:
            swapped = archive.read(members["byteorder"]) != sys.byteorder.encode()

        def read(storage: _Storage) -> Any:
            raw = archive.read(members[f"data/{storage.key}"])
            if len(raw) != storage.count * storage.dtype.itemsize:
                raise RefusedError(f"{len(raw)} bytes in place of storage {storage.key:.40}")
            return _swap(raw, storage.dtype.itemsize) if swapped else raw

        return _arrays(choose(saved), read)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's members by their names below its one folder, all uncompressed."""
    listed = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in listed):
        raise RefusedError("compressed members")
    if any(info.compress_size != info.file_size for info in listed):
        raise RefusedError("members of two sizes")
    if sum(info.file_size for info in listed) > size:
        raise RefusedError("members that are longer than the file")
    members = {info.filename.partition("/")[2]: info for info in listed}
    if len(members) < len(listed):
        raise RefusedError("two members of the same name")
    if "data.pkl" not in members:
        raise RefusedError(f"no <name>/data.pkl, only {', '.join(sorted(members))[:80]}")
    return members


def _swap(raw: bytes, size: int) -> np.ndarray:
    """Return numbers of `size` bytes with their bytes in reverse order."""
    return np.frombuffer(raw, f"u{size}").byteswap().view(np.uint8)


def _load_sequence(file: BinaryIO, size: int, choose: _Choose) -> dict[str, np.ndarray]:
    """Read the older format: five pickles, then the count and the numbers of every storage."""
    start = io.BytesIO(file.read(_MOST_PICKLED))
    for number in (_MAGIC, _PROTOCOL):
        found = _Unpickler(start).load()
        if type(found) is not int or found != number:
            raise RefusedError("a pickle of another kind")
    system = _Unpickler(start).load()
    if type(system) is not _Mapping or system.get("little_endian") is not True:
        raise RefusedError("numbers of an unknown byte order")
    unpickler = _Unpickler(start)
    saved, keys = unpickler.load(), _Unpickler(start).load()
    places = _places(file, size, start.tell(), keys, unpickler.storages)

    def read(storage: _Storage) -> Any:
        raw = np.empty(storage.count * storage.dtype.itemsize, np.uint8)
        file.seek(places[storage.key])
        if file.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise EOFError(f"storage {storage.key:.40}")
        return _swap(raw.tobytes(), storage.dtype.itemsize) if sys.byteorder == "big" else raw

    return _arrays(choose(saved), read)


def _places(
    file: BinaryIO, size: int, start: int, keys: Any, storages: dict[str, _Storage]
) -> dict[str, int]:
    """Return the offset in bytes of the numbers of every storage, from the order of the keys."""
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise RefusedError("a malformed list of storages")
    if sorted(keys) != sorted(storages):
        raise RefusedError("a list of storages that does not match its tensors")
    places, place = {}, start
    for key in keys:
        file.seek(place)
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise RefusedError(f"{count} numbers in place of {storages[key].count}")
        places[key] = place + 8
        place += 8 + count * storages[key].dtype.itemsize
        if place > size:
            raise EOFError(f"{place - size} bytes of storage {key:.40} are missing")
    return places


def _arrays(tensors: dict[str, _Tensor], read: Callable[[_Storage], Any]) -> dict[str, np.ndarray]:
    """Return the arrays of tensors; `read` returns the bytes of a storage."""
    once = functools.cache(read)
    return {name: tensor.array(once(tensor.storage)) for name, tensor in tensors.items()}


def _all_tensors(saved: Any) -> dict[str, _Tensor]:
    """Return the tensors in a saved mapping, or the saved tensor."""
    if type(saved) is _Tensor:
        return {"": saved}
    if type(saved) is not _Mapping:
        raise RefusedError(f"no tensors, but a {type(saved).__name__.lstrip('_')}")
    return {str(name): value for name, value in saved.items() if type(value) is _Tensor}


def _state_dict(saved: Any) -> dict[str, _Tensor]:
    """Return the state dict in a saved object."""
    if type(saved) is not _Mapping:
        raise RefusedError(f"no named tensors, but a {type(saved).__name__.lstrip('_')}")
    for candidate in (saved, *(saved.get(name) for name in _NESTED)):
        if type(candidate) is _Mapping and candidate:
            named = all(type(name) is str for name in candidate)
            if named and all(type(value) is _Tensor for value in candidate.values()):
                return candidate
    names = [str(name)[:40] for name, value in saved.items() if type(value) is not _Tensor]
    raise RefusedError(
        f"entries that are not tensors: {', '.join(names[:5])}" if names else "no named tensors"
    )
