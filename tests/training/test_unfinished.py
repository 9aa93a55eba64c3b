"""Unfinished checkpoints are removed, complete ones and foreign files are not."""

import os

import pytest

from jaxtal.training.unfinished import remove_unfinished
from jaxtal.training.workdir import Workdir


@pytest.mark.parametrize("writes", [True, False])
def test_only_unfinished_checkpoints_are_removed(tmp_path, writes):
    for name in ("20", "40.orbax-checkpoint-tmp", "60.orbax-checkpoint-tmp-17", "mine"):
        (tmp_path / "checkpoints" / name / "state").mkdir(parents=True)
    remove_unfinished(Workdir(tmp_path, writes))
    kept = {"20", "mine"} if writes else set(os.listdir(tmp_path / "checkpoints"))
    assert set(os.listdir(tmp_path / "checkpoints")) == kept
    assert len(kept) == (2 if writes else 4)


def test_a_run_without_checkpoints(tmp_path):
    remove_unfinished(Workdir(tmp_path))
    assert os.listdir(tmp_path) == []
