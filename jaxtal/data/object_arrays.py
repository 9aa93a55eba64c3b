"""Reading and writing .npy files of strangers: object arrays, without executing their pickles.

The W-TALC layout stores ragged features, labels and segments as object arrays, that is as pickles.
Here a pickle may build arrays, numbers, strings, lists and tuples of those, and nothing else: the
names that NumPy's own pickles refer to are mapped to plain records of this module, which are
checked and turned into arrays afterwards. No code of NumPy's or of the file's choosing runs, and
the memory taken is bounded by the size of the file. Arrays are mapped from it, not copied.
"""

import math
import mmap
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy

from jaxtal.data.files import open_regular
from jaxtal.errors import UserError

_TYPES = re.compile(r"[|<>=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,9}|O8?)")
_DEPTH = 5  # object array, video, segment, number: real files need four
_MAPPED = 256  # bytes from which contents are mapped
_BYTES_A_BYTE = 32  # that what is built may take more than the file


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
        kind = list if dtype.is_object else (bytes, str, memoryview)
        if not isinstance(contents, kind):
            raise _RefusedError("a malformed array")
        self.state = tuple(shape), dtype, bool(fortran), contents

    def build(self, convert, spend) -> np.ndarray:
        """The array; `convert` does the entries of an object array, `spend` counts bytes."""
        if self.state is None:
            raise _RefusedError("an array without contents")
        shape, dtype, fortran, contents = self.state
        if dtype.is_object:
            spend(8 * len(contents))
            flat = np.empty(len(contents), object)
            for index, item in enumerate(contents):
                flat[index] = convert(item)
        else:
            flat = np.frombuffer(_raw(contents, spend), dtype.dtype())
        return flat.reshape(shape, order="F" if fortran else "C")


class _Scalar:
    """`scalar(dtype, bytes)`."""

    def __init__(self, dtype: Any, contents: Any):
        if not isinstance(dtype, _DType) or dtype.is_object:
            raise _RefusedError("a malformed number")
        self.dtype, self.contents = dtype, contents

    def build(self, _, spend) -> Any:
        return np.frombuffer(_raw(self.contents, spend), self.dtype.dtype())[0]


class _NDArray:
    """Stands for `numpy.ndarray`, which only ever is an argument of `_reconstruct`."""

    def __init__(self, *_: Any):
        raise _RefusedError("a call of numpy.ndarray")


def _raw(contents: Any, spend: Callable[[int], None]) -> Any:
    """Array contents as bytes; Python 2 pickles may hold them as text."""
    if isinstance(contents, str):
        spend(len(contents))
        return contents.encode("latin1")
    return contents


_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "dtype"): _DType, ("numpy", "ndarray"): _NDArray}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _Array
    _ALLOWED[_module, "scalar"] = _Scalar


def _refuse(what: str):
    def refuse(unpickler: Any) -> None:
        raise _RefusedError(what)

    return refuse


# The pure-Python unpickler: its memo is a dict, where the C one allocates whatever index is named.
_Base: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Unpickler(_Base):
    """Of a mapped file from a position on."""

    dispatch: ClassVar = dict(_Base.dispatch)

    def __init__(self, mapped: mmap.mmap, start: int):
        super().__init__(mapped, encoding="bytes")
        mapped.seek(start)
        self._mapped = mapped
        self._left = _BYTES_A_BYTE * len(mapped)
        self._file_read = self._read

    def _read(self, size: int) -> bytes:
        self._check(size)
        return self._mapped.read(size)

    def _check(self, size: int) -> None:
        if not 0 <= size <= len(self._mapped) - self._mapped.tell():
            raise EOFError("the file ends before what it announces")

    def spend(self, size: int) -> None:
        """Count bytes that are made of the file's."""
        self._left -= size
        if self._left < 0:
            raise _RefusedError(f"contents that take more than {_BYTES_A_BYTE} times its size")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"a reference to {module}.{name}")
        return _ALLOWED[module, name]

    def _encode(self, text: Any, codec: Any = "latin1") -> bytes:
        """`_codecs.encode`, by which old protocols write bytes."""
        if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
            raise _RefusedError(f"a call of _codecs.encode with codec {codec!r:.40}")
        self.spend(len(text))
        return text.encode("latin1")

    def _load_contents(self, form: str) -> None:
        """Bytes with their length before them: as they are in the file where they are many."""
        (size,) = struct.unpack(form, self.read(struct.calcsize(form)))
        self._check(size)
        start = self._mapped.tell()
        if size < _MAPPED:
            self.append(self.read(size))
        else:
            self.append(memoryview(self._mapped)[start : start + size])
            self._mapped.seek(start + size)

    def _load_frame(self) -> None:
        self.read(8)  # frames lie one behind the other: their bounds do not matter

    def _load_put(self) -> None:
        index = int(self.readline()[:-1])
        if not 0 <= index < 2**32:
            raise _RefusedError(f"a memo of index {index:.3g}")
        self.memo[index] = self.stack[-1]

    def _load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_DType, _Array)):
            raise _RefusedError("a state for something else than an array")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BINBYTES[0]] = lambda self: self._load_contents("<I")
    dispatch[pickle.BINBYTES8[0]] = lambda self: self._load_contents("<Q")
    dispatch[pickle.BINSTRING[0]] = lambda self: self._load_contents("<i")
    dispatch[pickle.FRAME[0]] = _load_frame
    dispatch[pickle.PUT[0]] = _load_put
    dispatch[pickle.BUILD[0]] = _load_build
    for _what, _codes in {
        "a dict": "EMPTY_DICT DICT SETITEM SETITEMS",
        "a set": "EMPTY_SET ADDITEMS FROZENSET",
        "an object": "INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID",
        "a buffer": "BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER",
    }.items():
        for _code in _codes.split():
            dispatch[getattr(pickle, _code)[0]] = _refuse(_what)


