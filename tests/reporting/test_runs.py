"""Names and groups of runs."""

import dataclasses

import pytest

from jaxtal.errors import JaxtalError
from jaxtal.reporting import runs
from tests.helpers.drawn_runs import drawn_runs


def test_names_are_as_long_as_necessary(tmp_path):
    paths = [tmp_path / name for name in ("a/run", "b/run", "c/a/run", "other")]
    assert runs.names(paths) == [f"{tmp_path.name}/a/run", "b/run", "c/a/run", "other"]
    assert runs.names([tmp_path / "a" / ".." / "run"]) == ["run"]
    assert runs.names([tmp_path / "a\nb"]) == ["a b"]
    judged = tmp_path / "run" / "evaluations" / "step=2"
    assert runs.names([judged, tmp_path / "other"]) == ["run/evaluations/step=2", "other"]


def test_a_folder_may_be_given_once(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for again in ("run", "run/../run", "link"):
        with pytest.raises(JaxtalError, match=r"workdir=.* is given twice"):
            runs.names([tmp_path / "run", tmp_path / again])


def test_a_group_has_one_ground_truth():
    first, second, third, fourth = drawn_runs(2, 4)
    other = dataclasses.replace(
        first.truth, test=tuple(dataclasses.replace(v, duration=1e4) for v in first.truth.test)
    )
    trained = dataclasses.replace(third.truth, train=third.truth.test)
    second = dataclasses.replace(second, truth=other)
    third = dataclasses.replace(third, truth=trained)
    fourth = dataclasses.replace(fourth, truth=None, models=[])
    made = runs.groups([first, second, third, fourth])
    assert [(group.title, group.runs) for group in made] == [
        ("Drawn", [first, third]),
        ("Drawn (2)", [second]),
        ("Drawn, annotations not saved", [fourth]),
    ]
    assert made[0].models == [*first.models, *third.models]
