"""Truncated checkpoints are detected."""

import json

import pytest

from jaxtal.training import checkpoint_integrity


@pytest.fixture
def folder(tmp_path):
    """Return complete checkpoints of two steps, and an unfinished one."""
    for name in ("4", "12", "16.orbax-checkpoint-tmp"):
        (tmp_path / name / "state" / "d").mkdir(parents=True)
        (tmp_path / name / "state" / "d" / "data").write_bytes(b"x" * 100)
        (tmp_path / name / "state" / "empty").write_bytes(b"")
        (tmp_path / name / "_CHECKPOINT_METADATA").write_text("{}")
    for name in ("4", "12"):
        checkpoint_integrity.write_manifest(tmp_path / name)
    return tmp_path


def test_complete(folder):
    assert checkpoint_integrity.checkpoint_steps(folder) == [4, 12]
    assert checkpoint_integrity.latest_complete_step(folder) == 12
    assert json.loads((folder / "12" / "sealed.json").read_text()) == {
        "state/d/data": 100, "state/empty": 0
    }  # fmt: skip
    (folder / "12" / "_CHECKPOINT_METADATA").write_text("{written again}")
    assert checkpoint_integrity.find_corruption(folder / "12") == ""


@pytest.mark.parametrize("length", [0, 1, 99, 101])
def test_truncated(folder, length):
    (folder / "12" / "state" / "d" / "data").write_bytes(b"x" * length)
    assert (
        checkpoint_integrity.find_corruption(folder / "12")
        == f"state/d/data has {length} of 100 bytes"
    )
    assert checkpoint_integrity.latest_complete_step(folder) == 4


def test_missing(folder):
    (folder / "12" / "state" / "d" / "data").unlink()
    assert checkpoint_integrity.latest_complete_step(folder) == 4
    (folder / "4" / "state" / "d" / "data").unlink()
    assert checkpoint_integrity.latest_complete_step(folder) is None
    assert checkpoint_integrity.latest_complete_step(folder / "nowhere") is None


@pytest.mark.parametrize("text", ["", '{"state/d/data": 100', "[1, 2]", "3"])
def test_a_truncated_manifest(folder, text):
    (folder / "12" / "sealed.json").write_text(text)
    assert checkpoint_integrity.find_corruption(folder / "12") == "sealed.json is truncated"
    assert checkpoint_integrity.latest_complete_step(folder) == 4


def test_a_checkpoint_without_a_manifest_counts(folder):
    (folder / "12" / "sealed.json").unlink()
    (folder / "12" / "progress").mkdir()
    assert checkpoint_integrity.latest_complete_step(folder) == 12


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state"])
def test_a_partly_deleted_checkpoint_does_not_count(folder, name):
    for gone in ("sealed.json", name):
        path = folder / "12" / gone
        path.rename(folder / f"gone {gone}")
    (folder / "12" / "progress").mkdir()
    assert checkpoint_integrity.find_corruption(folder / "12") == f"{name} is missing"
    assert checkpoint_integrity.find_corruption(folder / "16") == "_CHECKPOINT_METADATA is missing"
    assert checkpoint_integrity.latest_complete_step(folder) == 4
