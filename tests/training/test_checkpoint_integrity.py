"""Damaged checkpoints are detected."""

import json

import pytest

from jaxtal.errors import JaxtalError
from jaxtal.training import best_checkpoint, checkpoint_integrity


@pytest.fixture
def folder(tmp_path):
    """Return complete checkpoints of two steps, and an unfinished one."""
    for name in ("4", "12", "16.orbax-checkpoint-tmp"):
        (tmp_path / name / "state" / "d").mkdir(parents=True)
        (tmp_path / name / "state" / "d" / "data").write_bytes(b"x" * 100)
        (tmp_path / name / "state" / "empty").write_bytes(b"")
        write_metadata(tmp_path / name, None)
    for name in ("4", "12"):
        checkpoint_integrity.write_manifest(tmp_path / name)
        write_metadata(tmp_path / name, 7)
        (tmp_path / name / "commit_success.txt").touch()
    return tmp_path


def write_metadata(folder, time):
    """Write Orbax's metadata, whose time is entered after the manifest was written."""
    content = {"item_handlers": {"state": "x"}, "commit_timestamp_nsecs": time}
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps(content))


def flip(path, position, bit=0):
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_complete(folder):
    assert checkpoint_integrity.checkpoint_steps(folder) == [4, 12]
    assert checkpoint_integrity.latest_complete_step(folder) == 12
    manifest = json.loads((folder / "12" / "sealed.json").read_text())
    sizes = {name: size for name, (size, _) in manifest["files"].items()}
    assert sizes == {"state/d/data": 100, "state/empty": 0}
    assert checkpoint_integrity.find_damage(folder / "12") == ""
    assert best_checkpoint.choose(folder) == 12
    assert best_checkpoint.choose(folder, 4) == 4


@pytest.mark.parametrize("length", [0, 1, 99, 101])
def test_truncated(folder, length):
    (folder / "12" / "state" / "d" / "data").write_bytes(b"x" * length)
    for find in (checkpoint_integrity.find_truncation, checkpoint_integrity.find_damage):
        assert find(folder / "12") == f"state/d/data has {length} of 100 bytes"
    assert checkpoint_integrity.latest_complete_step(folder) == 4


@pytest.mark.parametrize("position", [0, 57, 99])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit(folder, position, bit):
    flip(folder / "12" / "state" / "d" / "data", position, bit)
    assert checkpoint_integrity.find_truncation(folder / "12") == ""
    assert checkpoint_integrity.find_damage(folder / "12") == "state/d/data has changed"


def test_flipped_bits_of_the_manifest_and_the_metadata(folder):
    """Only the name of the checksum and the time of the renaming can change unnoticed."""
    for name, harmless in (("sealed.json", b"sha256"), ("_CHECKPOINT_METADATA", b"7")):
        path = folder / "12" / name
        before = path.read_bytes()
        first = before.rindex(harmless)
        for position in range(len(before)):
            flip(path, position, position % 7)
            if not checkpoint_integrity.find_damage(folder / "12"):
                assert first <= position < first + len(harmless)
            path.write_bytes(before)


def test_a_damaged_newest_checkpoint_is_never_replaced_by_an_older_one(folder):
    flip(folder / "12" / "state" / "d" / "data", 5)
    with pytest.raises(
        JaxtalError,
        match=r"/12: this checkpoint is damaged \(state/d/data has changed\); checkpoint=4 uses ",
    ):
        best_checkpoint.choose(folder)
    assert best_checkpoint.choose(folder, 4) == 4
    flip(folder / "4" / "state" / "d" / "data", 5)
    with pytest.raises(JaxtalError, match=r"is damaged .*; none is good; train again"):
        best_checkpoint.choose(folder, 12)


def test_steps_that_do_not_exist(folder):
    with pytest.raises(JaxtalError, match=r"has no checkpoint=5, only those of the steps 4, 12"):
        best_checkpoint.choose(folder, 5)
    with pytest.raises(JaxtalError, match="has no checkpoint; train first"):
        best_checkpoint.choose(folder / "none")


def test_missing(folder):
    (folder / "12" / "state" / "d" / "data").unlink()
    assert checkpoint_integrity.latest_complete_step(folder) == 4
    (folder / "4" / "state" / "d" / "data").unlink()
    assert checkpoint_integrity.latest_complete_step(folder) is None
    assert checkpoint_integrity.latest_complete_step(folder / "nowhere") is None


@pytest.mark.parametrize(
    "text",
    [
        "", '{"files": {', "[1, 2]", "3", '{"files": {}, "sha256": "0"}', '{"files": {}}',
        '{"files": [1], "metadata": ""}', '{"files": {"x": 5}, "metadata": ""}',
        '{"files": {"x": ["a", "b"]}, "metadata": ""}', '{"files": {}, "metadata": 3}',
    ],
)  # fmt: skip
def test_a_damaged_manifest(folder, text):
    (folder / "12" / "sealed.json").write_text(text)
    for find in (checkpoint_integrity.find_truncation, checkpoint_integrity.find_damage):
        assert find(folder / "12") == "sealed.json is damaged"
    assert checkpoint_integrity.latest_complete_step(folder) == 4


def test_a_manifest_of_an_early_version(folder, caplog):
    """It has sizes only: truncated files are noticed, others not, which is a warning."""
    path = folder / "12" / "sealed.json"
    path.write_text(json.dumps({"state/d/data": 100, "state/empty": 0}))
    assert best_checkpoint.choose(folder) == 12
    assert "12: no checksums, so damage in it would not be noticed" in caplog.text
    path.write_text(json.dumps({"state/d/data": 101}))
    assert checkpoint_integrity.find_damage(folder / "12") == "state/d/data has 100 of 101 bytes"


def test_a_lost_manifest_is_damage(folder):
    """The progress in the checkpoint shows that its version writes manifests."""
    (folder / "12" / "sealed.json").unlink()
    (folder / "12" / "progress").mkdir()
    (folder / "12" / "progress" / "metadata").write_text('{"run": {}}')
    assert checkpoint_integrity.find_damage(folder / "12") == "sealed.json is missing"


def test_names_of_folders_that_are_no_steps(folder):
    for name in ("²", "x", "-3", "1.5"):
        (folder / name).mkdir()
    assert checkpoint_integrity.checkpoint_steps(folder) == [4, 12]


def test_a_checkpoint_without_a_manifest_counts(folder, caplog):
    (folder / "12" / "sealed.json").unlink()
    (folder / "12" / "progress").mkdir()
    assert checkpoint_integrity.latest_complete_step(folder) == 12
    assert best_checkpoint.choose(folder) == 12
    assert "no checksums" in caplog.text


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state"])
def test_a_partly_deleted_checkpoint_does_not_count(folder, name):
    for gone in ("sealed.json", name):
        path = folder / "12" / gone
        path.rename(folder / f"gone {gone}")
    (folder / "12" / "progress").mkdir()
    assert checkpoint_integrity.find_damage(folder / "12") == f"{name} is missing"
    assert checkpoint_integrity.find_damage(folder / "16") == "_CHECKPOINT_METADATA is missing"
    assert checkpoint_integrity.latest_complete_step(folder) == 4
