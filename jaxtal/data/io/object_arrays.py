"""Reading of untrusted .npy files with object arrays, without executing pickles; and writing.

The W-TALC layout stores ragged features, labels and segments as object arrays, that is, as pickles.
This module accepts only pickles of arrays, numbers, strings, and lists and tuples of those. The
names that NumPy's pickles refer to are mapped to plain records of this module, which are validated
and converted to arrays afterwards. No code that a file names is executed, and memory is bounded by
the size of the file. Large arrays are mapped from the file, not copied.
"""

import io
import math
import mmap
import pickle
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy

from jaxtal.data.io.files import RefusedError, open_regular, parse_errors_as_data_error
from jaxtal.errors import short_repr

_TYPES = re.compile(r"[|<>=]?(?:b1|[iu][1248]|f[248]|[SU][0-9]{1,9}|O8?)")
_HEADER = re.compile(
    r"\{\s*(?:(?:'descr'\s*:\s*'(?P<descr>[^'\\]*)'"
    r"|'fortran_order'\s*:\s*(?P<fortran>True|False)"
    r"|'shape'\s*:\s*\((?P<shape>[0-9L, ]*)\))\s*,?\s*){3}\}\s*"
)
_MOST_HEADER = 1024  # bytes; numpy.save writes 118
_MOST_AXES = 64
_DEPTH = 5  # object array, video, segment, number: real files need four
_MAPPED = 256  # bytes; larger contents are mapped
_BYTES_A_BYTE = 32  # bytes of results per byte of the file, at most
_ENTRIES_A_BYTE = 8  # entries of expanded lists per byte of the file: lists may be shared


class DType:
    """`numpy.dtype(code, align, copy)` and the state that follows it."""

    # Not *args: a file could pass its longest list as arguments in a thousand calls.
    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        self.code = _checked_type(code.decode("ascii") if isinstance(code, bytes) else code)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise RefusedError("a structured array")
        self.code = self.code if self.is_object else order + self.code.lstrip("|<>=")

    @property
    def is_object(self) -> bool:
        """True for arrays of Python objects."""
        return "O" in self.code

    def dtype(self) -> np.dtype:
        """Return the type for NumPy."""
        return np.dtype(self.code)


def _checked_type(code: Any) -> str:
    if not isinstance(code, str) or not _TYPES.fullmatch(code):
        raise RefusedError(f"an array of type {short_repr(code, 40)}")
    return code


class Array:
    """`_reconstruct(...)` and its state: (version, shape, dtype, fortran, contents)."""

    def __init__(self, subtype: Any, shape: Any, dtype: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, contents = state
        axes = isinstance(shape, tuple) and len(shape) <= _MOST_AXES
        if not axes or not all(type(n) is int and n >= 0 for n in shape):
            raise RefusedError("a malformed array")
        if not isinstance(dtype, DType):
            raise RefusedError("a malformed array")
        kind = list if dtype.is_object else (bytes, str, memoryview)
        if not isinstance(contents, kind):
            raise RefusedError("a malformed array")
        self.state = shape, dtype, bool(fortran), contents

    @property
    def objects(self) -> list | None:
        """The entries of an object array, None for other arrays."""
        return self.state[3] if self.state is not None and self.state[1].is_object else None

    def build(self, objects: list | None, spend: Callable[[int], None]) -> np.ndarray:
        """Return the array with the converted entries `objects`; `spend` counts bytes."""
        if self.state is None:
            raise RefusedError("an array without contents")
        shape, dtype, fortran, contents = self.state
        if objects is not None:
            spend(8 * len(objects))
            flat = np.empty(len(objects), object)
            for index, item in enumerate(objects):
                flat[index] = item
        else:
            flat = _letters(np.frombuffer(_raw(contents, spend), dtype.dtype()))
        return flat.reshape(shape, order="F" if fortran else "C")


class _Scalar:
    """`scalar(dtype, bytes)`."""

    def __init__(self, dtype: Any, contents: Any):
        if not isinstance(dtype, DType) or dtype.is_object:
            raise RefusedError("a malformed number")
        self.dtype, self.contents = dtype, contents

    def build(self, spend: Callable[[int], None]) -> Any:
        return _letters(np.frombuffer(_raw(self.contents, spend), self.dtype.dtype()))[0]


class _NDArray:
    """Placeholder for `numpy.ndarray`, which may only be an argument of `_reconstruct`."""

    def __init__(self, *_: Any):
        raise RefusedError("a call of numpy.ndarray")


def _raw(contents: Any, spend: Callable[[int], None]) -> Any:
    """Return array contents as bytes; in Python 2 pickles they may be text."""
    if isinstance(contents, str):
        spend(len(contents))
        return contents.encode("latin1")
    return contents


def _letters(array: np.ndarray) -> np.ndarray:
    """Return `array`; reject text with invalid code points, which NumPy cannot convert."""
    if array.dtype.kind == "U":
        codes = np.ascontiguousarray(array).view(array.dtype.byteorder.replace("|", "=") + "u4")
        if codes.max(initial=0) > sys.maxunicode:
            raise RefusedError("text with code points that Unicode does not have")
    return array


_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "dtype"): DType, ("numpy", "ndarray"): _NDArray}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = Array
    _ALLOWED[_module, "scalar"] = _Scalar


