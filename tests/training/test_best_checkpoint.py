"""The checkpoint that `best` names is that of the best evaluation at its own step."""

import json

import pytest

from jaxtal.errors import CheckpointError
from jaxtal.training.best_checkpoint import best_step


def result(step: int, average: float, at_half: float = 0.0, protocol: str = "official") -> dict:
    return {
        "step": step,
        "protocol": protocol,
        "average": {"0.1:0.5": 0.0, "0.1:0.7": average},
        "map": {"0.5": at_half},
    }


@pytest.fixture
def save(tmp_path):
    """A function that writes the progress of a checkpoint; it has the evaluations of members."""

    def write(step: int, *evaluations, diverged=None) -> None:
        folder = tmp_path / "checkpoints" / str(step) / "progress"
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(
            json.dumps({"evaluation": evaluations, "diverged": diverged})
        )

    write.folder = tmp_path / "checkpoints"
    return write


def test_the_best_of_the_evaluated(save):
    save(4, result(4, 0.2))
    save(8, result(8, 0.3))
    save(9, result(8, 0.3))  # interrupted: its evaluation is that of step 8
    save(12, result(12, 0.1))
    assert best_step(save.folder) == 8


def test_of_equal_checkpoints_the_first(save):
    for step in (4, 8):
        save(step, result(step, 0.0))
    assert best_step(save.folder) == 4


def test_the_mean_of_the_members_that_have_not_diverged(save):
    save(4, result(4, 0.4), result(4, 0.1))
    save(8, result(8, 0.3), result(8, 0.3))
    save(12, result(12, 0.29), result(12, 0.3))
    assert best_step(save.folder) == 8


def test_a_member_that_has_diverged_since_does_not_count(save):
    save(4, result(4, 0.4), result(4, 0.1), diverged=[None, None])
    save(8, result(8, 0.3), None, diverged=[None, 7])
    assert best_step(save.folder) == 4


@pytest.mark.parametrize("evaluations", [3, [3], [{"step": 4, "average": 1}]])
def test_a_progress_of_another_form_is_an_error(save, evaluations):
    save(4)
    path = save.folder / "4" / "progress" / "metadata"
    path.write_text(json.dumps({"evaluation": evaluations}))
    with pytest.raises(CheckpointError, match="the evaluation in a checkpoint is damaged"):
        best_step(save.folder)


def test_d2net_s_protocols_select_by_the_map_at_half(save):
    save(4, result(4, 0.4, 0.1, "thumos_d2"))
    save(8, result(8, 0.3, 0.2, "thumos_d2"))
    assert best_step(save.folder) == 8


def test_without_an_evaluation_none_is_the_best(save):
    save(0)
    save(5, {"step": 5})  # a data set without ground truth
    with pytest.raises(CheckpointError, match="none is the best; give checkpoint=last, or a step"):
        best_step(save.folder)
