"""Reading of arrays in untrusted pickles, without executing them."""

import mmap
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jaxtal.data.io import object_arrays
from jaxtal.data.io.files import RefusedError, open_regular, parse_errors_as_data_error

_FORM = "an array, or a dict of arrays, as pickle.dump writes them"


class _Mapping(dict):
    """Stand-in for dict."""

    def __setitem__(self, key: Any, value: Any) -> None:
        # Keys of other types could be crafted to collide, which takes unbounded time.
        if type(key) not in (str, bytes) and not (type(key) is int and 0 <= key < 2**31):
            raise RefusedError(f"a mapping with keys of type {type(key).__name__}")
        super().__setitem__(key, value)


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> object_arrays.Array:
    """Stand in for `numpy._core.numeric._frombuffer` of protocol 5."""
    array = object_arrays.Array(None, None, None)
    array.__setstate__((1, shape, dtype, order in ("F", b"F"), buffer))
    return array


def _empty_mapping(unpickler: Any) -> None:
    unpickler.append(_Mapping())


def _mapping(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    _empty_mapping(unpickler)
    _set_items(unpickler, items)


def _set_items(unpickler: Any, items: list) -> None:
    target = unpickler.stack[-1]
    if type(target) is not _Mapping:
        raise RefusedError("an entry of an object that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key] = value


def _set_item(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    _set_items(unpickler, [key, value])


class _Unpickler(object_arrays.Unpickler):
    """Restricted unpickler that also accepts dicts and arrays of protocol 5."""

    dispatch: ClassVar = {
        **object_arrays.Unpickler.dispatch,
        pickle.DICT[0]: _mapping,
        pickle.EMPTY_DICT[0]: _empty_mapping,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: lambda self: _set_items(self, self.pop_mark()),
        pickle.BYTEARRAY8[0]: object_arrays.Unpickler.dispatch[pickle.BINBYTES8[0]],
    }

    def find_class(self, module: str, name: str) -> Any:
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _from_buffer
        return super().find_class(module, name)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a pickle: a single one, or those in a dict.

    Args:
        path: the file.

    Returns:
        The arrays by name, mapped from the file; the name of a single array is "". Other entries of
        the dict are omitted.

    Raises:
        DataError: the file is missing, truncated, not a pickle, or refers to anything but arrays,
            dicts, lists, numbers and text.
    """
    with open_regular(path) as file, parse_errors_as_data_error(path, "pickle", _FORM):
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        unpickler = _Unpickler(mapped, 0)
        saved = unpickler.load()
        entries = saved if type(saved) is _Mapping else {"": saved}
        converter = unpickler.converter()
        arrays = {
            key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): value
            for key, value in entries.items()
            if isinstance(value, object_arrays.Array)
        }
        if not arrays:
            raise RefusedError(f"no array, but a {type(saved).__name__.lstrip('_').lower()}")
        return {key: converter.convert(value)[0] for key, value in arrays.items()}
