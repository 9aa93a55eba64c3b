"""The training loop with a toy method: windows, populations, divergence, streaming, profile."""

import itertools
import json
import math
import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from jaxtal.data.io import json_files
from jaxtal.data.layouts import load_from_config
from jaxtal.errors import JaxtalError
from jaxtal.training.dispatch import dispatch_ends, steps_per_dispatch
from jaxtal.training.trainer import train_and_evaluate
from tests.helpers.command import TINY_VIDEOS, snapshot
from tests.methods import toy_config


@pytest.mark.parametrize(
    ("log_every", "eval_every", "steps", "wanted"),
    [(20, 200, 1400, 20), (20, 50, 1400, 10), (500, 200, 1400, 200), (13, 13, 1300, 13),
     (20, 101, 1400, 1), (20, 200, 5, 5), (20, 200, 7, 5), (1, 4, 9, 1)],
)  # fmt: skip
def test_windows_divide_what_lies_between_evaluations(log_every, eval_every, steps, wanted):
    settings = ConfigDict({"log_every": log_every, "eval_every": eval_every, "steps": steps})
    assert steps_per_dispatch(settings) == wanted


def test_windows_end_at_the_same_steps_wherever_a_run_begins():
    whole = list(dispatch_ends(0, 20, 4))
    assert whole == [4, 8, 12, 16, 20]
    for begin in range(20):
        assert list(dispatch_ends(begin, 20, 4)) == [end for end in whole if end > begin]
    assert list(dispatch_ends(0, 6, 4)) == [4, 6]


def config_of(**fields) -> ConfigDict:
    """Return the toy's config on tiny data; fields are overridden as `a__b=value`."""
    config = toy_config.get_config()
    config.data.num_snippets, config.train.batch_size = 16, 5
    config.data.generator = TINY_VIDEOS
    config.train.update(steps=8, log_every=2, eval_every=4)
    config.optimizer.learning_rate = 1e-2
    config.evaluation.plot_videos = 1
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return config


def numbers(result: dict) -> list[float]:
    return jax.tree.leaves([result[key] for key in ("map", "average", "f1", "classification_map")])


def detections(folder) -> list[tuple]:
    results = json.loads((folder / "detections.json").read_text())["results"]
    return [
        (video, found["label"], *found["segment"], found["score"])
        for video in sorted(results) for found in results[video]
    ]  # fmt: skip