def _convert(value: Any, depth: int, done: dict[int, Any], spend) -> Any:
    """Records to arrays and numbers, bytes to text; each container is done once."""
    if id(value) in done:
        return done[id(value)]
    if depth > _DEPTH:
        raise _RefusedError(f"containers nested more than {_DEPTH} deep")
    if isinstance(value, (_Array, _Scalar)):
        result = value.build(lambda item: _convert(item, depth + 1, done, spend), spend)
    elif isinstance(value, (list, tuple)):
        result = [_convert(item, depth + 1, done, spend) for item in value]
    elif isinstance(value, (bytes, memoryview)):
        result = bytes(value).decode("utf-8", "replace")
    elif value is None or isinstance(value, (str, int, float)):
        result = value
    else:
        raise _RefusedError(f"a {type(value).__name__}")
    done[id(value)] = result
    return result


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise _RefusedError(f"format version {version[0]}.{version[1]}")
    return readers[version](file)


def _read(mapped: mmap.mmap) -> np.ndarray:
    shape, fortran, dtype = _read_header(mapped)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise _RefusedError(f"an array of shape {shape!r:.40}")
    if dtype.hasobject:
        unpickler = _Unpickler(mapped, mapped.tell())
        array = _convert(unpickler.load(), 0, {}, unpickler.spend)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise _RefusedError("something else than the array that its header announces")
        return array
    count, start = math.prod(shape), mapped.tell()
    if count * dtype.itemsize > len(mapped) - start:
        raise EOFError(f"{len(mapped) - start} bytes for {count} entries of type {dtype}")
    flat = np.frombuffer(mapped, dtype, count, start) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def load(path: Path) -> np.ndarray:
    """Read a .npy file, plain or an object array of numbers, strings, lists and arrays.

    Strings that were saved as bytes come back as text inside object arrays. Arrays are mapped from
    the file, which stays open as long as one of them lives.

    Raises:
        UserError: the file is missing, is not a .npy file, is cut short, or holds anything else.
    """
    with open_regular(path) as file:
        try:
            return _read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except _RefusedError as error:
            raise UserError(
                f"{path}: refused, because it contains {error}; wanted an array of numbers, "
                "strings, lists and arrays only. Nothing in it was executed; save the data again "
                "with numpy.save"
            ) from None
        except Exception as error:  # whatever parsing a stranger's file raises, it is at fault
            raise UserError(
                f"{path}: not a complete .npy file ({type(error).__name__}: {_line(error)}); "
                "copy or download it again"
            ) from None


_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


class Writer:
    """A .npy file of an object array (count,) whose entries are given one after the other.

    What NumPy reads with `allow_pickle=True`, every version: the pickle (protocol 3) refers to
    names that old and new ones have. The bytes follow from the entries alone, so that a writer can
    go on where another stopped.

    Args:
        file: open for writing, anything with `write`.
        count: of entries.
        begin: write what comes before the entries; else the file is where another stopped.
    """

    def __init__(self, file: Any, count: int, begin: bool = True):
        self._file = file
        if begin:
            header = {"descr": "|O", "fortran_order": False, "shape": (count,)}
            npy.write_array_header_1_0(file, header)
            file.write(b"\x80\x03" + _RECONSTRUCT + b"(K\x01")
            file.write(_integer(count) + b"\x85" + _dtype("O8", b"|", b"K?") + b"\x89]")

    def add(self, item: Any) -> None:
        """Write the next entry: an array of numbers, or a list of strings, numbers and lists."""
        if not isinstance(item, np.ndarray):
            self._file.write(pickle.dumps(item, 3)[2:-1] + b"a")
            return
        if item.dtype.kind not in "biuf" or item.nbytes >= 2**32:
            raise ValueError(f"an array of {item.nbytes} bytes and type {item.dtype}")
        shape = b"(" + b"".join(map(_integer, item.shape)) + b"t"
        order = item.dtype.str[:1].encode()
        dtype = _dtype(item.dtype.str[1:], order, b"K\x00")
        self._file.write(_RECONSTRUCT + b"(K\x01" + shape + dtype + b"\x89")
        self._file.write(b"B" + struct.pack("<I", item.nbytes))
        self._file.write(np.ascontiguousarray(item).data)
        self._file.write(b"tba")

    def end(self) -> None:
        """Write what comes after the entries."""
        self._file.write(b"tb.")


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _dtype(code: str, order: bytes, flags: bytes) -> bytes:
    """The pickle of a dtype: `numpy.dtype(code, False, True)` and its state."""
    text = [b"X" + struct.pack("<I", len(part)) + part for part in (code.encode(), order)]
    made = b"cnumpy\ndtype\n" + text[0] + b"\x89\x88\x87R"
    return made + b"(K\x03" + text[1] + b"NNN" + 2 * _integer(-1) + flags + b"tb"
