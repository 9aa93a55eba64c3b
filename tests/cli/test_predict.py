"""Predictions equal the evaluation's for all batches; features are read batch by batch."""

import dataclasses
import functools
import gc
import json
import shutil
import tracemalloc
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxtal.data import layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io import feature_files
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.errors import JaxtalError, NonFiniteError
from jaxtal.inference import exported, restore
from jaxtal.inference.batch_predict import predict
from jaxtal.training import train_step, trainer
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.model_description import ModelDescription
from jaxtal.training.train_step import init_state
from jaxtal.training.workdir import Workdir
from tests.data.layouts.test_wtalc import objects
from tests.data.layouts.test_wtalc import write as write_wtalc
from tests.helpers.command import run_program, snapshot
from tests.helpers.localizing import settings as localization_config
from tests.helpers.trained import WIDTH, rows_of, scores_of, stored, tiny, toy_predictor, write


@pytest.fixture(autouse=True)
def _info(caplog):
    caplog.set_level("INFO", "jaxtal")


CONFIGS = {
    "co2net": tiny("co2net", precision="bfloat16"),
    "d2net": tiny("d2net", population=2, data__min_snippets=85),
    "twostream": tiny("twostream", data__test_snippets=60),
}
SCALE = {"co2net": 3, "d2net": 50, "twostream": 10}
MEMBER = {"co2net": None, "d2net": 1, "twostream": None}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Function: method -> work directory, features of the test videos, the run's detections."""

    @functools.cache
    def of(name: str) -> tuple[Path, Path, dict]:
        folder, config = tmp_path_factory.mktemp(name), CONFIGS[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_step, "init_state", functools.partial(far_from_zero, SCALE[name]))
            trainer.train_and_evaluate(config, folder / "run")
        (folder / "features").mkdir()
        for video in layouts.load_from_config(config.data).test:
            np.save(folder / "features" / f"{video.name}.npy", video.features)
        mine = "." if MEMBER[name] is None else f"members/{MEMBER[name]}"
        written = folder / "run" / mine / "detections.json"
        return folder / "run", folder / "features", json.loads(written.read_text())["results"]

    return of


def far_from_zero(scale: float, *arguments, **options):
    """Return an initial state whose activations vary over time, as trained ones do."""
    state = init_state(*arguments, **options)
    return state._replace(params=jax.tree.map(lambda leaf: scale * leaf, state.params))


def predicted(predictor, features: Path, output: Path, *arguments, **options) -> dict:
    predict(predictor, features, output, *arguments, **options)
    return json.loads(output.read_text())["results"]


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_to_the_evaluation_of_the_run(trained, name, tmp_path, caplog):
    """The model is read from the work directory, which is not changed, or from an export."""
    run, features, wanted = trained(name)
    before = snapshot(run)
    predictor = restore.load_work_directory(run, MEMBER[name])
    exported.export_model(tmp_path / "model", predictor)
    for which in (predictor, exported.load_exported(tmp_path / "model")):
        found = predicted(which, features, tmp_path / "found.json")
        assert rows_of(found) == rows_of(wanted)
        assert len(scores_of(found)) > 100
        np.testing.assert_allclose(scores_of(found), scores_of(wanted), rtol=0, atol=1e-5)
        assert "6 videos of 25 fps, stride 16, window 16" in logged(caplog)
    assert snapshot(run) == before


def test_an_ensemble_is_the_mean_of_the_members(trained, tmp_path):
    run, features, _ = trained("d2net")
    wanted = json.loads((run / "ensemble" / "detections.json").read_text())["results"]
    predictor = restore.load_work_directory(run, ensemble=True)
    exported.export_model(tmp_path / "model", predictor)
    for which in (predictor, exported.load_exported(tmp_path / "model")):
        found = predicted(which, features, tmp_path / "found.json")
        assert rows_of(found) == rows_of(wanted)
        np.testing.assert_allclose(scores_of(found), scores_of(wanted), rtol=0, atol=1e-5)
    with pytest.raises(
        JaxtalError, match="give either member=1 or ensemble=True, which averages all"
    ):
        restore.load_work_directory(run, 1, ensemble=True)


