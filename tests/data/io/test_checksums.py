"""Checksums of files and of JSON objects."""

import hashlib
import json
import zlib

import pytest

from jaxtal.data.io import checksums, json_files
from jaxtal.errors import DataError

CONTENT = {"b": [1, 2.5, None, True], "a": {"ä": "ü", "z": []}, "n": float("nan")}


def test_files(tmp_path):
    for name, content in (("a", b""), ("b", b"x" * 3_000_000)):
        (tmp_path / name).write_bytes(content)
    found = checksums.of_files(tmp_path, ["b", "a"])
    assert found == {
        "b": hashlib.sha256(b"x" * 3_000_000).hexdigest(),
        "a": hashlib.sha256().hexdigest(),
    }
    assert list(found) == ["b", "a"]
    assert checksums.find_changed(tmp_path, found) == []
    (tmp_path / "b").write_bytes(b"x" * 2_999_999 + b"y")
    (tmp_path / "a").unlink()
    assert checksums.find_changed(tmp_path, found) == ["b has changed", "a is missing"]


def test_blocks_of_files(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    content = bytes(range(256)) * (2**24 // 256) + b"the rest"
    (tmp_path / "b").write_bytes(content)
    found = checksums.crc32_of_files(tmp_path, ["a", "b"])
    blocks = zlib.crc32(content[: 2**24]), zlib.crc32(b"the rest")
    assert found == {"a": "00000000", "b": "-".join(f"{block:08x}" for block in blocks)}
    of = checksums.crc32_of_files
    assert checksums.find_changed(tmp_path, found, of) == []
    (tmp_path / "b").write_bytes(content[:-1] + b"T")
    assert checksums.find_changed(tmp_path, found, of) == ["b has changed"]
    (tmp_path / "b").write_bytes(content + b"more")
    assert checksums.find_changed(tmp_path, found, of) == ["b has changed"]
    with pytest.raises(FileNotFoundError):
        checksums.crc32_of_files(tmp_path, ["c"])


def test_a_list_of_sums_is_that_of_the_usual_program(tmp_path):
    (tmp_path / "a b").write_bytes(b"1")
    sums = checksums.of_files(tmp_path, ["a b"])
    (tmp_path / checksums.LIST).write_text(checksums.to_list(sums))
    assert (tmp_path / checksums.LIST).read_text() == f"{hashlib.sha256(b'1').hexdigest()}  a b\n"
    assert checksums.read_list(tmp_path) == sums


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_files_outside_are_not_read(tmp_path, name):
    with pytest.raises(DataError, match="outside of the folder"):
        checksums.find_changed(tmp_path, {name: ""})


def test_a_sealed_object_is_verified_when_it_is_read(tmp_path):
    path = tmp_path / "file.json"
    json_files.write(path, json_files.to_sealed_text(CONTENT))
    assert list(json.loads(path.read_text()))[-1] == checksums.KEY
    assert json_files.load(path, "a test") == {**CONTENT, "n": None}
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # reformatted
    assert json_files.load(path, "a test") == {**CONTENT, "n": None}
    edited = json.loads(path.read_text())
    edited["b"][0] = 2
    path.write_text(json.dumps(edited))
    with pytest.raises(DataError, match=r'file\.json: damaged or edited: .* delete the entry "sha'):
        json_files.load(path, "a test")
    del edited[checksums.KEY]
    path.write_text(json.dumps(edited))
    assert json_files.load(path, "a test") == edited


def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "file.json"
    json_files.write(path, json_files.to_sealed_text(CONTENT))
    whole, wanted = path.read_bytes(), {**CONTENT, "n": None}
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert json_files.load(path, "a test") == wanted
        except DataError:
            continue