def assert_same_detections(first, second) -> None:
    """The same segments, scores to float tolerance."""
    ours, theirs = detections(first), detections(second)
    assert len(ours) == len(theirs) > 0
    assert [row[:4] for row in ours] == [row[:4] for row in theirs]
    np.testing.assert_allclose([row[4] for row in ours], [row[4] for row in theirs], rtol=1e-4)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """Cache compiled functions, since the runs below compile the same few repeatedly."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield


VARY = "optimizer.learning_rate=1e-2,3e-3,1e-3 loss.weights.mil=1,0.5,1"


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population")
    return folder, train_and_evaluate(config_of(population=3, vary=VARY, seed=1), folder)


@pytest.mark.parametrize("member", [0, 2])
def test_a_member_equals_the_single_run(population, tmp_path, member):
    folder, result = population
    rate, weight = ((1e-2, 1), (3e-3, 0.5), (1e-3, 1))[member]
    alone = config_of(
        seed=1 + member, optimizer__learning_rate=rate, loss__weights__mil=float(weight)
    )
    single = train_and_evaluate(alone, tmp_path)
    mine = result["members"][member]
    assert mine["seed"] == single["seed"] == 1 + member
    assert mine["values"] == {
        "optimizer.learning_rate": rate, "loss.weights.mil": weight
    }  # fmt: skip
    assert_same_detections(folder / "members" / str(member), tmp_path)
    np.testing.assert_allclose(numbers(mine), numbers(single), rtol=1e-6)
    assert mine["best_on_test"]["step"] == single["best_on_test"]["step"]


def test_files_of_a_population(population):
    folder, result = population
    assert json.loads((folder / "result.json").read_text())["population"] == 3
    values = [member["average"]["0.1:0.7"] for member in result["members"]]
    assert result["mean"]["average"]["0.1:0.7"] == pytest.approx(np.mean(values))
    assert result["sd"]["average"]["0.1:0.7"] == pytest.approx(np.std(values, ddof=1))
    low, high = result["interval_95"]["average"]["0.1:0.7"]
    assert low < np.mean(values) < high
    assert [group["members"] for group in result["groups"]] == [1, 1, 1]
    assert {path.name for path in (folder / "members").iterdir()} == {"0", "1", "2"}
    assert not (folder / "detections.json").exists()
    assert (folder / "plots" / "training.png").stat().st_size > 10_000
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [2, 4, 6, 8]
    assert all(len(line["members"]["loss"]) == 3 for line in losses)
    assert losses[0]["loss"] == pytest.approx(np.mean(losses[0]["members"]["loss"]), abs=1e-5)
    evaluations = [line for line in lines if "map" in line]
    assert [len(line["members"]["0.1:0.7"]) for line in evaluations] == [3, 3]


def test_an_ensemble_averages_the_outputs_of_its_members(tmp_path):
    """Its members differ in the seed only and have not diverged."""
    config = config_of(population=3, evaluation__save_activations=True)
    result = train_and_evaluate(config, tmp_path)
    assert result["ensemble"]["members"] == 3
    assert set(result["ensemble"]["average"]) == set(result["mean"]["average"])
    folders = [tmp_path / "members" / member for member in "012"]
    members = [np.load(folder / "activations.npz") for folder in folders]
    together = np.load(tmp_path / "ensemble" / "activations.npz")
    assert together.files == members[0].files
    cas = [name for name in together.files if name.endswith("cas")]
    assert cas
    for name in cas:
        mean = np.mean([member[name] for member in members], axis=0)
        np.testing.assert_allclose(together[name], mean, rtol=1e-5, atol=1e-6)
    assert detections(tmp_path / "ensemble") not in map(detections, folders)


def test_only_members_that_differ_in_the_seed_alone_are_an_ensemble(population):
    folder, result = population
    assert not any("ensemble" in group for group in (result, *result["groups"]))
    assert not (folder / "ensemble").exists()


def test_a_population_resumes_bit_for_bit(population, tmp_path):
    folder, _ = population
    for steps in (3, 8):
        train_and_evaluate(config_of(population=3, vary=VARY, seed=1, train__steps=steps), tmp_path)
    for member in "012":
        parts, whole = (at / "members" / member / "detections.json" for at in (tmp_path, folder))
        assert parts.read_bytes() == whole.read_bytes()


def test_a_diverged_member_is_reported_and_does_not_affect_others(population, tmp_path, caplog):
    caplog.set_level("INFO", "jaxtal")
    vary = VARY.replace("1e-2,3e-3", "1e-2,1e38")
    config = config_of(population=3, vary=vary, seed=1, train__steps=16)
    result = train_and_evaluate(config, tmp_path)
    assert result["diverged"] == [1]
    lost = result["members"][1]
    assert lost["diverged"] == 4  # its outputs were not finite
    assert lost["skipped_updates"] >= 10
    assert "map" not in lost
    assert "member 1 (seed 2) diverged before step" in caplog.text
    assert not (tmp_path / "members" / "1").exists()
    calm = tmp_path / "calm"
    train_and_evaluate(config_of(population=3, vary=VARY, seed=1, train__steps=16), calm)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "loss" in line][-1]
    kept = [last["members"]["loss"][member] for member in (0, 2)]
    assert last["loss"] == pytest.approx(np.mean(kept), abs=1e-5)
    before = json_files.load(tmp_path / "result.json", "a result")
    train_and_evaluate(config, tmp_path, "eval")  # the mark is in the checkpoint
    evaluated = tmp_path / "evaluations" / "step=16"
    after = json_files.load(evaluated / "result.json", "a result")
    del before["metrics_lines"]
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    for member in "02":
        assert_same_detections(tmp_path / "members" / member, calm / "members" / member)
    kept = [result["members"][i]["average"]["0.1:0.7"] for i in (0, 2)]
    assert result["mean"]["average"]["0.1:0.7"] == pytest.approx(np.mean(kept))


@pytest.mark.parametrize("members", [1, 2])
def test_a_run_without_a_remaining_member_stops(tmp_path, members):
    config = config_of(
        population=members, optimizer__learning_rate=1e38, train__steps=40, train__eval_every=40
    )
    with pytest.raises(
        JaxtalError, match=r"diverged: \d\d consecutive updates up to step \d\d were not .*mil"
    ):
        train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_run_in_parts_of_any_length_ends_the_same(single, tmp_path):
    """A single step is another compiled function: a loop with one iteration."""
    for steps in (1, 2, 5, 7):
        train_and_evaluate(config_of(train__steps=steps), tmp_path)
    parts, whole = (at / "detections.json" for at in (tmp_path, single))
    assert parts.read_bytes() == whole.read_bytes()


def test_evaluating_changes_no_file_of_training(single):
    before = snapshot(single)
    for _ in range(2):
        train_and_evaluate(config_of(train__steps=7), single, "eval")
    folder = single / "evaluations" / "step=7"
    assert (folder / "detections.json").read_bytes() == (single / "detections.json").read_bytes()
    shutil.rmtree(single / "evaluations")
    after = snapshot(single)
    assert {**after, str(single): 0} == {**before, str(single): 0}  # except the folder's own time


def test_evaluating_an_older_step(tmp_path):
    config = config_of(train__steps=8, train__eval_every=4)
    train_and_evaluate(config, tmp_path)
    result = train_and_evaluate(config, tmp_path, "eval", checkpoint=4)
    assert result["step"] == 4
    assert json_files.load(tmp_path / "result.json", "a result")["step"] == 8
    assert (tmp_path / "evaluations" / "step=4" / "result.json").is_file()
    with pytest.raises(JaxtalError, match=r"has no checkpoint=5, only those of the steps 4, 8"):
        train_and_evaluate(config, tmp_path, "eval", checkpoint=5)


def test_a_work_directory_of_an_earlier_version_resumes(single, tmp_path):
    """Its config.json lacks fields that were added later, and there is no model.json."""
    shutil.copytree(single, tmp_path / "run")
    before = json_files.load(tmp_path / "run" / "config.json", "a config")
    for name in ("layout", "fps", "stride", "window", "skip_damaged"):
        del before["data"][name]
    (tmp_path / "run" / "config.json").write_text(json.dumps(before))
    (tmp_path / "run" / "model.json").unlink()
    train_and_evaluate(config_of(train__steps=7), tmp_path / "run", "eval")
    assert (tmp_path / "run" / "model.json").exists()
    parts, whole = (tmp_path / "run" / "evaluations" / "step=7", single)
    parts, whole = (at / "detections.json" for at in (parts, whole))
    assert parts.read_bytes() == whole.read_bytes()


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    train_and_evaluate(config_of(train__steps=7), folder)
    return folder


def test_streamed_features_give_the_same_run(single, tmp_path, caplog):
    """Also in two parts, and with a population, whose members sample independently."""
    caplog.set_level("INFO", "jaxtal")
    for steps in (2, 7):
        config = config_of(data__device_share=0.0, train__steps=steps)
        train_and_evaluate(config, tmp_path / "parts")
    assert caplog.text.count("streamed by the host") == 4
    assert_same_detections(tmp_path / "parts", single)
    train_and_evaluate(config, tmp_path / "whole")
    parts, whole = (tmp_path / name / "detections.json" for name in ("parts", "whole"))
    assert parts.read_bytes() == whole.read_bytes()
    lines = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "parts", single)
    ]
    losses = [[(x["step"], x["loss"]) for x in log if "loss" in x] for log in lines]
    assert [step for step, _ in losses[0]] == [2, 4, 6, 7]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    config = config_of(data__device_share=0.0, train__steps=7, population=2)
    train_and_evaluate(config, tmp_path / "two")
    assert_same_detections(tmp_path / "two" / "members" / "0", single)


@pytest.mark.parametrize("fields", [
    {"mesh__features": "sharded"}, {"data__device_share": 0.0}
])  # fmt: skip
def test_features_of_several_devices(tmp_path, fields):
    """Two members on two devices each that divide their batches; then resumed on one device."""
    config = config_of(train__steps=4, population=2, train__batch_size=6)
    train_and_evaluate(config_on(config, 1, 1), tmp_path / "one")
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    train_and_evaluate(config_on(config, 2, 2), tmp_path / "four")
    for member in ("0", "1"):
        parts = (tmp_path / name / "members" / member for name in ("four", "one"))
        assert_same_detections(*parts)
    config.train.steps = 8
    result = train_and_evaluate(config_on(config, 1, 1), tmp_path / "four")
    assert (result["step"], result["population"]) == (8, 2)


def config_on(config, member: int, data: int):
    config.mesh.update(member=member, data=data)
    return config


def test_bfloat16_trains(single, tmp_path):
    result = train_and_evaluate(config_of(train__steps=7, precision="bfloat16"), tmp_path)
    assert result["skipped_updates"] == 0
    scores, exact = (np.sort([row[4] for row in detections(at)])[-5:] for at in (tmp_path, single))
    assert (scores != exact).any()
    np.testing.assert_allclose(scores, exact, rtol=0.05)


def test_a_profile_is_written_on_request(single, tmp_path):
    train_and_evaluate(config_of(train__steps=7, profile=True), tmp_path)
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    names = [event.name for plane in planes for line in plane.lines for event in line.events]
    assert names.count("window") == 1
    assert not (single / "profile").exists()
    assert_same_detections(tmp_path, single)


def test_a_run_traces_one_training_program(tmp_path, monkeypatch):
    """For full and shortened windows and all members; values are arguments."""
    from jaxtal.training import train_step

    traces = itertools.count()
    original = train_step.train_steps

    def counted(*arguments, **options):
        next(traces)
        return original(*arguments, **options)

    monkeypatch.setattr(train_step, "train_steps", counted)
    train_and_evaluate(
        config_of(train__steps=7, population=2, vary="loss.weights.mil=1,0"), tmp_path
    )
    assert next(traces) == 1


def test_a_length_in_epochs(tmp_path):
    """Count the videos that are long enough; the saved steps follow, and more epochs continue."""
    config = config_of(train__epochs=2)
    videos = load_from_config(config.data).train
    lengths = sorted(len(video.features) for video in videos)
    config.data.min_snippets = lengths[2] + 1
    long = sum(length > lengths[2] for length in lengths)
    wanted = 2 * math.ceil(long / config.train.batch_size)
    assert train_and_evaluate(config, tmp_path)["step"] == wanted
    assert config.train.steps == 8  # the caller's config is not changed
    saved = json.loads((tmp_path / "config.json").read_text())["train"]
    assert (saved["epochs"], saved["steps"]) == (2, wanted)
    assert train_and_evaluate(config, tmp_path, mode="eval")["step"] == wanted
    config.train.epochs = 3
    assert train_and_evaluate(config, tmp_path)["step"] == wanted // 2 * 3
    config.train.epochs = 1
    with pytest.raises(JaxtalError, match=r"already at step .*, beyond config\.train\.steps="):
        train_and_evaluate(config, tmp_path)