def test_short_videos_are_named_and_have_no_detections(trained):
    _, features, wanted = trained("d2net")
    lengths = {path.stem: len(np.load(path)) for path in features.iterdir()}
    assert {name for name, n in lengths.items() if n < 85} == {n for n in wanted if not wanted[n]}
    assert 0 < sum(n < 85 for n in lengths.values()) < len(lengths)


LENGTHS = (5, 64, 65, 100, 500, 7, 1000, 130)


def as_rows(prediction) -> list[tuple]:
    found = prediction.segments
    return [*zip(found.video, found.label, found.start, found.end, found.score, strict=True)]


def test_as_many_programs_as_buckets_and_alone_as_together(tmp_path):
    """The number of videos does not matter, also for an exported model."""
    traces: list = []
    predictor = toy_predictor(traces=traces)
    videos = stored(np.random.default_rng(0).permutation(np.arange(1, 1000, 9)))
    together = as_rows(predictor.predict(videos))
    assert sorted(time for _, time, _ in traces) == [64, 128, 256, 512, 1024]
    exported.export_model(tmp_path / "toy", predictor)
    other = exported.load_exported(tmp_path / "toy")
    np.testing.assert_allclose(as_rows(other.predict(videos)), together, atol=1e-5)
    assert other.apply_fn._cache_size() == 5
    for index in (0, 17, 90):
        alone = as_rows(predictor.predict([videos[index]]))
        mine = [(0, *row[1:]) for row in together if row[0] == index]
        np.testing.assert_allclose(alone, mine, atol=1e-5)


def test_subsampled_rows_are_spread_over_the_video():
    """Subsampling every third snippet equals features on a three times coarser time grid."""
    predictor = toy_predictor(test_length_limits=(2, 50))
    (video,) = stored([150])
    third = dataclasses.replace(video, shape=(50, WIDTH), read=lambda: video.read()[::3])
    wanted = toy_predictor().predict([third], time_grid=TimeGrid(25, 48, 48))
    np.testing.assert_allclose(as_rows(predictor.predict([video])), as_rows(wanted), atol=1e-6)


def test_memory_is_that_of_two_batches():
    """One video's features are in memory at a time, and a few batches."""
    nothing = localization_config(
        thresholds=(2, 2, 1)
    )  # proposals would need more memory than features
    predictor = dataclasses.replace(toy_predictor(), localization=nothing)
    alive, most = weakref.WeakSet(), []

    class Features(np.ndarray):
        """An array that can be an element of a set."""

        __hash__ = object.__hash__

    def watched(video):
        def read():
            most.append(len(alive))
            features = video.read().view(Features)
            alive.add(features)
            return features

        return dataclasses.replace(video, read=read)

    videos = [watched(video) for video in stored([4000] * 40)]  # two a batch: 256 KiB
    predictor.predict(videos[:2])  # compiles
    gc.collect()
    tracemalloc.start()
    predictor.predict(videos)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(most) == 0
    batch = 2 * 4096 * WIDTH * 4
    assert peak < 6 * batch < len(videos) / 2 * batch / 3


