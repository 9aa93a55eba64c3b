"""Archives with overlapping members are rejected on every version of Python."""

import io
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest

from jaxtal.data import activations
from jaxtal.data.io import torch_files
from jaxtal.data.io.zip_files import check_disjoint
from jaxtal.errors import JaxtalError

NAMES = ("a", "b", "c")


def zipped(method: int = zipfile.ZIP_STORED, head: bytes = b"") -> bytes:
    """Return an archive of three members of 100 bytes each, preceded by `head`."""
    file = io.BytesIO(head)
    file.seek(len(head))
    with zipfile.ZipFile(file, "a", method) as archive:
        for name in NAMES:
            archive.writestr(name, 10 * f"{name}123456789")
    return file.getvalue()


def entries(content: bytes) -> list[int]:
    """Return the positions of the entries in the central directory."""
    return [at for at in range(len(content) - 46) if content.startswith(b"PK\x01\x02", at)]


def with_number(content: bytes, entry: int, offset: int, value: int) -> bytes:
    """Return the archive with a changed number in its central directory.

    Offset 20 is the compressed size, offset 42 the position of the member.
    """
    changed = bytearray(content)
    struct.pack_into("<I", changed, entries(content)[entry] + offset, value)
    return bytes(changed)


def start(content: bytes, entry: int) -> int:
    return struct.unpack_from("<I", content, entries(content)[entry] + 42)[0]


def check(content: bytes) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                check_disjoint(archive)
        finally:
            assert not warned


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("head", [b"", b"#!/bin/sh\n"])
def test_disjoint_members_are_accepted(method, head):
    check(zipped(method, head))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    check(empty.getvalue())


@pytest.mark.parametrize(
    ("entry", "begins_as"), [(1, 0), (2, 1), (0, 1), (0, 2)], ids=lambda value: str(value)
)
def test_two_members_at_one_position_are_rejected(entry, begins_as):
    good = zipped()
    with pytest.raises(ValueError, match="members that overlap"):
        check(with_number(good, entry, 42, start(good, begins_as)))


@pytest.mark.parametrize("entry", [0, 1, 2])
def test_a_member_that_overlaps_the_next_is_rejected(entry):
    """The last one overlaps the central directory."""
    good = zipped()
    check(with_number(good, entry, 20, 100))
    with pytest.raises(ValueError, match="members that overlap"):
        check(with_number(good, entry, 20, 101))


def test_a_long_header_of_a_member_counts():
    """The first member's local header is longer than its entry in the central directory."""
    good = zipped()
    longer = good[:28] + struct.pack("<H", 8) + good[30:]
    with pytest.raises(ValueError, match="members that overlap"):
        check(longer)


def test_a_quoted_member_is_rejected():
    """Zip bomb: a member contains the next one's header, and shares the data after it."""
    kernel = bytes(1000)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b", kernel)
    quoted = inner.getvalue()[: 30 + 1 + len(kernel)]
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("a", quoted)
        info = zipfile.ZipInfo("b")
        info.header_offset, info.CRC = 31, archive.getinfo("a").CRC
        info.compress_size = info.file_size = len(kernel)
        archive.filelist.append(info)
    with pytest.raises(ValueError, match="members that overlap"):
        check(outer.getvalue())


@pytest.mark.parametrize("at", [5, 10**6])
def test_a_member_without_a_header_is_rejected(at):
    with pytest.raises(ValueError, match="a member without a header"):
        check(with_number(zipped(), 0, 42, at))


def test_saved_activations_that_overlap_are_rejected(tmp_path):
    path = tmp_path / "a.npz"
    rows = np.array([2, 3])
    np.savez(path, videos=np.array(["a", "b"]), classes=np.array(["x"]), rows=rows, extra=rows)
    content = path.read_bytes()
    path.write_bytes(with_number(content, 3, 42, start(content, 2)))
    with pytest.raises(JaxtalError, match=r"a\.npz: not a complete .*members that overlap: each"):
        activations.read(path, ())


def test_checkpoints_that_overlap_are_rejected(tmp_path):
    path = tmp_path / "a.pkl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("any/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("any/data/0", bytes(24))
        archive.writestr("any/data/1", bytes(24))
    content = path.read_bytes()
    path.write_bytes(with_number(content, 2, 42, start(content, 1)))
    with pytest.raises(
        JaxtalError, match=r"a\.pkl: rejected, because .* members that overlap: each"
    ):
        torch_files.load(path)
