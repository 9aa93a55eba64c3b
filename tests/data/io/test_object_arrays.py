"""Reading of object arrays from all versions of Python and NumPy, without executing them."""

import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from jaxtal.data.io import object_arrays
from jaxtal.errors import JaxtalError


def write(path: Path, pickled: bytes, shape=(2,)) -> Path:
    """Write a .npy file with the header of an object array and the content `pickled`."""
    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
        file.write(pickled)
    return path


def ragged() -> np.ndarray:
    array = np.empty(2, object)
    array[0] = np.arange(6, dtype=np.float16).reshape(2, 3)
    array[1] = np.asfortranarray(np.arange(8, dtype=">f4").reshape(4, 2))
    return array


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_every_protocol(tmp_path, protocol, module):
    pickled = pickle.dumps(ragged(), protocol=protocol)
    if protocol < 4:  # later ones write the name's length before it
        pickled = pickled.replace(b"numpy._core.multiarray", module)
    loaded = object_arrays.load(write(tmp_path / "a.npy", pickled))
    for ours, wanted in zip(loaded, ragged(), strict=True):
        assert ours.dtype == wanted.dtype
        np.testing.assert_array_equal(ours, wanted)


def test_lists_strings_and_numbers(tmp_path):
    array = np.empty(3, object)
    array[:] = [[[1.5, 2.5], [3, 4]], ["Diving", b"CliffDiving"], np.array([b"x", b"yz"])]
    np.save(tmp_path / "a.npy", array)
    loaded = object_arrays.load(tmp_path / "a.npy")
    assert loaded[0] == [[1.5, 2.5], [3, 4]]
    assert loaded[1] == ["Diving", "CliffDiving"]
    assert loaded[2].tolist() == [b"x", b"yz"]
    array[:] = [np.float64(2.5), np.int32(7), None]
    np.save(tmp_path / "b.npy", array)
    assert object_arrays.load(tmp_path / "b.npy").tolist() == [2.5, 7, None]


def test_a_python_2_pickle(tmp_path):
    # Python 2 writes strings without a type, and the array's contents as such a string.
    contents = np.array([1.0, 2.0]).tobytes()
    pickled = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK?tb\x89](cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + contents + b"tbetb."
    )
    loaded = object_arrays.load(write(tmp_path / "a.npy", pickled, (1,)))
    np.testing.assert_array_equal(loaded[0], [1, 2])


class Call:
    """Pickles to a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [
    Call(eval, "__import__('pathlib').Path('executed').touch()"),
    Call(Path.touch, Path("executed")),
    Call(np.ndarray, (10**9, 10**6)),
    Call(np.frombuffer, b"12345678"),
    Call(pickle.loads, b"."),
    Call(bytearray, 10),
])  # fmt: skip
def test_calls_are_rejected_and_not_made(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(call, protocol=protocol)
    with pytest.raises(JaxtalError, match=r"a\.npy: rejected.*Nothing in it was executed") as error:
        object_arrays.load(write(tmp_path / "a.npy", pickled))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("pickled", [
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
    b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00V99\x85R.",
    b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    b"\x80\x02}.",
    b"]" + b"]" * 50 + b"a" * 50 + b".",
    b"\x80\x02cnumpy\ndtype\nU\x02O8\x85Rcbuiltins\ngetattr\n.",
])  # fmt: skip
def test_other_objects_are_rejected(tmp_path, pickled):
    with pytest.raises(JaxtalError, match=r"a\.npy: "):
        object_arrays.load(write(tmp_path / "a.npy", pickled))


def test_an_object_type_cannot_be_smuggled_into_raw_memory(tmp_path):
    # NumPy's own unpickling would take these bytes for pointers if the type's flags were cleared.
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNK\x08K\x08K\x00tb"
    pickled = head + b"(K\x01K\x01\x85" + dtype + b"\x89U\x08AAAAAAAAtb."
    with pytest.raises(JaxtalError, match="a malformed array"):
        object_arrays.load(write(tmp_path / "a.npy", pickled, (1,)))


def test_memory_is_bounded_by_the_file(tmp_path):
    huge_memo = b"\x80\x02]r" + struct.pack("<I", 2**31) + b"."
    huge_bytes = b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc."
    for pickled in (huge_memo, huge_bytes):
        with pytest.raises(JaxtalError):
            object_arrays.load(write(tmp_path / "a.npy", pickled))


def test_shared_references_do_not_multiply(tmp_path):
    nested: list = [0.0]
    for _ in range(3):
        nested = [nested] * 1000
    array = np.empty(1, object)
    array[0] = nested
    np.save(tmp_path / "a.npy", array)  # expands to 10^9 numbers from a few kilobytes
    with pytest.raises(JaxtalError, match="shared lists that expand to too many entries"):
        object_arrays.load(tmp_path / "a.npy")
    array[0] = [[0.5, 1.5]] * 1000
    np.save(tmp_path / "a.npy", array)
    assert len(object_arrays.load(tmp_path / "a.npy")[0]) == 1000


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_one_line(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        np.save(path, ragged())
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        else:
            for _ in range(data.draw(st.integers(1, 4))):
                position = data.draw(st.integers(0, len(content) - 1))
                content[position] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        message = refusal(path)  # None: a flipped bit of a number gives another number
        assert message is None or (str(path) in message and "\n" not in message)


def refusal(path: Path) -> str | None:
    """Return the reader's error message for a file, or None if it is read."""
    try:
        object_arrays.load(path)
    except JaxtalError as error:
        return str(error)
    return None