def test_features_in_two_streams_and_a_single_file(tmp_path):
    joint = write(tmp_path / "joint", LENGTHS)
    for stream, columns in (("rgb", slice(None, WIDTH // 2)), ("flow", slice(WIDTH // 2, None))):
        (tmp_path / "apart" / stream).mkdir(parents=True)
        for path in joint.iterdir():
            np.save(tmp_path / "apart" / stream / path.name, np.load(path)[:, columns])
    predictor, output = toy_predictor(), tmp_path / "found.json"
    wanted = predicted(predictor, joint, output)
    assert list(wanted) == sorted(f"v{index}" for index in range(len(LENGTHS)))
    assert predicted(predictor, tmp_path / "apart", output) == wanted
    alone = predicted(predictor, joint / "v3.npy", output)
    assert rows_of(alone) == {"v3": rows_of(wanted)["v3"]}


def test_time_grid_of_flags_data_set_and_model(tmp_path, caplog):
    predictor = dataclasses.replace(toy_predictor(), time_grid=TimeGrid(30, 8, 8))
    features, output = write(tmp_path / "features", [80]), tmp_path / "found.json"

    def ends(*times) -> np.ndarray:
        results = predicted(predictor, features, output, ReadingOptions("", "", *times))
        return np.array([entry["segment"] for entry in results["v0"]])

    model = ends(0, 0, 0)
    assert "30 fps, stride 8, window 8 (the training data's)" in logged(caplog)
    np.testing.assert_allclose(ends(15, 0, 0), 2 * model)
    np.testing.assert_allclose(ends(0, 16, 0), 2 * model)
    origin = "stride given, otherwise the training data's"
    assert f"30 fps, stride 16, window 16 ({origin})" in logged(caplog)
    np.testing.assert_allclose(ends(0, 0, 14), model + 3 / 30)
    with pytest.raises(JaxtalError, match=r"stride is -1.0; wanted a number above 0"):
        ends(0, -1.0, 0)


def logged(caplog) -> str:
    """Return the messages that the library has logged since the last call."""
    messages = " ".join(caplog.messages)
    caplog.clear()
    return messages


def test_an_annotated_data_set(tmp_path, caplog):
    """All training and test videos are predicted, on the model's time grid if that fits."""
    predictor = dataclasses.replace(toy_predictor(), time_grid=TimeGrid(26, 16, 20))
    features = [video.read() for video in stored((10, 14, 7, 9))]
    write_wtalc(tmp_path, features=objects(features))

    def ends(options=NOTHING_STATED, predictor=predictor):
        found = predicted(predictor, tmp_path, tmp_path / "found.json", options)
        assert list(found) == ["a", "b", "c", "d"]
        assert all(found.values())
        return [entry["segment"] for entry in found["a"]]

    own = ends()
    assert "4 videos of 26 fps, stride 16, window 20 (the training data's)" in logged(caplog)
    np.testing.assert_allclose(ends(ReadingOptions(fps=25.5)), np.multiply(own, 26 / 25.5))
    assert "25.5 fps, stride 16, window 20 (fps given, otherwise the training" in logged(caplog)
    other = dataclasses.replace(predictor, time_grid=TimeGrid(30, 8, 8))
    ends(predictor=other)
    messages = logged(caplog)
    assert "25 fps, stride 16, window 16 (assumed for wtalc, as the training" in messages
    assert "the time grid of 25 fps and stride 16 is assumed for wtalc, as the" in messages
    near = dataclasses.replace(predictor, time_grid=TimeGrid(30, 16, 16))
    ends(predictor=near)  # 17 % too short, which is only a warning
    assert "25 fps, stride 16, window 16 (assumed for wtalc, as the training" in logged(caplog)
    grid = {"fps": 24, "stride": 16, "window": 16}
    (tmp_path / "jaxtal.json").write_text(
        json.dumps({"layout": "wtalc", "grid": grid, "videos": {}})
    )
    ends()
    assert "4 videos of 24 fps, stride 16, window 16 (the data set's)" in logged(caplog)
    found = predicted(predictor, tmp_path, tmp_path / "found.json")
    features[2][3] = np.nan
    write_wtalc(tmp_path, features=objects(features))
    with pytest.raises(
        JaxtalError, match=r"c.*: NaN features .*; skip_damaged=True skips such videos"
    ):
        predict(predictor, tmp_path, tmp_path / "found.json")
    left = predicted(predictor, tmp_path, tmp_path / "found.json", skip_damaged=True)
    assert rows_of(left) == rows_of({name: found[name] for name in "abd"})


def test_a_data_set_by_its_layout_and_name(tmp_path, features):
    predictor, output = toy_predictor(), tmp_path / "found.json"
    for name in ("One", "Two"):
        write_wtalc(tmp_path, features=objects([video.read() for video in stored((5, 6, 7, 8))]))
        for path in tmp_path.glob("Tiny-*"):
            path.rename(tmp_path / path.name.replace("Tiny", name))
    with pytest.raises(JaxtalError, match="Two"):
        predict(predictor, tmp_path, output)
    assert list(predicted(predictor, tmp_path, output, ReadingOptions(name="Two"))) == [
        "a",
        "b",
        "c",
        "d",
    ]
    with pytest.raises(JaxtalError, match="unknown layout 'x'"):
        predict(predictor, tmp_path, output, ReadingOptions(layout="x"))
    with pytest.raises(JaxtalError, match=r"name=x: .*features is not detected as a data set"):
        predict(predictor, features, output, ReadingOptions(name="x"))


def test_known_shapes_are_not_read(tmp_path, monkeypatch, caplog):
    """Videos with their own frame rate are counted."""
    write_wtalc(tmp_path, features=objects([video.read() for video in stored((5, 6, 7, 8))]))
    source, read = layouts.read(tmp_path), []
    shapes = {video.name: source.read(video).features.shape for video in source.videos}

    def features(video):
        read.append(video.name)
        return source.features(video)

    own = source.dataset.map(lambda v: dataclasses.replace(v, fps=30 if v.name < "c" else None))
    known = dataclasses.replace(
        source, dataset=own, features=features, snippets=lambda video: shapes[video.name]
    )
    monkeypatch.setattr(layouts, "read", lambda *_, **__: known)
    predict(toy_predictor(), tmp_path, tmp_path / "found.json")
    assert sorted(read) == ["a", "b", "c", "d"]
    assert "4 videos of 25 fps (2 videos have their own), stride 16" in logged(caplog)


def test_windows_shorter_than_strides_begin_at_zero(tmp_path):
    """Detections that begin before their video would be rejected by an evaluation."""
    features, output = write(tmp_path / "features", [80]), tmp_path / "found.json"
    grids = [ReadingOptions("", "", 25, 16, window) for window in (16, 4)]
    times = [
        np.array(
            [row[1:] for row in rows_of(predicted(toy_predictor(), features, output, grid))["v0"]]
        )
        for grid in grids
    ]
    assert times[0].min() == 0
    np.testing.assert_allclose(times[1], np.maximum(times[0] - 6 / 25, 0))


@pytest.fixture
def features(tmp_path) -> Path:
    return write(tmp_path / "features", [20, 70])


def other_width(path):
    np.save(path, np.ones((20, 6), np.float32))


def with_nan(path):
    array = np.load(path)
    array[3] = np.nan
    np.save(path, array)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def empty(path):
    np.save(path, np.ones((0, WIDTH), np.float32))


def whole_numbers(path):
    np.save(path, np.ones((20, WIDTH), int))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_width, "v0.npy: 6 features per snippet; wanted 8, RGB then flow, extracted with"),
        (with_nan, "v0.npy: NaN features in 1 of 20 snippets, first in snippet 3"),
        (cut_short, "v0.npy: not a complete .npy file"),
        (empty, "v0.npy: no snippets"),
        (whole_numbers, r"v0.npy: an array of shape \(20, 8\) and type int64"),
    ],
)
def test_unusable_features_are_an_error_or_skipped(features, tmp_path, caplog, spoil, message):
    spoil(features / "v0.npy")
    predictor, output = toy_predictor(), tmp_path / "found.json"
    with pytest.raises(JaxtalError, match=f"{message}.*; skip_damaged=True skips such videos"):
        predict(predictor, features, output)
    assert not output.exists()
    found = predicted(predictor, features, output, skip_damaged=True)
    assert list(found) == ["v1"]
    assert found["v1"]
    assert "skipped: " in logged(caplog)
    with pytest.raises(JaxtalError, match=r"no usable video.*; see the warnings above"):
        predict(predictor, features / "v0.npy", output, skip_damaged=True)


