"""Reading .npy files from strangers: object arrays without executing what their pickles say.

The W-TALC layout stores ragged features, labels and segments as object arrays, that is as pickles.
Here a pickle may build arrays, numbers, strings, lists and tuples of those, and nothing else: the
names that NumPy's own pickles refer to are mapped to plain records of this module, which are
checked and turned into arrays afterwards. No code of NumPy's or of the file's choosing runs.
"""

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from jaxtal.errors import UserError

_TYPES = re.compile(r"[|<>=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,9}|O8?)")
_DEPTH = 5  # object array, video, segment, number: real files need four


class _RefusedError(ValueError):
    """The pickle holds something that is not data."""


class _DType:
    """`numpy.dtype(code, align, copy)` and the state that follows it."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _TYPES.fullmatch(code):
            raise _RefusedError(f"an array of type {code!r:.40}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise _RefusedError("a structured array")
        self.code = self.code if self.is_object else order + self.code.lstrip("|<>=")

    @property
    def is_object(self) -> bool:
        return "O" in self.code

    def dtype(self) -> np.dtype:
        return np.dtype(self.code)


class _Array:
    """What `_reconstruct` makes and a state fills: (version, shape, dtype, fortran, contents)."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, contents = state
        if not isinstance(dtype, _DType) or not all(type(n) is int and n >= 0 for n in shape):
            raise _RefusedError("a malformed array")
        kind = list if dtype.is_object else (bytes, str)
        if not isinstance(contents, kind):
            raise _RefusedError("a malformed array")
        self.state = tuple(shape), dtype, bool(fortran), contents

    def build(self, convert) -> np.ndarray:
        """The array; `convert` does the entries of an object array."""
        if self.state is None:
            raise _RefusedError("an array without contents")
        shape, dtype, fortran, contents = self.state
        if dtype.is_object:
            flat = np.empty(len(contents), object)
            for index, item in enumerate(contents):
                flat[index] = convert(item)
        else:
            flat = np.frombuffer(_raw(contents), dtype.dtype())
        return flat.reshape(shape, order="F" if fortran else "C")


class _Scalar:
    """`scalar(dtype, bytes)`."""

    def __init__(self, dtype: Any, contents: Any):
        if not isinstance(dtype, _DType) or dtype.is_object:
            raise _RefusedError("a malformed number")
        self.dtype, self.contents = dtype, contents

    def build(self, _) -> Any:
        return np.frombuffer(_raw(self.contents), self.dtype.dtype())[0]


class _NDArray:
    """Stands for `numpy.ndarray`, which only ever is an argument of `_reconstruct`."""

    def __init__(self, *_: Any):
        raise _RefusedError("a call of numpy.ndarray")


def _raw(contents: Any) -> bytes:
    """Array contents as bytes; Python 2 pickles may hold them as text."""
    return contents if isinstance(contents, bytes) else contents.encode("latin1")


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    """`_codecs.encode`, by which old protocols write bytes."""
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise _RefusedError(f"a call of _codecs.encode with codec {codec!r:.40}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _NDArray,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _Array
    _ALLOWED[_module, "scalar"] = _Scalar


# The pure-Python unpickler: its memo is a dict, where the C one allocates whatever index is named.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"a reference to {module}.{name}")
        return _ALLOWED[module, name]


def _convert(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """Records to arrays and numbers, bytes to text; each container is done once."""
    if id(value) in done:
        return done[id(value)]
    if depth > _DEPTH:
        raise _RefusedError(f"containers nested more than {_DEPTH} deep")
    if isinstance(value, (_Array, _Scalar)):
        result = value.build(lambda item: _convert(item, depth + 1, done))
    elif isinstance(value, (list, tuple)):
        result = [_convert(item, depth + 1, done) for item in value]
    elif isinstance(value, bytes):
        result = value.decode("utf-8", "replace")
    elif value is None or isinstance(value, (str, int, float)):
        result = value
    else:
        raise _RefusedError(f"a {type(value).__name__}")
    done[id(value)] = result
    return result


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise _RefusedError(f"format version {version[0]}.{version[1]}")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def load(path: Path) -> np.ndarray:
    """Read a .npy file, plain or an object array of numbers, strings, lists and arrays.

    Strings that were saved as bytes come back as text inside object arrays. A plain array is
    memory-mapped.

    Raises:
        UserError: the file is missing, is not a .npy file, is cut short, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            shape, dtype = _read_header(file)
            if dtype.hasobject:
                done: dict[int, Any] = {}
                unpickled = _Unpickler(file, encoding="bytes").load()
                array = _convert(unpickled, 0, done)
                if not isinstance(array, np.ndarray) or array.shape != shape:
                    raise _RefusedError("something else than the array that its header announces")
                return array
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _RefusedError as error:
        raise UserError(
            f"{path}: refused, because it contains {error}; wanted an array of numbers, strings, "
            "lists and arrays only. Nothing in it was executed; save the data again with numpy.save"
        ) from None
    except Exception as error:  # whatever parsing a stranger's file raises, the file is at fault
        raise UserError(
            f"{path}: not a complete .npy file ({type(error).__name__}: {_line(error)}); "
            "copy or download it again"
        ) from None