def _refuse(what: str):
    def refuse(unpickler: Any) -> None:
        raise RefusedError(what)

    return refuse


# The pure-Python unpickler: its memo is a dict; the C one allocates memory for any index.
_Base: Any = pickle._Unpickler


class Unpickler(_Base):
    """Restricted unpickler of a mapped file, from a position on."""

    dispatch: ClassVar = dict(_Base.dispatch)

    def __init__(self, mapped: mmap.mmap, start: int):
        super().__init__(mapped, encoding="bytes")
        mapped.seek(start)
        self._mapped = mapped
        self._budget = _BYTES_A_BYTE * len(mapped)
        self._file_read = self._read

    def _read(self, size: int) -> bytes:
        self._check(size)
        return self._mapped.read(size)

    def _check(self, size: int) -> None:
        if not 0 <= size <= len(self._mapped) - self._mapped.tell():
            raise EOFError("the file is shorter than its content announces")

    def spend(self, size: int) -> None:
        """Count bytes of results; reject the file once it exceeds its budget."""
        self._budget -= size
        if self._budget < 0:
            raise RefusedError(f"contents that take more than {_BYTES_A_BYTE} times its size")

    def converter(self) -> "Converter":
        """Return the converter of what `load` returns; both share the budget."""
        return Converter(_ENTRIES_A_BYTE * len(self._mapped), self.spend)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name in a pickle, or reject it."""
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ALLOWED:
            raise RefusedError(
                f"a reference to {short_repr(module, 40)[1:-1]}.{short_repr(name, 40)[1:-1]}"
            )
        return _ALLOWED[module, name]

    def _encode(self, text: Any, codec: Any = "latin1") -> bytes:
        """Return encoded text: old protocols store bytes as a call of `_codecs.encode`."""
        if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
            raise RefusedError(f"a call of _codecs.encode with codec {short_repr(codec, 40)}")
        self.spend(len(text))
        return text.encode("latin1")

    def _load_contents(self, form: str) -> None:
        """Load bytes that follow their length; large contents are mapped from the file."""
        (size,) = struct.unpack(form, self.read(struct.calcsize(form)))
        self._check(size)
        start = self._mapped.tell()
        if size < _MAPPED:
            self.append(self.read(size))
        else:
            self.append(memoryview(self._mapped)[start : start + size])
            self._mapped.seek(start + size)

    def _load_frame(self) -> None:
        self.read(8)  # frames are contiguous, so their lengths are not needed

    def _load_put(self) -> None:
        index = int(self.readline()[:-1])
        if not 0 <= index < 2**32:
            raise RefusedError(f"a memo of index {short_repr(index, 40)}")
        self.memo[index] = self.stack[-1]

    def _load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (DType, Array)):
            raise RefusedError("a state for an object that is not an array")
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


class Converter:
    """Conversion of records to arrays and numbers, and of bytes to text, once per container.

    Args:
        most: largest number of entries in all expanded lists.
        spend: function that counts bytes of results.
    """

    def __init__(self, most: int, spend: Callable[[int], None]):
        self._most, self._spend = most, spend
        self._done: dict[int, tuple[Any, int]] = {}

    def convert(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """Return the converted `value` and the number of its entries."""
        if id(value) not in self._done:
            if depth > _DEPTH:
                raise RefusedError(f"containers nested more than {_DEPTH} deep")
            result, entries = self._built(value, depth + 1)
            if entries > self._most:
                raise RefusedError("shared lists that expand to too many entries")
            self._done[id(value)] = result, entries
        return self._done[id(value)]

    def _built(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, (list, tuple)):
            items = [self.convert(item, depth) for item in value]
            return [item for item, _ in items], 1 + sum(entries for _, entries in items)
        if isinstance(value, Array):
            objects, entries = None, 1
            if value.objects is not None:
                objects, entries = self.convert(value.objects, depth - 1)
            array = value.build(objects, self._spend)
            return array, max(entries, array.size)
        return self._single(value), 1

    def _single(self, value: Any) -> Any:
        if isinstance(value, _Scalar):
            return value.build(self._spend)
        if isinstance(value, (bytes, memoryview)):
            return bytes(value).decode("utf-8", "replace")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise RefusedError(f"an integer of {value.bit_length()} bits")
        if value is None or isinstance(value, (str, int, float)):
            return value
        raise RefusedError(f"a {type(value).__name__}")


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, Fortran order and type of the array in a .npy file, without evaluating it.

    Args:
        file: the open file, at its start; afterwards at the end of the header.

    Raises:
        ValueError: the header is malformed.
        EOFError: the file ends in it.
    """
    version = npy.read_magic(file)
    form = {(1, 0): "<H", (2, 0): "<I"}.get(version)
    if form is None:
        raise RefusedError(f"format version {version[0]}.{version[1]}")
    (size,) = struct.unpack(form, file.read(struct.calcsize(form)))
    if size > _MOST_HEADER:
        raise RefusedError(f"a header of {size} bytes")
    text = file.read(size).decode("latin1")
    found = _HEADER.fullmatch(text)
    if len(text) < size:
        raise EOFError("the file ends in its header")
    if not found or None in found.groups():
        raise RefusedError(f"the header {short_repr(text)}")
    dtype = np.dtype(_checked_type(found["descr"]))
    sizes = found["shape"].replace("L", "").split(",")  # Python 2 wrote 3L
    shape = tuple(int(part) for part in sizes if part.strip())
    return shape, found["fortran"] == "True", dtype