def test_a_file_that_changes_while_it_is_read():
    (video,) = stored([20])
    changed = dataclasses.replace(video, shape=(30, WIDTH))
    with pytest.raises(JaxtalError, match=r"v0.npy: the file changed while it was read"):
        toy_predictor().predict([changed])


def test_a_model_that_is_not_finite():
    (video,) = stored([20])
    huge = dataclasses.replace(video, read=lambda: np.full((20, WIDTH), 3e38, np.float32))
    with pytest.raises(NonFiniteError, match="the model's cas of video v0 is not finite"):
        toy_predictor().predict([huge])


def test_invalid_folders(tmp_path, features):
    for path, message in (
        (tmp_path / "nothing", "nothing: no such file or folder; wanted VIDEO.npy, a folder"),
        (tmp_path / "file.txt", "file.txt: not a feature file"),
        (tmp_path / "empty", "empty: no feature files among no files; wanted"),
        (tmp_path / "apart", r"flow: no v1.npy \(1 videos have only one of the two streams\)"),
    ):
        (tmp_path / "file.txt").touch()
        (tmp_path / "empty").mkdir(exist_ok=True)
        for stream, names in (("rgb", ("v0", "v1")), ("flow", ("v0",))):
            (tmp_path / "apart" / stream).mkdir(parents=True, exist_ok=True)
            for name in names:
                (tmp_path / "apart" / stream / f"{name}.npy").touch()
        with pytest.raises(JaxtalError, match=message):
            feature_files.find_feature_files(path)


