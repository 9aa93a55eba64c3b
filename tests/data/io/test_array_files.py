"""Arrays in files of every form are read exactly; other content is an error of one line."""

import pickle
import time
import tracemalloc
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest

from jaxtal.checkpoint_conversion import torch_writer
from jaxtal.data.io import feature_files
from jaxtal.data.io.array_files import Place, array_shape, read_array
from jaxtal.data.io.feature_files import load_features
from jaxtal.errors import JaxtalError
from tests.helpers import array_forms
from tests.stress.hostile import crafted

ARRAY = np.random.default_rng(0).normal(size=(7, 6))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("form", array_forms.FORMS)
def test_forms(tmp_path, form, dtype):
    array = ARRAY.astype(dtype)
    place = Place(array_forms.write(form, tmp_path, "a", array))
    read = read_array(place)
    assert array_shape(place) == read.shape == (7, 6)
    assert read.dtype == (np.float64 if form in array_forms.TEXT else dtype)
    np.testing.assert_array_equal(read, array)
    features = load_features(place)
    assert features.dtype == (np.float32 if read.dtype == np.float64 else dtype)
    np.testing.assert_array_equal(features, array.astype(features.dtype))


def test_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ARRAY.astype(np.float32))
    whole = {"features": tensor, "fps": 30.0, "video": "a", "frames": [1, 2]}
    for name, value in (("a", tensor), ("b", tensor[1:, :4]), ("c", whole)):
        for new in (True, False):
            path = tmp_path / f"{name}.pt"
            torch.save(value, path, _use_new_zipfile_serialization=new)
            wanted = ARRAY[1:, :4] if name == "b" else ARRAY
            np.testing.assert_array_equal(load_features(Place(path)), wanted.astype(np.float32))
    torch.save(tensor.to(torch.bfloat16), path)
    with pytest.raises(JaxtalError, match=r"type bfloat16; wanted \(T, 2D\) float16 or float32"):
        load_features(Place(path))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path, protocol):
    for array in (ARRAY, np.asfortranarray(ARRAY), ARRAY.astype(">f4"), ARRAY[::2, ::3]):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({b"x": array}, protocol))
        np.testing.assert_array_equal(read_array(Place(tmp_path / "a.pkl")), array)


@pytest.mark.parametrize("form", ["npz", "pt", "pkl", "h5"])
def test_several_arrays_without_a_known_name(tmp_path, form):
    arrays = {"one": ARRAY, "other": ARRAY + 1}
    path = tmp_path / f"a.{form}"
    if form == "npz":
        np.savez(path, **arrays)
    elif form == "pt":
        torch_writer.save(path, arrays)
    elif form == "pkl":
        path.write_bytes(pickle.dumps(arrays))
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    message = r"2 arrays \(one \(7, 6\), other \(7, 6\)\); wanted one .* named features, or two"
    for function in (read_array, array_shape):
        with pytest.raises(JaxtalError, match=message):
            function(Place(path))


def test_streams_of_different_lengths_in_one_file(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=ARRAY, flow=ARRAY[1:])
    for function in (read_array, array_shape):
        with pytest.raises(JaxtalError, match=r"rgb has the shape \(7, 6\), flow \(6, 6\); wanted"):
            function(Place(tmp_path / "a.npz"))


