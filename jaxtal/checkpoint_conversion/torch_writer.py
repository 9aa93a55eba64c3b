"""Writing of PyTorch's files of named tensors, without PyTorch."""

import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxtal.data.io import torch_files
from jaxtal.data.io.files import atomic_write


def save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named tensors in the format of `torch.save`, for `torch.load`.

    Args:
        path: File to write, a zip archive.
        tensors: Arrays by name, of types that PyTorch has.

    Raises:
        DataError: The file cannot be written.
    """
    arrays = [np.asarray(value, order="C") for value in tensors.values()]
    with (
        atomic_write(path, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        # ZipInfo's date is 1980: the same tensors give the same file.
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), _pickled(tensors))
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), sys.byteorder)
        for key, array in enumerate(arrays):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{key}"), array.tobytes())
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")


def _pickled(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of a state dict, with the storages numbered in its order."""
    entries = [
        _text(name) + _tensor_call(str(key), np.asarray(value))
        for key, (name, value) in enumerate(tensors.items())
    ]
    head = pickle.PROTO + b"\x02" + _ORDERED_DICT + pickle.MARK
    return head + b"".join(entries) + pickle.SETITEMS + pickle.STOP


def _tensor_call(key: str, array: np.ndarray) -> bytes:
    """Return the instructions that call `_rebuild_tensor_v2` for a contiguous array."""
    kind = next(name for name, dtype in torch_files.DTYPES.items() if dtype == array.dtype)
    storage = _tuple(
        _text("storage"), _name("torch", kind), _text(key), _text("cpu"), _int(array.size)
    )
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _int(0),
        _tuple(*map(_int, array.shape)),
        _tuple(*map(_int, strides)),
        pickle.NEWFALSE,  # no gradient
        _ORDERED_DICT,  # no hooks
    )
    return _name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _int(number: int) -> bytes:
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


_ORDERED_DICT = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
