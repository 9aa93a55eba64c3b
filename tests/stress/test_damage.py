"""Damaged files are refused, set aside, or have no effect on anything that the program reads.

CI flips 100 bits and truncates 100 files; `-m slow` flips 2,000 bits and truncates 500 files.
"""

import numpy as np
import pytest

from tests.stress.damage import artifacts, campaign, readers
from tests.stress.damage.__main__ import kind_of, main
from tests.stress.damage.campaign import FAILED, Campaign


@pytest.fixture(scope="module")
def damaging(tmp_path_factory) -> Campaign:
    folder = tmp_path_factory.mktemp("damage")
    artifacts.make(folder / "whole")
    return Campaign(folder / "whole", folder / "copy")


@pytest.mark.parametrize("how", ["flip", "truncate"])
def test_damage_is_never_silent(damaging, how):
    outcomes = [*damaging.run(how, range(100), seed=7)]
    failed = [outcome for outcome in outcomes if outcome.ended in FAILED]
    assert not failed, "\n".join(
        f"{one.file}, {one.reader}: {one.ended} {one.message}" for one in failed
    )
    assert sum(outcome.ended == "refused" for outcome in outcomes) >= 50


def test_every_kind_of_file_is_read_back(damaging):
    """Except those that are only looked at."""
    unread = {"plots/training.png", "plots/videos.png", "commit_success.txt"}
    kinds = {kind_of(name) for name in damaging.files}
    assert len(kinds) > 40
    for name in damaging.files:
        assert set(readers.readers_of(name)) <= readers.READERS.keys()
    assert {name for name in kinds if name.endswith(".png")} <= {
        f"run/{folder}{name}" for folder in ("", "evaluations/step=N/") for name in unread
    }


@pytest.mark.parametrize(("how", "size"), [("flip", 40), ("truncate", None)])
def test_a_damage_changes_one_bit_or_the_length(tmp_path, how, size):
    path = tmp_path / "file"
    for seed in range(20):
        path.write_bytes(bytes(40))
        campaign.damage(path, how, np.random.default_rng(seed))
        content = path.read_bytes()
        assert len(content) == size or (size is None and len(content) < 40)
        assert sum(byte.bit_count() for byte in content) == (how == "flip")


def test_silent_changes_are_noticed(damaging, monkeypatch):
    """A reader without any check fails the campaign."""
    reader = lambda folder: readers.digest((folder / "predicted.json").read_bytes())  # noqa: E731
    monkeypatch.setitem(readers.READERS, "predictions", reader)
    monkeypatch.setattr(damaging, "files", ["predicted.json"])
    monkeypatch.setattr(damaging, "_wanted", {})
    assert {outcome.ended for outcome in damaging.run("flip", range(3), seed=0)} == {"silent"}
    monkeypatch.setitem(readers.READERS, "predictions", lambda folder: {}[str(folder)])
    monkeypatch.setattr(damaging, "_wanted", {"predictions": ""})
    assert {outcome.ended for outcome in damaging.run("flip", range(3), seed=0)} == {"traceback"}


@pytest.mark.slow
def test_the_campaign():
    assert main([]) == 0