def test_rows_with_an_index_and_spaces(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeff,f0,f1\r\n0,0.5,1e-3\r\n1,2,nan\r\n")
    np.testing.assert_array_equal(read_array(Place(path)), [[0.5, 1e-3], [2, np.nan]])
    for content in (
        "1 2 3\n4 5 6\n", "1;2;3\n4;5;6\n", "a;b;c\r\n1;2;3\r\n4;5;6\r\n", "1,2,3,\n4,5,6,\n",
        "1;2;3;\r\n4;5;6;\r\n", "a,b,c,\n1,2,3,\n4,5,6,\n", "frame,a,b,c\n0,1,2,3\n1,4,5,6\n",
    ):  # fmt: skip
        path.write_text(content)
        np.testing.assert_array_equal(read_array(Place(path)), [[1, 2, 3], [4, 5, 6]])
    for content in (
        "",
        "1,5;2,5\n3,5;4,5\n",
        "1,2\n3,4,5\n",
        "a,b\n",
        "a,b\n\n\n",
        "1,2\n3\n",
        "1,x\n3,4\n5,y\n",
    ):
        path.write_text(content)
        with pytest.raises(JaxtalError, match=r"a\.csv: not a complete \.csv file"):
            read_array(Place(path))


def test_the_videos_of_one_file(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["v_a/c3d_features"] = ARRAY
        file["v_b"] = ARRAY[:3]
    (a, places), (b, _) = feature_files.find_feature_files(path)
    assert (a, b) == ("v_a", "v_b")
    np.testing.assert_array_equal(read_array(places[0]), ARRAY)
    assert str(places[0]) == f"{path}, v_a"
    assert feature_files.feature_file("v_b", (Place(path, "v_b"),)).shape == (3, 6)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    path = array_forms.write("h5", tmp_path, "a", ARRAY)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(JaxtalError, match=r"reading a\.h5 needs the package h5py.*jaxtal\[hdf5\]"):
        read_array(Place(path))


def refused(path) -> str:
    """Return the one-line error of reading a file, which takes little time and memory."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(JaxtalError) as error:
        load_features(Place(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - begin < 5
    assert peak < 160e6
    message = str(error.value)
    assert message.isprintable(), message
    assert str(path) in message, message
    return message


@pytest.mark.parametrize("form", array_forms.FORMS)
def test_damaged_files(tmp_path, form):
    path = array_forms.write(form, tmp_path, "a", ARRAY.astype(np.float32))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, len(content) // 3):
        path.write_bytes(content[:size])
        if form not in array_forms.TEXT or size == 0:
            refused(path)
    path.write_bytes(rng.bytes(2000))
    refused(path)
    for _ in range(30):  # either still features, or refused
        changed = bytearray(content)
        for at in rng.integers(len(content), size=3):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        try:
            load_features(Place(path))
        except JaxtalError as error:
            assert str(error).isprintable()  # noqa: PT017


def test_pickles_that_run_code(tmp_path):
    for what, payload in crafted.PAYLOADS:
        for content in (payload, b"}X\x01\x00\x00\x00a" + payload + b"s"):
            (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + content + b".")
            with pytest.raises(JaxtalError) as error:
                load_features(Place(tmp_path / "a.pkl"))
            assert str(error.value).isprintable(), what
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(print))
    assert "a reference to builtins.print" in refused(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({1.5: ARRAY}))
    assert "a mapping with keys of type float" in refused(tmp_path / "a.pkl")


def test_archives_that_unpack_to_much_more(tmp_path):
    zeros = np.zeros((3000, 10_000), np.float32)
    np.savez_compressed(tmp_path / "a.npz", zeros)
    assert "that is packed to" in refused(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", b"0" * 1000)
    assert "compressed by an unusual method" in refused(tmp_path / "a.npz")
    for how in ({"compression": "gzip", "data": zeros}, {"shape": (2**40, 2**10), "dtype": "f4"}):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("features", **how)
        assert "that is packed to" in refused(tmp_path / "a.h5")
        with pytest.raises(JaxtalError, match="that is packed to"):
            array_shape(Place(tmp_path / "a.h5"))


def bomb(path, stated: int, rows: int) -> None:
    """Write a .npz file of 300 MB of zeros whose directory states another size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("features.npy", "w") as member:
            head = {"descr": "<f4", "fortran_order": False, "shape": (rows, 16)}
            np.lib.format.write_array_header_1_0(member, head)
            for _ in range(300):
                member.write(bytes(10**6))
        archive.infolist()[0].file_size = stated or archive.infolist()[0].file_size


@pytest.mark.parametrize(("stated", "rows", "message"), [
    (0, 4_687_500, "that is packed to"),
    (10**11, 10**9, "that is packed to"),
    (128 + 6400, 10**9, "bytes for 16000000000 entries"),
    (128 + 6400, 100, "Bad CRC-32"),
])  # fmt: skip
def test_bombs_of_every_kind(tmp_path, stated, rows, message):
    bomb(tmp_path / "a.npz", stated, rows)
    tracemalloc.start()
    try:
        with pytest.raises(JaxtalError, match=message):
            read_array(Place(tmp_path / "a.npz"))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    if rows > 100:  # memory is planned by the shape, which alone is refused
        with pytest.raises(JaxtalError, match=message):
            array_shape(Place(tmp_path / "a.npz"))


def test_data_outside_of_the_file(tmp_path):
    (tmp_path / "secret").write_bytes(ARRAY.tobytes())
    array_forms.write("h5", tmp_path, "other", ARRAY)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "features")
    assert "a link to another place" in refused(path)
    external = [(str(tmp_path / "secret"), 0, ARRAY.nbytes)]
    with h5py.File(path, "w") as file:
        file.create_dataset("features", ARRAY.shape, ARRAY.dtype, external=external)
    assert "stored in another file" in refused(path)
    layout = h5py.VirtualLayout(shape=ARRAY.shape, dtype=ARRAY.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "features", shape=ARRAY.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)
    assert "stored in another file" in refused(path)


def test_types_that_numpy_lacks(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY.astype(ml_dtypes.bfloat16))
    assert "an array of type '<V2'" in refused(tmp_path / "a.npy")
    torch_writer.save(tmp_path / "a.pt", {"x": ARRAY.astype(ml_dtypes.bfloat16)})
    assert "type bfloat16; wanted (T, 2D) float16 or float32" in refused(tmp_path / "a.pt")


@pytest.mark.parametrize("start", [0, 1])
def test_a_line_that_counts_the_columns_is_a_header(tmp_path, start):
    """Pandas writes such a line for an array."""
    rows = np.arange(20, dtype=float).reshape(2, 10) / 7
    header = ",".join(str(number) for number in range(start, start + 10))
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header=header, comments="", fmt="%.17g")
    np.testing.assert_array_equal(read_array(Place(tmp_path / "a.csv")), rows)


@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_counts_the_rows_is_no_feature(tmp_path, start):
    """Pandas writes such a column, with or without a line of names."""
    rows = np.arange(20, dtype=float).reshape(5, 4) / 7
    counted = np.column_stack([np.arange(start, start + 5), rows])
    np.savetxt(tmp_path / "a.csv", counted, delimiter=",", fmt="%.17g")
    np.testing.assert_array_equal(read_array(Place(tmp_path / "a.csv")), rows)
    np.savetxt(tmp_path / "b.csv", counted[:, [0, 0, *range(1, 5)]], delimiter=",",
               header="start,end,a,b,c,d", comments="", fmt="%.17g")  # fmt: skip
    np.testing.assert_array_equal(read_array(Place(tmp_path / "b.csv")), rows)
