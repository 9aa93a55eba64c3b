"""PyTorch's files are read and written without PyTorch, and no code in them is executed."""

import dataclasses
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxtal.checkpoint_conversion import torch_writer
from jaxtal.data.io import torch_files
from jaxtal.errors import JaxtalError

TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")


@dataclasses.dataclass
class Name:
    """Reference to module.name in a pickle."""

    module: str
    name: str


@dataclasses.dataclass
class Op:
    """Values on the stack and an instruction: R calls, Q refers to a storage, b sets a state."""

    code: bytes
    values: tuple


def emit(value: Any) -> bytes:
    """Return the instructions of a pickle for a value, in protocol 2 without memo."""
    match value:
        case Name(module, name):
            return f"c{module}\n{name}\n".encode()
        case Op(code, values):
            return b"".join(map(emit, values)) + code
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
        case list():
            return b"](" + b"".join(map(emit, value)) + b"e"
        case dict():
            return b"}(" + b"".join(emit(k) + emit(v) for k, v in value.items()) + b"u"
    raise TypeError(value)


def dumps(value: Any) -> bytes:
    return b"\x80\x02" + emit(value) + b"."


def call(module: str, name: str, *arguments) -> Op:
    return Op(b"R", (Name(module, name), arguments))


def storage(key="0", count=6, kind="FloatStorage", *more) -> Op:
    return Op(b"Q", (("storage", Name("torch", kind), key, "cpu", count, *more),))


def tensor(stored=None, offset=0, shape=(2, 3), strides=(3, 1)) -> Op:
    stored = stored or storage()
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", stored, offset, shape, strides, False, hooks)


def archive(path: Path, pickled: bytes, storages: dict[str, bytes], order="little", **how) -> Path:
    with zipfile.ZipFile(path, "w", **how) as file:
        file.writestr("any/data.pkl", pickled)
        file.writestr("any/byteorder", order)
        for key, raw in storages.items():
            file.writestr(f"any/data/{key}", raw)
        file.writestr("any/version", "3\n")
    return path