def _read(mapped: mmap.mmap) -> np.ndarray:
    shape, fortran, dtype = read_header(mapped)
    if dtype.hasobject:
        unpickler = Unpickler(mapped, mapped.tell())
        array, _ = unpickler.converter().convert(unpickler.load())
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise RefusedError("an object other than the array that its header announces")
        return array
    return _plain(mapped, mapped.tell(), shape, fortran, dtype)


def _plain(content: Any, start: int, shape, fortran: bool, dtype: np.dtype) -> np.ndarray:
    """Return the array whose numbers begin at `start`."""
    count = math.prod(shape)
    if count * dtype.itemsize > len(content) - start:
        raise EOFError(
            f"{len(content) - start} bytes for {short_repr(count)} entries of type {dtype}"
        )
    flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
    return _letters(flat).reshape(shape, order="F" if fortran else "C")


def plain(content: bytes) -> np.ndarray:
    """Return the plain array in the content of a .npy file.

    Args:
        content: all bytes of the file.

    Returns:
        An array that refers to `content`, without a copy.

    Raises:
        ValueError: the content is malformed, or an object array.
        EOFError: the content is truncated.
    """
    file = io.BytesIO(content)
    header = read_header(file)
    if header[2].hasobject:
        raise RefusedError("objects, which are pickles")
    return _plain(content, file.tell(), *header)


def load(path: Path) -> np.ndarray:
    """Read a .npy file, plain or an object array of numbers, strings, lists and arrays.

    Inside object arrays, bytes become text. Arrays are mapped from the file, which stays open as
    long as one of them exists.

    Args:
        path: the file.

    Returns:
        The array, read-only if it is mapped; object arrays contain arrays, lists, text and numbers.

    Raises:
        DataError: the file is missing, truncated, not a .npy file, or contains other objects.
    """
    wanted = "an array of numbers, strings, lists and arrays only, as numpy.save writes it"
    with open_regular(path) as file, parse_errors_as_data_error(path, ".npy", wanted):
        return _read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


class Writer:
    """Incremental writer of a .npy file with an object array (count,).

    All versions of NumPy read the file with `allow_pickle=True`: the pickle (protocol 3) refers
    only to names that exist in old and new versions. Its bytes depend on the entries alone, so a
    writer can resume a partial file.

    Args:
        file: a binary file that is open for writing; only its method `write` is used.
        count: number of entries.
        begin: write the header; False resumes a file after its last entry.
    """

    def __init__(self, file: Any, count: int, begin: bool = True):
        self._file = file
        if begin:
            header = {"descr": "|O", "fortran_order": False, "shape": (count,)}
            npy.write_array_header_1_0(file, header)
            file.write(b"\x80\x03" + _RECONSTRUCT + b"(K\x01")
            file.write(_integer(count) + b"\x85" + _dtype("O8", b"|", b"K?") + b"\x89]")

    def add(self, item: Any) -> None:
        """Write the next entry.

        Args:
            item: an array of numbers, or a list of strings, numbers and lists.

        Raises:
            ValueError: an array is not numeric, or has 4 GiB or more.
        """
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
        """Write the end of the file, after the last entry."""
        self._file.write(b"tb.")


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _dtype(code: str, order: bytes, flags: bytes) -> bytes:
    """Return the pickle of a dtype: `numpy.dtype(code, False, True)` and its state."""
    text = [b"X" + struct.pack("<I", len(part)) + part for part in (code.encode(), order)]
    made = b"cnumpy\ndtype\n" + text[0] + b"\x89\x88\x87R"
    return made + b"(K\x03" + text[1] + b"NNN" + 2 * _integer(-1) + flags + b"tb"
