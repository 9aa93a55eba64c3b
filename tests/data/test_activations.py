"""Round trips and validation of saved activations."""

import contextlib
import re

import numpy as np
import pytest

from jaxtal.data import activations
from jaxtal.data.activations import Activations
from jaxtal.data.dataset import TimeGrid
from jaxtal.errors import JaxtalError


def test_round_trip(tmp_path):
    """A video without outputs, one with a single row, and an output with one row per video."""
    rng = np.random.default_rng(0)
    outputs = [
        {"cas": rng.random((rows, 4)).astype("f4"), "scores": rng.random((1, 4))} if rows else {}
        for rows in (3, 0, 1, 7)
    ]
    saved = Activations(
        tuple("abcd"),
        ("Dive", "Jump", "Run"),
        outputs,
        np.array([3, 2, 1, 70]),
        TimeGrid(30.0, 4),
        np.array([0.5, 1.0, np.inf, 9.5]),
    )
    path = tmp_path / "activations.npz"
    activations.write(path, saved)
    assert [file.name for file in tmp_path.iterdir()] == ["activations.npz"]
    again = activations.read(path, ("cas", "scores"))
    assert (again.videos, again.classes, again.grid) == (saved.videos, saved.classes, saved.grid)
    assert again.snippets.tolist() == [3, 2, 1, 70]
    assert again.durations.tolist() == [0.5, 1.0, np.inf, 9.5]
    for ours, wanted in zip(again.outputs, outputs, strict=True):
        assert set(ours) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(ours[name], value)
            assert ours[name].dtype == value.dtype


def arrays(**changes) -> dict:
    """A minimal file with two videos and no optional arrays."""
    content = {
        "videos": np.array(["a", "b"]),
        "classes": np.array(["Dive", "Jump"]),
        "rows": np.array([2, 3]),
        "cas": np.ones((5, 3)),
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def read(folder, **changes) -> Activations:
    np.savez(folder / "a.npz", **arrays(**changes))
    return activations.read(folder / "a.npz", ("cas",))


def test_minimal_file(tmp_path):
    found = read(tmp_path)
    assert found.snippets.tolist() == [2, 3]
    assert found.grid == TimeGrid()
    assert [output["cas"].shape for output in found.outputs] == [(2, 3), (3, 3)]


NAN = np.ones((5, 3))
NAN[3, 1] = np.nan
WRONG = {
    "no T-CAM": ({"cas": None}, r"no array 'cas', only videos, classes, rows; wanted"),
    "a lost array": (
        {"members": np.array(["cas", "durations"])},
        r"damaged: its array 'durations' is missing; copy it again",
    ),
    "no names": ({"videos": None}, r"no array 'videos', only"),
    "NaN": ({"cas": NAN}, r"cas, video b: not a finite number, row 1 \(counted from 0\)"),
    "rows": (
        {"rows": np.array([2, 4])},
        r"cas: an array of shape \(5, 3\) .*; wanted \(6, n\) floa",
    ),
    "row counts": (
        {"rows": np.array([5])},
        r"rows: 1 values of type int64; wanted 2 whole numbers",
    ),
    "broken rows": ({"rows": np.array([2.5, 2.5])}, r"rows: 2 values of type float64; wanted"),
    "negative rows": (
        {"rows": np.array([6, -1])},
        r"rows: 2 values .*; wanted 2 whole numbers, 0 to",
    ),
    "snippets": ({"snippets": np.array([1])}, r"snippets: 1 values"),
    "durations": (
        {"durations": np.ones(3)},
        r"durations are \(3,\) of type float64; wanted \(2,\)",
    ),
    "negative durations": ({"durations": np.array([1.0, -1.0])}, "durations are .* above 0"),
    "no duration": ({"durations": np.array([np.nan, 1.0])}, "durations are .* above 0"),
    "nothing in a grid": ({"grid": np.array(["a", "b"])}, r"grid is \['a', 'b'\]; wanted"),
    "no snippets": ({"snippets": np.array([2, 0])}, r"snippets, video b: 0 snippets for its rows"),
    "no classes": ({"classes": np.array([], str)}, r"classes: \(0,\) of type <U1; wanted \(n,\) n"),
    "numbers": ({"classes": np.array([1, 2])}, r"classes: \(2,\) of type int64; wanted"),
    "grid": ({"grid": np.array([0, 16])}, r"grid is \[0, 16\]; wanted frames per second"),
    "half a grid": ({"grid": np.array([25])}, r"grid is \[25\]; wanted frames per second"),
    "integers": ({"cas": np.ones((5, 3), int)}, r"cas: an array of .* type int64; wanted"),
    "one axis": ({"cas": np.ones(5)}, r"cas: an array of shape \(5,\)"),
    "twice": ({"videos": np.array(["a", "a"])}, r"videos: 'a' is listed twice"),
}


@pytest.mark.parametrize("what", WRONG)
def test_inconsistent_arrays(tmp_path, what):
    changes, message = WRONG[what]
    with pytest.raises(JaxtalError, match=r"a\.npz.*" + message):
        read(tmp_path, **changes)


def test_other_and_damaged_files(tmp_path):
    with pytest.raises(JaxtalError, match=r"none\.npz: No such file or directory; wanted an \.npz"):
        activations.read(tmp_path / "none.npz", ("cas",))
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for content in (b"", b"x" * 100, whole[:200], whole[:-30], b"PK\x03\x04" + whole[4:40]):
        path.write_bytes(content)
        with pytest.raises(JaxtalError, match=r"a\.npz: not a complete \.npz file"):
            activations.read(path, ("cas",))
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "a.npy").rename(path)
    with pytest.raises(JaxtalError, match=r"a\.npz: a single array; wanted"):
        activations.read(path, ("cas",))


def test_altered_files_are_rejected_or_read(tmp_path):
    """A changed byte anywhere in a compressed file gives a one-line error or no error."""
    rng = np.random.default_rng(0)
    outputs = [{"cas": rng.random((rows, 4)).astype("f4")} for rows in (3, 50)]
    path = tmp_path / "a.npz"
    activations.write(path, Activations(("a", "b"), ("Dive", "Jump", "Run"), outputs,
                                        np.array([3, 50]), TimeGrid(), np.ones(2)))  # fmt: skip
    whole, rejected = path.read_bytes(), 0
    for at in rng.integers(len(whole), size=400):
        path.write_bytes(whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :])
        with contextlib.suppress(JaxtalError):
            activations.read(path, ("cas",))
            rejected -= 1
        rejected += 1
    assert rejected > 100


def test_names_may_be_bytes(tmp_path):
    found = read(tmp_path, videos=np.array([b"a", b"b"]), classes=np.array([b"Dive", b"Jump"]))
    assert (found.videos, found.classes) == (("a", "b"), ("Dive", "Jump"))


def test_an_attention_is_one_column(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(attention=np.ones((5, 2))))
    with pytest.raises(JaxtalError, match=r"attention: an array of shape \(5, 2\); wanted"):
        activations.read(tmp_path / "a.npz", ("cas", "attention"))


def test_no_pickle_is_executed(tmp_path):
    hostile = np.empty(1, object)
    hostile[0] = re.compile("executed")
    with pytest.raises(JaxtalError, match=r"not a complete \.npz file without pickles"):
        read(tmp_path, videos=hostile)