def test_streams_that_do_not_fit(tmp_path):
    for stream, length in (("rgb", 20), ("flow", 21)):
        (tmp_path / stream).mkdir()
        np.save(tmp_path / stream / "v.npy", np.ones((length, WIDTH // 2), np.float32))
    with pytest.raises(
        JaxtalError, match=r"v.npy: RGB features are 20 x 4 .*, flow features 21 x 4"
    ):
        predict(toy_predictor(), tmp_path, tmp_path / "found.json")


def test_figures_of_the_first_videos(tmp_path, features):
    write(features, [20, 70, 30])
    figures = tmp_path / "a" / "figures"
    predict(
        toy_predictor(min_snippets=25), features, tmp_path / "found", plots=figures, plot_videos=2
    )
    assert [path.name for path in figures.iterdir()] == ["v1.png"]  # v0 is too short
    (tmp_path / "file").touch()
    with pytest.raises(JaxtalError, match=r"plots=.*file: cannot be created"):
        predict(toy_predictor(), features, tmp_path / "found", plots=tmp_path / "file")


def test_work_directories_that_lack_something(tmp_path):
    with pytest.raises(
        JaxtalError, match=r"not the work directory of a run: it has no config.json"
    ):
        restore.load_work_directory(tmp_path)
    config = CONFIGS["d2net"]
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(JaxtalError, match=r"population of 2; select one with member=\S+ 0 to 1 \("):
        restore.load_work_directory(tmp_path)
    config.vary = "loss.weights.video_denoising=0,0.1"
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(JaxtalError, match=r"differ in more than the seed: loss.weights.video_den"):
        restore.load_work_directory(tmp_path, ensemble=True)
    config.vary = ""
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(JaxtalError, match=r"member=2, but .* a population of 2; wanted 0 to 1"):
        restore.load_work_directory(tmp_path, 2)
    with pytest.raises(
        JaxtalError, match=r"model.json: no such file; .* \(mode=eval\) to write it"
    ):
        restore.load_work_directory(tmp_path, 1)
    (tmp_path / "model.json").write_text('{"data": "a", "feature_width": 8, "classes": ["a"]}')
    with pytest.raises(JaxtalError, match=r'model.json: no "grid"'):
        restore.load_work_directory(tmp_path, 1)
    (tmp_path / "model.json").write_text(
        '{"data": "a", "feature_width": 8, "classes": ["a"], "grid": {"fps": 25, "x": 1}}'
    )
    with pytest.raises(JaxtalError, match=r"model.json: .*unexpected keyword argument 'x'"):
        restore.load_work_directory(tmp_path, 1)
    (tmp_path / "model.json").write_text(
        '{"data": "a", "feature_width": 8, "classes": ["a"], "grid": {"fps": 25, "stride": 16}}'
    )
    with pytest.raises(JaxtalError, match="has no checkpoint; train first"):
        restore.load_work_directory(tmp_path, 1)


@pytest.mark.parametrize("field", ["", "method", "localization", "loss", "optimizer", "precision"])
def test_configs_that_lack_something(tmp_path, field):
    config = json.loads(CONFIGS["co2net"].to_json()) if field else {}
    config.pop(field, None)
    files = Workdir(tmp_path)
    files.open(config, {})
    files.write_model(ModelDescription(("a", "b"), TimeGrid(), 8, "Tiny"))
    with pytest.raises(JaxtalError, match=rf"config.json: .*{field or 'method'}"):
        restore.load_work_directory(tmp_path)


def test_a_member_that_has_diverged(trained, monkeypatch):
    run, *_ = trained("d2net")
    read = Checkpoints.restore_variables
    monkeypatch.setattr(
        Checkpoints,
        "restore_variables",
        lambda *arguments: (read(*arguments)[0], {"diverged": [None, 7]}),
    )
    with pytest.raises(JaxtalError, match="member 1's training has diverged before step 7"):
        restore.load_work_directory(run, 1)


def test_a_damaged_checkpoint(trained, tmp_path):
    run, *_ = trained("co2net")
    shutil.copytree(run, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "0" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(JaxtalError, match=r"checkpoints/0: this checkpoint is damaged"):
        restore.load_work_directory(tmp_path / "run")


def test_a_checkpoint_of_another_network(trained, tmp_path, monkeypatch):
    run, *_ = trained("co2net")
    shutil.copytree(run, tmp_path / "run")
    files = Workdir(tmp_path / "run")
    model = files.read_model()
    files.write_model(model._replace(classes=("a", *model.classes)))
    with pytest.raises(
        JaxtalError, match=r"model.json: not what the checkpoint was trained with: "
    ):
        restore.load_work_directory(tmp_path / "run")
    monkeypatch.setattr(restore, "saved_run", lambda *_: {})  # as in an early checkpoint
    message = (
        r"0: the checkpoint is good, but of another network: it has 3 classes and 8 features a "
        r"snippet \(params/cls1/bias is \(1, 4\)\), config.json and model.json 4 classes and 8 "
        r"features a snippet \(params/cls1/bias is \(1, 5\)\); they are of another run"
    )
    with pytest.raises(JaxtalError, match=message):
        restore.load_work_directory(tmp_path / "run")


def test_the_command(trained, tmp_path):
    """The command in its own process, and its error for wrong flags."""
    run, features, wanted = trained("twostream")
    output = tmp_path / "found.json"
    arguments = [f"--workdir={run}", f"--features={features}", f"--output={output}"]
    code, out, err = run_program("predict", *arguments)
    assert code == 0, err
    assert rows_of(json.loads(output.read_text())["results"]) == rows_of(wanted)
    assert f"detections in 6 videos are in {output}" in " ".join(out.split())
    code, out, err = run_program("predict", *arguments, "--exported=model")
    assert (code, out) == (2, "")
    assert err == "error: give either --workdir, of a run, or --exported, a file of jaxtal export\n"