def sequence(path: Path, pickled: bytes, keys: list[str], arrays: list[np.ndarray]) -> Path:
    """Write a file in the format before PyTorch 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
    head = dumps(0x1950A86A20F9469CFC6C) + dumps(1001) + dumps(system)
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays)
    path.write_bytes(head + pickled + dumps(keys) + data)
    return path


SIX = np.arange(6, dtype=np.float32)
GOOD = {"a": tensor(), "b.weight": tensor(storage("1", 2, "LongStorage"), 1, (1,), (1,))}


def good_archive(path: Path) -> Path:
    return archive(path, dumps(GOOD), {"0": SIX.tobytes(), "1": np.arange(2).tobytes()})


def good_sequence(path: Path) -> Path:
    older = {
        "a": tensor(storage("70", 6, "FloatStorage", None)),
        "b.weight": tensor(storage("9", 2, "LongStorage", None), 1, (1,), (1,)),
    }
    return sequence(path, dumps(older), ["9", "70"], [np.arange(2), SIX])


@pytest.mark.parametrize("write", [good_archive, good_sequence])
def test_both_forms(tmp_path, write):
    loaded = torch_files.load(write(tmp_path / "a.pkl"))
    assert list(loaded) == ["a", "b.weight"]
    np.testing.assert_array_equal(loaded["a"], SIX.reshape(2, 3))
    assert loaded["a"].dtype == np.float32
    np.testing.assert_array_equal(loaded["b.weight"], np.array([1]))
    assert loaded["b.weight"].dtype == np.int64


def test_a_file_of_the_other_byte_order(tmp_path):
    value = {"a": tensor(), "b": tensor(storage("1", 2, "BFloat16Storage"), 0, (2,), (1,))}
    half = np.array([1, -2], ml_dtypes.bfloat16)
    raw = {"0": SIX.astype(">f4").tobytes(), "1": half.view("u2").astype(">u2").tobytes()}
    loaded = torch_files.load(archive(tmp_path / "a.pkl", dumps(value), raw, "big"))
    np.testing.assert_array_equal(loaded["a"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(loaded["b"], half)


def test_state_metadata_parameters_nesting_and_strides(tmp_path):
    mapping = Op(b"R(", (Name("collections", "OrderedDict"), ()))  # then its entries
    body = emit(mapping) + b"".join(
        emit(name) + emit(value)
        for name, value in {
            "turned": tensor(None, 0, (3, 2), (1, 3)),
            "parameter": call("torch._utils", "_rebuild_parameter", tensor(), True, None),
            "part": tensor(None, 4, (), ()),
            "single": tensor(None, 5, (1, 1), (77, 10**6)),
            "none": tensor(None, 6, (0, 4), (4, 1)),
        }.items()
    )
    state = body + b"u" + emit({"_metadata": {"": {"version": 1}}}) + b"b"
    head = b"\x80\x02}(" + emit("epoch") + emit(7) + emit("state_dict")
    pickled = head + state + emit("sizes") + emit(call("torch", "Size", (1, 2))) + b"u."
    loaded = torch_files.load(archive(tmp_path / "a.pkl", pickled, {"0": SIX.tobytes()}))
    np.testing.assert_array_equal(loaded["turned"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(loaded["parameter"], SIX.reshape(2, 3))
    assert loaded["part"] == 4
    assert loaded["single"].tolist() == [[5]]
    assert loaded["none"].shape == (0, 4)


def tensors() -> dict[str, np.ndarray]:
    """Return one tensor of every type, and unusual shapes."""
    rng = np.random.default_rng(0)
    found = {kind: (rng.uniform(0, 100, (2, 3)) > 50).astype(kind) for kind in TYPES}
    found["bf"] = rng.normal(size=(3, 1)).astype(ml_dtypes.bfloat16)
    found["turned"] = rng.normal(size=(2, 3, 4)).astype(np.float32).transpose(2, 0, 1)
    found["scalar"], found["none"] = np.float32(2.5), np.zeros((0, 3), np.float32)
    return {**found, "ä.weight": np.arange(300, dtype=np.float32)}


def assert_equal(got, wanted) -> None:
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_what_is_written_is_read(tmp_path):
    torch_writer.save(tmp_path / "a.pkl", tensors())
    assert_equal(torch_files.load(tmp_path / "a.pkl"), tensors())
    torch_writer.save(tmp_path / "b.pkl", tensors())
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_pytorch_reads_what_we_write(tmp_path):
    torch = pytest.importorskip("torch")
    torch_writer.save(tmp_path / "a.pkl", tensors())
    loaded = torch.load(tmp_path / "a.pkl", weights_only=True)
    assert type(loaded).__name__ == "OrderedDict"
    assert_equal({name: as_numpy(value) for name, value in loaded.items()}, tensors())


def as_numpy(value) -> np.ndarray:
    if "bfloat16" in str(value.dtype):
        return value.float().numpy().astype(ml_dtypes.bfloat16)
    return value.detach().numpy()


@pytest.mark.parametrize("in_zip", [True, False])
def test_we_read_what_pytorch_writes(tmp_path, in_zip):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3))
    state = layer.state_dict()
    state["bf"] = torch.randn(4).bfloat16()
    state["turned"] = torch.randn(4, 3).T
    state["of_another"] = state["bf"][1:3]
    state["parameter"] = torch.nn.Parameter(torch.randn(2))
    wanted = {name: as_numpy(value) for name, value in state.items()}
    optimizer = torch.optim.Adam(layer.parameters()).state_dict()
    for saved in (state, {"epoch": 3, "optimizer": optimizer, "state_dict": state}):
        torch.save(saved, tmp_path / "a.pkl", _use_new_zipfile_serialization=in_zip)
        assert_equal(torch_files.load(tmp_path / "a.pkl"), wanted)


SYSTEM = Op(b"R", (Name("posix", "system"), ("touch executed",)))
PLAIN = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch executed\x85R."
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
LONG = b"\x80\x02](" + b"K\x00" * 1000 + b"e"
HOSTILE = {
    "a call": dumps(SYSTEM),
    "a call in a state dict": dumps({"a": SYSTEM}),
    "a call by protocol 4": PLAIN,
    "a call by protocol 0": b"cposix\nsystem\n(S'touch executed'\ntR.",
    "a builtin": dumps(call("builtins", "eval", "open('executed', 'w')")),
    "a dotted name": dumps(call("collections", "OrderedDict.__init__.__globals__")),
    "an instance": b"\x80\x02(iposix\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a state of a function": dumps(Op(b"b", (REBUILD, {"__code__": 1}))),
    "attributes of a function": dumps(Op(b"b", (REBUILD, (None, {"__defaults__": (1,)})))),
    "a state of a storage type": dumps(Op(b"b", (Name("torch", "FloatStorage"), {"dtype": 1}))),
    "a state of a tensor": dumps({"a": Op(b"b", (tensor(), (None, {"offset": 10**6})))}),
    "a new object": dumps(Op(b"\x81", (Name("collections", "OrderedDict"), ()))),
    "a called storage type": dumps({"a": call("torch", "FloatStorage", 10**9)}),
    "a whole model": dumps(call("model", "CO2")),
    "a sparse tensor": dumps(call("torch._utils", "_rebuild_sparse_tensor", 1)),
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a byte array": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "a long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"abc.",
    "a long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "a large memo": b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
    "nothing": b"",
    "no state dict": dumps([tensor()]),
    "a number": dumps(7),
    "no tensors": dumps({"epoch": 7}),
    "an empty state dict": dumps({}),
    "a number as a name": dumps({7: tensor()}),
    "an endless name": dumps({2**70: tensor()}),
    "a tuple as a name": dumps({(1, 2): tensor()}),
    "too large a storage": dumps({"a": tensor(storage("0", 2**50))}),
    "a negative storage": dumps({"a": tensor(storage("0", -6))}),
    "another storage's size": dumps({"a": tensor(storage("0", 5), 0, (5,), (1,))}),
    "no such storage": dumps({"a": tensor(storage("../version", 6))}),
    "storages that disagree": dumps({"a": tensor(), "b": tensor(storage("0", 3, "LongStorage"))}),
    "a malformed storage": dumps({"a": tensor(Op(b"Q", ("0",)))}),
    "a part of a storage": dumps({"a": tensor(storage("0", 6, "FloatStorage", ("1", 0, 6)))}),
    "a tensor beyond its storage": dumps({"a": tensor(None, 0, (2, 4), (4, 1))}),
    "an offset beyond its storage": dumps({"a": tensor(None, 1)}),
    "strides beyond its storage": dumps({"a": tensor(None, 0, (2, 3), (4, 1))}),
    "a negative offset": dumps({"a": tensor(None, -1, (1,), (1,))}),
    "a negative stride": dumps({"a": tensor(None, 5, (6,), (-1,))}),
    "a negative length": dumps({"a": tensor(None, 0, (-1, -6), (1, 1))}),
    "a repeated number": dumps({"a": tensor(None, 0, (10**12,), (0,))}),
    "many dimensions": dumps({"a": tensor(None, 0, (1,) * 60, (1,) * 60)}),
    "fewer strides": dumps({"a": tensor(None, 0, (2, 3), (3,))}),
    "a huge empty tensor": dumps({"a": tensor(None, 0, (0, 2**59, 2**59), (1, 1, 1))}),
    "no tensor in a parameter": dumps({"a": call("torch._utils", "_rebuild_parameter", 1, 1, 1)}),
    "a call with a list": LONG + b"q\x00" + emit(Name("collections", "OrderedDict")) + b"h\x00R.",
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("older", [False, True])
def test_hostile_pickles_give_one_line(tmp_path, monkeypatch, what, older):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    if older:
        sequence(path, HOSTILE[what], ["0"], [SIX])
    else:
        archive(path, HOSTILE[what], {"0": SIX.tobytes()})
    assert f"{path}: " in refusal(path)
    assert not (tmp_path / "executed").exists()


def refusal(path: Path) -> str:
    """Return the error message for a file, "" for a file that loads; fail for other exceptions.

    The reader must need less than a second and 8 MB for files of some kilobytes.
    """
    tracemalloc.start()
    started = time.process_time()
    try:
        torch_files.load(path)
        message = ""
    except JaxtalError as error:
        message = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - started < 1
    assert peak < 8e6
    assert "\n" not in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize("write", [good_archive, good_sequence])
def test_files_that_are_cut_short(tmp_path, write):
    content = write(tmp_path / "a.pkl").read_bytes()
    for length in range(0, len(content), 3):
        (tmp_path / "a.pkl").write_bytes(content[:length])
        assert refusal(tmp_path / "a.pkl"), length


@pytest.mark.parametrize("write", [good_archive, good_sequence])
def test_flipped_bits(tmp_path, write):
    content = bytearray(write(tmp_path / "a.pkl").read_bytes())
    draw = random.Random(0)
    for _ in range(300):
        position, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        content[position] ^= bit
        (tmp_path / "a.pkl").write_bytes(content)
        refusal(tmp_path / "a.pkl")  # or it loads with another name or number
        content[position] ^= bit


def test_archives_that_are_not_as_pytorch_writes_them(tmp_path):
    raw, path = {"0": SIX.tobytes()}, tmp_path / "a.pkl"
    archive(path, dumps({"a": tensor()}), raw, compression=zipfile.ZIP_DEFLATED)
    assert "compressed members" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("any/readme", "")
    assert "no <name>/data.pkl" in refusal(path)
    good_archive(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/data.pkl", dumps({}))
    assert "two members of the same name" in refusal(path)
    content = good_archive(path).read_bytes()
    size = struct.pack("<II", 24, 24)  # of storage 0, compressed and not
    path.write_bytes(content.replace(size, struct.pack("<II", 2**31, 2**31)))
    assert "longer than the file" in refusal(path)
    head, end = content[:-22], content[-22:]
    long_list = end[:12] + struct.pack("<II", 2**31, 0) + end[20:]
    path.write_bytes(head + long_list)
    assert refusal(path)


def test_many_members_and_many_instructions_take_bounded_time(tmp_path):
    path = tmp_path / "a.pkl"
    with zipfile.ZipFile(path, "w") as file:
        for index in range(30000):
            file.writestr(zipfile.ZipInfo(f"any/data/{index:060}"), b"")
    started = time.process_time()
    with pytest.raises(JaxtalError, match="a list of members"):
        torch_files.load(path)
    archive(path, b"\x80\x02" + b"]" * 2**22 + b".", {})
    with pytest.raises(JaxtalError, match="a pickle of"):
        torch_files.load(path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("content", "message"), [
    (b"{'not': 'a checkpoint'}", "of another kind, which begins with b\"{'\""),
    (pickle.dumps({"a": [1.0]}), "a pickle of another kind"),
    (dumps(0x1950A86A20F9469CFC6C) + dumps(1002) + dumps({}), "a pickle of another kind"),
    (dumps(0x1950A86A20F9469CFC6C) + dumps(1001) + dumps({}), "an unknown byte order"),
    (b"", "of another kind"),
    (b"PK", "not a complete PyTorch file"),
])  # fmt: skip
def test_other_files(tmp_path, content, message):
    (tmp_path / "a.pkl").write_bytes(content)
    assert message in refusal(tmp_path / "a.pkl")


def test_paths_that_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        assert f"{path}: cannot be read" in refusal(path)


@pytest.mark.parametrize("keys", [[], ["0", "0"], ["1"], [0]])
def test_a_wrong_list_of_storages(tmp_path, keys):
    older = dumps({"a": tensor(storage("0", 6, "FloatStorage", None))})
    assert "list of storages" in refusal(sequence(tmp_path / "a.pkl", older, keys, [SIX]))


def test_a_wrong_count_of_numbers(tmp_path):
    older = dumps({"a": tensor(storage("0", 6, "FloatStorage", None))})
    path = sequence(tmp_path / "a.pkl", older, ["0"], [SIX[:5]])
    assert "5 numbers in place of 6" in refusal(path)
