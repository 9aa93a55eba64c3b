"""A grid search: every combination has the numbers of an evaluation of its own."""

import dataclasses
import math

import numpy as np
import pytest

from jaxtal.data.io import json_files
from jaxtal.data.layouts import load_from_config
from jaxtal.errors import ConfigError, DataError
from jaxtal.training.search import NAME, as_population, parse_grid, search
from jaxtal.training.trainer import train_and_evaluate
from tests.methods import toy_config
from tests.training.test_trainer import config_of

GRID = {
    "optimizer.learning_rate": ["1e-2", "1e-3"],
    "localization.class_threshold": ["0.1", "0.5"],
    "localization.nms": ["hard", "gaussian"],
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    return folder, search(config_of(), folder, GRID, seeds=2)


def test_every_combination_is_there_once_and_the_best_first(searched):
    folder, found = searched
    values = [tuple(row["values"].values()) for row in found["rows"]]
    assert len(set(values)) == len(values) == 8
    assert set(values) == {
        (a, b, c) for a in GRID["optimizer.learning_rate"]
        for b in GRID["localization.class_threshold"] for c in GRID["localization.nms"]
    }  # fmt: skip
    means = [row["mean"] for row in found["rows"]]
    assert means == sorted(means, reverse=True)
    for row in found["rows"]:
        assert row["mean"] == pytest.approx(np.mean(row["by_seed"]))
        assert row["sd"] == pytest.approx(np.std(row["by_seed"], ddof=1))
    assert (found["judged_by"], found["metric"], found["step"]) == ("test", "0.1:0.7", 8)
    assert json_files.load(folder / NAME, "a search") == found


def test_a_row_is_a_run_of_its_own(searched, tmp_path):
    """Trained alone with the row's learning rate and seed, localized with its other fields."""
    _, found = searched
    config = config_of(optimizer__learning_rate=1e-3, seed=1)
    config.localization.update(class_threshold=0.5, nms="hard")
    alone = train_and_evaluate(config, tmp_path)
    wanted = {**dict.fromkeys(GRID), **{
        "optimizer.learning_rate": "1e-3", "localization.class_threshold": "0.5",
        "localization.nms": "hard",
    }}  # fmt: skip
    (row,) = (row for row in found["rows"] if row["values"] == wanted)
    assert row["by_seed"][1] == pytest.approx(alone["average"]["0.1:0.7"], rel=1e-4)


def test_a_finished_search_trains_nothing_again(searched):
    folder, found = searched
    before = (folder / "metrics.jsonl").read_bytes()
    other = {**GRID, "localization.nms": ["hard", "none"]}
    again = search(config_of(), folder, other, seeds=2)
    assert (folder / "metrics.jsonl").read_bytes() == before
    hard = [row for row in found["rows"] if row["values"]["localization.nms"] == "hard"]
    assert [row for row in again["rows"] if row["values"]["localization.nms"] == "hard"] == hard


def test_validation_videos_are_the_judge(tmp_path):
    config = config_of()
    dataset = load_from_config(config.data)
    dataset = dataset.with_parts({"validation": dataset.test[:3], "test": dataset.test[3:]})
    grid = {"localization.class_threshold": ["0.1", "0.3"]}
    found = search(config, tmp_path, grid, dataset=dataset)
    assert found["judged_by"] == "validation"
    assert all(math.isnan(row["sd"]) for row in found["rows"])


def test_without_ground_truth_nothing_is_trained(tmp_path):
    config = config_of()
    dataset = load_from_config(config.data)
    bare = [
        dataclasses.replace(video, segments=video.segments[:0], segment_labels=video.labels[:0])
        for video in dataset.test
    ]
    dataset = dataset.with_parts({"test": bare})
    with pytest.raises(DataError, match="no ground truth, so nothing can be compared"):
        search(config, tmp_path, {"localization.sigma": ["0.1"]}, dataset=dataset)
    assert not (tmp_path / "checkpoints").exists() or not [*(tmp_path / "checkpoints").iterdir()]


def test_the_population_has_every_combination_with_every_seed():
    trained = {"loss.weights.mil": ["1", "0.5"], "optimizer.learning_rate": ["1e-3", "1e-4"]}
    whole = as_population(config_of(seed=7), trained, seeds=3)
    assert whole.population == 12
    columns = dict(entry.split("=") for entry in whole.vary.split())
    assert columns["seed"] == ",".join(["7,8,9"] * 4)
    assert columns["loss.weights.mil"] == ",".join(["1"] * 6 + ["0.5"] * 6)
    assert columns["optimizer.learning_rate"] == ",".join((["1e-3"] * 3 + ["1e-4"] * 3) * 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no fields"),
        ("localization.sigma", "is not FIELD=VALUE,VALUE"),
        ("localization.sigma=0.1,", "is not FIELD=VALUE,VALUE"),
        ("localization.sigma=1 localization.sigma=2", "the field is given twice"),
        ("localization.sigmas=1,2", "sigma"),
        ("localization.thresholds=(0,1,3)", "is a tuple, which cannot be searched"),
    ],
)
def test_malformed_grids(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_grid(text, toy_config.get_config())


@pytest.mark.parametrize(
    ("grid", "fields", "message"),
    [
        ({"train.batch_size": ["4", "5"]}, {}, "members cannot differ in 'train.batch_size'"),
        ({"localization.nms": ["hard", "soft"]}, {}, "localization.nms is 'soft'"),
        ({"seed": ["1", "2"]}, {}, "the seed is no field of a grid"),
        ({"localization.sigma": ["0.1", "x"]}, {}, "localization.sigma"),
        ({"optimizer.learning_rate": ["1e-3"]}, {"population": 2}, "makes its own population"),
    ],
)
def test_what_cannot_be_searched_is_an_error_before_training(tmp_path, grid, fields, message):
    with pytest.raises(ConfigError, match=message):
        search(config_of(**fields), tmp_path / "run", grid)
    assert not (tmp_path / "run").exists()
