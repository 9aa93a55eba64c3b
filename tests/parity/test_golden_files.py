"""The golden files are those of the list of checksums, documented, and execute nothing."""

import hashlib
import pickletools

import numpy as np
import pytest

from jaxtal.data.io import object_arrays
from tests.conftest import GOLDEN

SUMS = {
    name: digest
    for digest, name in (
        line.split("  ") for line in (GOLDEN / "SHA256SUMS").read_text().splitlines()
    )
}
PICKLED = ("labels.npy", "labels_all.npy", "segments.npy")
# The names in NumPy's own pickles of object arrays; jaxtal's reader resolves none of them.
HARMLESS = {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_every_file_has_a_checksum():
    files = {
        path.relative_to(GOLDEN).as_posix()
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.parent != GOLDEN
    }
    assert files == set(SUMS)


@pytest.mark.parametrize("name", SUMS)
def test_checksums(name):
    assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == SUMS[name]


@pytest.mark.parametrize("name", SUMS)
def test_every_file_is_documented(name):
    assert name.rpartition("/")[2] in (GOLDEN / "README.md").read_text()


@pytest.mark.parametrize("name", [name for name in SUMS if name.endswith(".npz")])
def test_archives_hold_no_pickles(name):
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        assert all(file[key].dtype.kind in "biufU" for key in file.files)


def test_pickles_name_nothing_but_arrays():
    """The W-TALC layout has pickles of object arrays: NumPy's names, and the restricted reader."""
    pickled = []
    for path in sorted(GOLDEN.rglob("*.npy")):
        assert object_arrays.load(path).size
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
            if not dtype.hasobject:
                continue
            pickled.append(path.name)
            codes = [(code.name, value) for code, value, _ in pickletools.genops(file.read())]
        named = {value for code, value in codes if code in ("GLOBAL", "INST")}
        assert named <= HARMLESS
        assert not {code for code, _ in codes} & {"STACK_GLOBAL", "PERSID", "BINPERSID", "EXT1"}
    assert pickled == sorted(PICKLED)
