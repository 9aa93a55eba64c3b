"""The Python API, from `import jaxtal` to detections and errors."""

import contextlib
import dataclasses
import gc
import inspect
import io
import json
import logging
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxtal
from jaxtal.cli import logs
from jaxtal.data import activitynet_writer
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.segments import Segments
from jaxtal.evaluation import detection_map
from jaxtal.localization.proposals import localize_videos, topk_mean
from jaxtal.training import dispatch, trainer
from tests.conftest import ROOT
from tests.helpers.command import TINY, run
from tests.helpers.localizing import settings as localization_config
from tests.helpers.trained import WIDTH, stored, toy_predictor, write

SIGNATURES = {
    "load_dataset": "(path, *, layout, name, time_grid, features, skip_damaged, options)",
    "generate_dataset": "(*, seed, num_classes, options)",
    "get_config": "(name, *, preset, overrides)",
    "train": "(config, workdir, *, dataset, resume, progress)",
    "load_model": "(path, *, member, ensemble, checkpoint)",
    "evaluate": "(dataset, detections, protocol, *, skip_unknown, options)",
    "analyze_errors": "(result, tiou, top)",
    "localize": "(activations, *, classes, gate, video_scores, time_grid, options)",
}
# The data set of tests.helpers.command.TINY.
GENERATED = {
    "num_train": 12,
    "num_test": 6,
    "num_classes": 3,
    "feature_width": 8,
    "max_snippets": 100,
}
FIELDS = {
    "data.num_snippets": 16,
    "train.log_every": 2,
    "train.eval_every": 4,
    "train.steps": 4,
    "evaluation.plot_videos": 2,
}


def in_a_process(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return jaxtal.generate_dataset(**GENERATED)


@pytest.fixture(scope="module")
def run_of_four_steps(tiny, tmp_path_factory) -> tuple[jaxtal.TrainResult, str]:
    """A finished run and its output."""
    folder, printed = tmp_path_factory.mktemp("api") / "run", io.StringIO()
    config = jaxtal.get_config("co2net_demo", overrides=FIELDS)
    with contextlib.redirect_stdout(printed):
        return jaxtal.train(config, str(folder), dataset=tiny), printed.getvalue()


@pytest.fixture
def trained(run_of_four_steps) -> jaxtal.TrainResult:
    return run_of_four_steps[0]


@pytest.fixture
def progress_shown(run_of_four_steps) -> str:
    return run_of_four_steps[1]


class TestImport:
    def test_is_fast_and_takes_neither_numpy_nor_jax(self):
        program = (
            "import sys, time; start = time.perf_counter(); import jaxtal;"
            "print(time.perf_counter() - start); assert not {'jax', 'numpy'} & {*sys.modules}"
        )
        assert min(float(in_a_process(program)) for _ in range(3)) < 0.1

    def test_names_that_need_only_numpy_do_not_import_jax(self):
        names = sorted({*jaxtal.__all__} - {"train", "Model", "load_model", "methods", "losses"})
        in_a_process(
            f"import sys, jaxtal\nfor name in {names}: getattr(jaxtal, name)\n"
            "data = jaxtal.generate_dataset(num_train=1, num_test=2, num_classes=2)\n"
            "found = jaxtal.localize({v.name: v.features[:, :2] / 9 for v in data.test})\n"
            "found = jaxtal.Detections(found.segments, found.videos, data.classes)\n"
            "result = jaxtal.evaluate(data, found)\n"
            "jaxtal.plot.errors(jaxtal.analyze_errors(result))\n"
            "assert not {'jax', 'flax', 'matplotlib.pyplot', 'rich'} & {*sys.modules}\n"
        )

    def test_every_name_is_there_and_no_other(self):
        for name in jaxtal.__all__:
            assert getattr(jaxtal, name) is not None
        assert [*jaxtal.__all__] == dir(jaxtal)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            jaxtal.nothing  # noqa: B018

    def test_changes_nothing_outside(self):
        """Imports change neither backend nor warning filters, loggers and absl's flags."""
        programs = ("main", "cli", "__main__")
        modules = [
            module.name
            for module in pkgutil.walk_packages(jaxtal.__path__, "jaxtal.")
            if module.name.split(".")[1] not in programs
        ]
        assert len(modules) > 50
        in_a_process(
            "import importlib, logging, warnings, sys\n"
            "import jax, matplotlib, flax, optax, orbax.checkpoint, tensorflow_datasets\n"
            "import scipy.stats\n"
            "from absl import flags\n"
            "def state():\n"
            "    loggers = [logging.root, *map(logging.getLogger, ('jax', 'absl', 'jaxtal'))]\n"
            "    return ([(x.level, len(x.handlers), x.propagate) for x in loggers],\n"
            "            [*warnings.filters], {*flags.FLAGS}, matplotlib.get_backend(\n"
            "            auto_select=False))\n"
            "before = state()\n"
            f"for name in {modules}: importlib.import_module(name)\n"
            "assert state() == before, (before, state())\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )

    def test_version(self):
        from importlib import metadata

        assert jaxtal.__version__ == metadata.version("jaxtal")
        assert (Path(jaxtal.__file__).parent / "py.typed").is_file()


class TestSignatures:
    @pytest.mark.parametrize("name", SIGNATURES)
    def test_functions(self, name):
        parameters = inspect.signature(getattr(jaxtal, name)).parameters.values()
        words = []
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
                words.append("*")
            words.append(parameter.name)
        assert f"({', '.join(words)})" == SIGNATURES[name]

    def test_all_have_a_docstring_and_a_return_type(self):
        for name in (*SIGNATURES, "Model", "Detections", "Dataset", "Evaluation", "TrainResult"):
            assert getattr(jaxtal, name).__doc__, name
        for name in SIGNATURES:
            assert "return" in getattr(jaxtal, name).__annotations__, name


class TestDatasets:
    def test_paths_are_text_or_paths(self, tiny, tmp_path):
        path = tmp_path / "truth.json"
        path.write_text(activitynet_writer.to_json(tiny))
        for given in (path, str(path)):
            read = jaxtal.load_dataset(given, features=False)
            assert read.classes == tiny.classes
            assert [video.name for video in read.test] == [video.name for video in tiny.test]
        with pytest.raises(jaxtal.JaxtalError, match="annotations only; wanted a folder"):
            jaxtal.load_dataset(str(path))

    def test_layout_name_and_time_grid(self, tiny, tmp_path):
        from jaxtal.data import conversion
        from jaxtal.data.lazy_dataset import LazyDataset

        named = {video.name: video.features for video in (*tiny.train, *tiny.test)}
        source = LazyDataset(
            "made", tmp_path, tiny, lambda video: named[video.name], has_time_grid=True
        )
        conversion.convert(source, "basnet", tmp_path / "there")
        read = jaxtal.load_dataset(str(tmp_path / "there"))
        np.testing.assert_array_equal(read.test[0].features, named[read.test[0].name])
        grid = TimeGrid(30, 8, 8)
        other = jaxtal.load_dataset(tmp_path / "there", layout="basnet", time_grid=grid, name="New")
        assert (other.grid, other.name) == (grid, "New")
        with pytest.raises(jaxtal.JaxtalError, match="unknown layout 'x'"):
            jaxtal.load_dataset(tmp_path, layout="x")

    def test_generated(self, tiny):
        assert (len(tiny.train), len(tiny.test), len(tiny.classes)) == (12, 6, 3)
        other = jaxtal.generate_dataset(**GENERATED, seed=1)
        assert not np.array_equal(other.train[0].features, tiny.train[0].features)
        with pytest.raises(jaxtal.ConfigError, match="no option 'num_tests'; did you mean num_te"):
            jaxtal.generate_dataset(num_tests=3)

    def test_reprs(self, tiny):
        assert repr(tiny) == (
            "Dataset('Synthetic', 12 training and 6 test videos, 3 classes, 16 features a snippet, "
            "25 fps, stride 16)"
        )
        assert repr(tiny.train[0]).startswith("Video('train_00000', ")
        bad = dataclasses.replace(tiny, name="<script>")
        assert "<script>" not in bad._repr_html_()
        assert "&lt;script&gt;" in bad._repr_html_()
        without = tiny.map(lambda video: dataclasses.replace(video, features=np.empty((0, 0))))
        assert "no features" in repr(without)
        assert "no features" in repr(without.test[0])


class TestTraining:
    def test_equal_to_the_commands(self, trained, tiny, tmp_path):
        """Training and prediction of a data set in memory equal the command."""
        code, _, err = run(*TINY, "--config.train.steps=4", f"--workdir={tmp_path}")
        assert code == 0, err
        ours = json.loads((trained.workdir / "detections.json").read_text())["results"]
        theirs = json.loads((tmp_path / "detections.json").read_text())["results"]
        assert_same(ours, theirs)
        test = dataclasses.replace(tiny, train=())
        assert_same(json.loads(trained.model().predict(test).to_json())["results"], theirs)

    def test_result(self, trained):
        assert trained.result["step"] == 4
        assert [line["step"] for line in trained.metrics if "loss" in line] == [2, 4]
        assert isinstance(trained.plot(), Figure)
        first, second, *_ = repr(trained).splitlines()
        assert first == "co2net on Synthetic: mAP, % (co2)"
        assert second.split()[:3] == ["t-IoU", "0.1", "0.2"]
        assert "<table>" in trained._repr_html_()

    def test_resuming_is_on_the_same_data(self, trained, tiny, capsys):
        config = jaxtal.get_config("co2net_demo", overrides=FIELDS)
        again = jaxtal.train(config, trained.workdir, dataset=tiny, progress=False)
        assert again.result["map"] == trained.result["map"]
        assert capsys.readouterr() == ("", "")
        fewer = dataclasses.replace(tiny, train=tiny.train[1:])
        with pytest.raises(
            jaxtal.JaxtalError, match=r"different data: .*training videos: 12 there"
        ):
            jaxtal.train(config, trained.workdir, dataset=fewer, progress=False)
        with pytest.raises(jaxtal.ConfigError, match="holds a run, at step 4; resume=True resumes"):
            jaxtal.train(config, trained.workdir, dataset=tiny, resume=False)

    def test_without_a_folder_no_file_remains(self, tiny):
        config = jaxtal.get_config("co2net_demo", overrides=FIELDS | {"train.steps": 0})
        result = jaxtal.train(config, dataset=tiny)
        folder, model = result.workdir, result.model()
        assert folder.is_dir()
        del result
        gc.collect()
        assert not folder.exists()
        assert len(model.predict(tiny.test[0].features)) > 0
        with pytest.raises(jaxtal.JaxtalError):
            jaxtal.train(config, dataset=dataclasses.replace(tiny, train=()))

    def test_progress_is_shown(self, progress_shown):
        assert "loss" in progress_shown
        assert "compiled" not in progress_shown  # the application shows the log

    def test_data_that_cannot_be_used(self, tiny, tmp_path):
        config = jaxtal.get_config("co2net_demo", overrides=FIELDS)
        first, *rest = tiny.train

        def changed(**fields):
            return dataclasses.replace(tiny, train=(dataclasses.replace(first, **fields), *rest))

        cases = {
            "wanted a jaxtal.Dataset": 3,
            "0 training and 6 test videos": dataclasses.replace(tiny, train=()),
            "'train_00000' is listed twice": dataclasses.replace(tiny, train=(first, first)),
            "train_00000: NaN features": changed(features=np.full((20, 16), np.nan)),
            "train_00000: an array of shape": changed(features=np.ones(16)),
            "train_00000: labels are .*from 0 to 2": changed(labels=np.array([3])),
            "train_00000: labels are .*integers": changed(labels=np.array([0.5])),
            "0 segments but 1 segment_labels": changed(segments=[], segment_labels=[1]),
            "duration is nan": changed(duration=float("nan")),
            "8 features a snippet, but train_00000 has 16": dataclasses.replace(
                tiny, train=(first, dataclasses.replace(rest[0], features=np.ones((9, 8))))
            ),
        }
        for message, dataset in cases.items():
            with pytest.raises(jaxtal.JaxtalError, match=message) as error:
                jaxtal.train(config, tmp_path / "run", dataset=dataset)
            assert "\n" not in str(error.value)
        with pytest.raises(jaxtal.ConfigError, match=r"config is 'co2net_demo'; wanted a config"):
            jaxtal.train("co2net_demo")
        assert not (tmp_path / "run").exists()


def assert_same(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        assert [(x["label"], x["segment"]) for x in found] == [
            (x["label"], x["segment"]) for x in theirs[name]
        ]
        np.testing.assert_allclose(
            [x["score"] for x in found], [x["score"] for x in theirs[name]], rtol=0, atol=1e-5
        )


class TestModels:
    def test_inputs_of_every_kind_give_the_same(self, tmp_path):
        model, folder = toy_predictor(), write(tmp_path / "features", (20, 70))
        arrays = {video.name: video.read() for video in stored((20, 70))}
        wanted = model.predict(stored((20, 70)))
        assert wanted.videos == ("v0", "v1")
        assert len(wanted) > 10
        for given in (folder, str(folder), arrays):
            found = model.predict(given)
            assert found.to_json() == wanted.to_json()
        as_float64 = {name: array.astype(np.float64) for name, array in arrays.items()}
        assert model.predict(as_float64).to_json() == wanted.to_json()
        found = model.predict([*arrays.values()])
        assert found.videos == ("video_0", "video_1")
        np.testing.assert_array_equal(found.segments.start, wanted.segments.start)
        alone = model.predict(arrays["v1"])
        assert_same(
            json.loads(alone.to_json())["results"],
            {"video_0": json.loads(wanted.to_json())["results"]["v1"]},
        )

    def test_statements_about_files(self, tmp_path):
        """They are for paths; one without an effect is an error."""
        model, array = toy_predictor(), stored((20,))[0].read()
        np.save(tmp_path / "v0.npy", array.T)
        found = model.predict(tmp_path, axes="DT")
        assert found.to_json() == model.predict({"v0": array}).to_json()
        with pytest.raises(
            jaxtal.DataError, match="axes=DT has no effect: inputs are arrays, which"
        ):
            model.predict(array, axes="DT")
        with pytest.raises(jaxtal.DataError, match="predict has no option 'axis', only layout, "):
            model.predict(tmp_path, axis="DT")

    def test_a_data_set(self, tiny):
        model = toy_predictor()
        videos = [dataclasses.replace(v, features=v.features[:, :WIDTH]) for v in tiny.train[:2]]
        dataset = dataclasses.replace(
            tiny, train=(videos[0],), test=(dataclasses.replace(videos[1], fps=50.0),),
            grid=TimeGrid(25, 16, 16),
        )  # fmt: skip
        found = model.predict(dataset)
        assert found.videos == tuple(video.name for video in videos)
        ends = [found.of(name).segments.end for name in found.videos]
        grid = TimeGrid(25, 16, 16)
        given = model.predict(dataset, time_grid=grid)  # overrides the videos' own frame rates
        np.testing.assert_array_equal(given.of(found.videos[0]).segments.end, ends[0])
        np.testing.assert_allclose(given.of(found.videos[1]).segments.end, 2 * ends[1])

    def test_a_model_of_rescaled_features_needs_frame_rates_of_the_videos(self, caplog):
        first, second = stored((20, 70))
        model = toy_predictor(rescaled=True)
        model.predict([dataclasses.replace(video, fps=10.0) for video in (first, second)])
        assert not caplog.records
        model.predict([dataclasses.replace(first, fps=10.0), second])
        (record,) = caplog.records
        assert "the times of 1 of 2 videos are wrong" in record.getMessage()

    def test_callback_and_time_grid(self):
        model, seen = toy_predictor(), []
        found = model.predict(stored((20, 70)), callback=seen.append)
        assert [one.video.name for one in seen] == ["v0", "v1"]
        assert sum(len(one.detections) for one in seen) == len(found)
        slow = model.predict(stored((20, 70)), time_grid=TimeGrid(12.5, 16, 16))
        np.testing.assert_allclose(slow.segments.end, 2 * found.segments.end)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (np.ones(WIDTH), r"an array of shape \(8,\)"),
            (np.ones((5, 6)), "6 features per snippet; wanted 8"),
            (np.ones((WIDTH, 30)), "30 features per snippet; wanted 8.*transpose"),
            (np.full((5, WIDTH), np.nan), "NaN features in 5 of 5 snippets"),
            (np.full((5, WIDTH), 1e300), "infinite features"),
            (np.ones((0, WIDTH)), "no snippets"),
            (np.ones((5, WIDTH), int), "type int64; wanted"),
            (np.array([["a"]]), "wanted"),
            ([], "no videos"),
            ({}, "no videos"),
            (3, "inputs: 3; wanted a path, a Dataset"),
            (None, "inputs: None; wanted a path"),
            ([[1.0, 2.0]], r"video_0: \[1.0, 2.0\]; wanted a \(T, 2D\) array"),
            ({"a/b": np.ones((5, WIDTH))}, "'a/b' cannot be a name"),
            ({1: np.ones((5, WIDTH)), "1": np.ones((5, WIDTH))}, "'1' is listed twice"),
            ("no/such/folder", "no such file or folder"),
        ],
    )
    def test_what_cannot_be_predicted(self, inputs, message):
        with pytest.raises(jaxtal.JaxtalError, match=message) as error:
            toy_predictor().predict(inputs)
        assert str(error.value).isprintable()

    def test_damaged_videos_are_skipped_on_request(self, caplog):
        arrays = {"good": np.ones((20, WIDTH)), "bad": np.full((20, WIDTH), np.nan)}
        with pytest.raises(jaxtal.DataError, match=r"bad: NaN .*skip_damaged=True skips such"):
            toy_predictor().predict(arrays)
        assert toy_predictor().predict(arrays, skip_damaged=True).videos == ("good",)
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    @pytest.mark.parametrize("width", [WIDTH, WIDTH + 2])
    def test_skipping_is_not_offered_if_nothing_would_remain(self, width):
        bad = np.full((9, width), np.nan if width == WIDTH else 1, np.float32)
        message = "NaN" if width == WIDTH else f"{width} features per snippet; wanted {WIDTH}"
        for inputs in ({"a": bad}, {"a": bad, "b": bad}):
            with pytest.raises(jaxtal.DataError, match=message) as error:
                toy_predictor().predict(inputs)
            assert "skip" not in str(error.value)

    def test_outputs(self):
        features = stored((30,))[0].read()
        outputs = toy_predictor().outputs(features)
        assert outputs["cas"].shape[0] == 30
        with pytest.raises(jaxtal.DataError, match=r"30 snippets; .*fewer than 40"):
            toy_predictor(min_snippets=40).outputs(features)

    def test_export_and_load(self, trained, tiny, tmp_path):
        model = jaxtal.load_model(str(trained.workdir))
        assert repr(model) == (
            "Model(co2net, 3 classes, 16 features per snippet, 25 fps, stride 16)"
        )
        assert (model.classes, model.time_grid) == (tiny.classes, tiny.grid)
        path = model.export(str(tmp_path / "model.jaxtal"))
        loaded = jaxtal.load_model(path)
        assert_same(
            json.loads(loaded.predict(tiny).to_json())["results"],
            json.loads(model.predict(tiny).to_json())["results"],
        )
        with pytest.raises(
            jaxtal.ConfigError, match=r"member=.*, ensemble=True and checkpoint=.* are for a"
        ):
            jaxtal.load_model(path, member=0)
        with pytest.raises(jaxtal.CheckpointError, match="no such work directory and no such file"):
            jaxtal.load_model(tmp_path / "nothing")
        with pytest.raises(jaxtal.JaxtalError, match="member=3, but"):
            jaxtal.load_model(trained.workdir, member=3)


def found_in(tiny: Dataset) -> jaxtal.Detections:
    """Return detections in two test videos: one instance of each, and one false positive."""
    rows = []
    for index, video in enumerate(tiny.test[:2]):
        (start, end), label = video.segments[0], video.segment_labels[0]
        rows += [(index, label, start, end, 0.9 - index / 10), (index, label, 0, 0.5, 0.2)]
    video, label, *times = np.array(rows).T
    segments = Segments(video.astype(int), label.astype(int), *times)
    return jaxtal.Detections(segments, tuple(v.name for v in tiny.test[:2]), tiny.classes)


@pytest.mark.parametrize(
    ("method", "streams", "words"),
    [("hybrid", (16,), "wanted 16, extracted"), ("d2net", (6, 10), "wanted 16, RGB then flow")],
)
def test_streams_from_training_to_export(method, streams, words, tiny, tmp_path):
    """The model knows its streams; the exported one has them, too, and the same detections."""
    data = dataclasses.replace(tiny, stream_widths=streams)
    config = jaxtal.get_config(f"{method}_demo", overrides={**FIELDS, "train.steps": 2})
    model = jaxtal.train(config, tmp_path / "run", dataset=data, progress=False).model()
    assert model.stream_widths == streams
    assert f"3 classes, {' + '.join(map(str, streams))} features per snippet" in repr(model)
    loaded = jaxtal.load_model(model.export(tmp_path / "model.jaxtal"))
    assert loaded.stream_widths == streams
    assert_same(
        json.loads(loaded.predict(tiny).to_json())["results"],
        json.loads(model.predict(tiny).to_json())["results"],
    )
    for one in (model, loaded):
        with pytest.raises(jaxtal.DataError, match=f"6 features per snippet; {words}"):
            one.predict(np.ones((5, 6)))


class TestDetections:
    def test_json_records_and_pandas(self, tiny, tmp_path):
        found = found_in(tiny)
        assert len(found) == len(found.to_records()) == len([*found]) == 4
        text = found.to_json(str(tmp_path / "found.json"))
        assert (tmp_path / "found.json").read_text() == text
        read = jaxtal.Detections.from_json(tmp_path / "found.json", classes=tiny.classes)
        assert read.to_records() == found.to_records()
        assert jaxtal.Detections.from_json(str(tmp_path / "found.json")).to_records() == [*found]
        frame = found.to_pandas()
        assert [*frame.columns] == ["video", "label", "start", "end", "score"]
        assert frame.to_dict("records") == found.to_records()
        with pytest.raises(jaxtal.DataError, match=r"detection 0 .*is not among the 1 classes"):
            jaxtal.Detections.from_json(tmp_path / "found.json", classes=["x"])

    def test_one_video(self, tiny):
        found = found_in(tiny)
        first = found.of(found.videos[0])
        assert (len(first), first.videos) == (2, found.videos[:1])
        with pytest.raises(jaxtal.DataError, match="video 'x': not among the 2 videos"):
            found.of("x")

    def test_without_pandas(self, tiny, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            found_in(tiny).to_pandas()

    def test_reprs(self, tiny):
        found = found_in(tiny)
        lines = repr(found).splitlines()
        assert lines[0] == "4 detections in 2 videos, 3 classes"
        assert lines[1].split() == ["video", "label", "start", "end", "score"]
        assert lines[2].split()[0] == "test_00000"
        odd = dataclasses.replace(found, videos=("<b>", "c"))
        assert "<b>" not in odd._repr_html_()
        none = dataclasses.replace(found, segments=found.segments.take([]))
        assert repr(none) == "0 detections in 2 videos, 3 classes"


class TestEvaluation:
    def test_equal_to_the_segments(self, tiny, tmp_path):
        found = found_in(tiny)
        result = jaxtal.evaluate(tiny, found)
        protocol = jaxtal.protocols.get("official")
        wanted = detection_map.evaluate(
            tiny.test, found.segments, protocol, len(tiny.classes), tiny.grid
        )
        assert result.summary() == wanted.summary()
        assert result.map[0.5] == wanted.summary()["map"]["0.5"] > 0
        assert result.average == wanted.summary()["average"]
        assert {*result.per_class} <= {*tiny.classes}
        (tmp_path / "truth.json").write_text(activitynet_writer.to_json(tiny))
        found.to_json(tmp_path / "found.json")
        again = jaxtal.evaluate(str(tmp_path / "truth.json"), str(tmp_path / "found.json"))
        assert again.map == result.map
        frames = json.loads((tmp_path / "truth.json").read_text())
        for entry in frames["database"].values():
            entry["duration"] *= 25
            for one in entry["annotations"]:
                one["segment"] = [25 * time for time in one["segment"]]
        (tmp_path / "frames.json").write_text(json.dumps(frames))
        with pytest.raises(
            jaxtal.DataError, match='if the change is intended, delete the entry "sha'
        ):
            jaxtal.evaluate(tmp_path / "frames.json", found)
        del frames["sha256"]
        (tmp_path / "frames.json").write_text(json.dumps(frames))
        again = jaxtal.evaluate(tmp_path / "frames.json", found, unit="frames", annotation_fps=25)
        assert again.map == result.map
        in_frames = jaxtal.load_dataset(tmp_path / "frames.json", features=False)
        again = jaxtal.evaluate(in_frames, found, unit="frames", annotation_fps=25)
        assert again.map == result.map
        with pytest.raises(jaxtal.DataError, match="axes=DT has no effect: features are not read"):
            jaxtal.evaluate(tmp_path / "frames.json", found, axes="DT")
        with pytest.raises(jaxtal.DataError, match="evaluate has no option 'units', only layout"):
            jaxtal.evaluate(tmp_path / "frames.json", found, units="frames")
        prefixed = dataclasses.replace(found, videos=tuple(f"v_{name}" for name in found.videos))
        assert jaxtal.evaluate(tiny, prefixed).map == result.map
        quirk = jaxtal.evaluate(tiny, found, dataclasses.replace(protocol, name="mine"))
        assert quirk.summary()["protocol"] == "mine"

    def test_classes_and_videos_by_name(self, tiny):
        """Their order does not matter; training videos are skipped, unknown ones are errors."""
        found = found_in(tiny)
        segments = dataclasses.replace(found.segments, label=2 - found.segments.label)
        turned = dataclasses.replace(found, segments=segments, classes=tiny.classes[::-1])
        assert jaxtal.evaluate(tiny, turned).map == jaxtal.evaluate(tiny, found).map
        training = dataclasses.replace(found, videos=(found.videos[0], tiny.train[0].name))
        assert jaxtal.evaluate(tiny, training).left_out["of training videos"] == 2
        for change, what in (
            (
                {"videos": (found.videos[0], "x")},
                "2 detections of unknown videos, .*'x'.*skip_unknown=True skips",
            ),
            # Nothing would remain of these, so skipping is not offered.
            ({"classes": ("x", "y", "z")}, "4 detections of unknown classes, .*correct them$"),
        ):
            strange = dataclasses.replace(found, **change)
            with pytest.raises(jaxtal.DataError, match=what):
                jaxtal.evaluate(tiny, strange)
            assert jaxtal.evaluate(tiny, strange, skip_unknown=True) is not None

    def test_errors(self, tiny):
        result = jaxtal.evaluate(tiny, found_in(tiny))
        analysis = jaxtal.analyze_errors(result, tiou=0.5, top=1)
        (worst,) = analysis.top
        assert (worst["kind"], worst["segment"]) == ("background", [0.0, 0.5])
        assert worst["video"] == "test_00000"
        assert "false positives with the highest scores" in repr(analysis)
        assert analysis._repr_html_().count("<table>") == 3
        with pytest.raises(jaxtal.JaxtalError, match=r"t-IoU 0\.42 is not a threshold of"):
            jaxtal.analyze_errors(result, 0.42)
        with pytest.raises(jaxtal.JaxtalError, match="protocol 'x': it must be one of"):
            jaxtal.evaluate(tiny, found_in(tiny), "x")

    def test_repr_is_a_table(self, tiny):
        title, header, row = repr(jaxtal.evaluate(tiny, found_in(tiny))).splitlines()
        assert title.startswith("official: 4 detections, ")
        assert header.split()[:2] == ["t-IoU", "0.1"]
        assert row.startswith("mAP, %")
        assert len(header.split()) == len(row.replace("mAP, %", "mAP").split())


class TestLocalize:
    def test_equal_to_the_rooms_own(self):
        rng = np.random.default_rng(0)
        sequence, gate = rng.random((40, 3)), rng.random((40, 1))
        config = localization_config(class_threshold=0.1)
        found = jaxtal.localize(sequence, classes="abc", gate=gate, class_threshold=0.1)
        evidence = (sequence, gate, topk_mean(sequence, 4))
        wanted = localize_videos([evidence], [40], [40], TimeGrid(), config)
        for field in dataclasses.fields(wanted):
            ours, theirs = (getattr(x, field.name) for x in (found.segments, wanted))
            np.testing.assert_array_equal(ours, theirs)
        assert found.classes == ("a", "b", "c")
        both = jaxtal.localize(
            {"x": sequence, "y": sequence}, video_scores={"x": [1, 0, 0], "y": [0, 1, 0]}
        )
        assert {row["label"] for row in both.of("x")} == {"0"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"activations": np.ones(3)}, r"shape \(3,\); wanted \(T, C\)"),
            ({"activations": []}, "activations: no video"),
            ({"activations": "abc"}, "wanted an array of numbers"),
            ({"activations": np.full((3, 2), np.nan)}, "not finite"),
            ({"activations": [np.ones((3, 2)), np.ones((3, 4))]}, "the same C"),
            (
                {"activations": np.ones((3, 2)), "classes": ["a"]},
                "2 columns, but classes=... has 1 names",
            ),
            ({"activations": np.ones((3, 2)), "gate": np.ones((4, 1))}, r"gate.*wanted \(3, 2\)"),
            (
                {"activations": np.ones((3, 2)), "gate": {"x": np.ones((3, 1))}},
                "video 'x' is in only one",
            ),
            ({"activations": np.ones((3, 2)), "video_scores": [1]}, r"wanted \(2,\)"),
            ({"activations": np.ones((3, 2)), "sigmas": 1}, "no option 'sigmas'"),
        ],
    )
    def test_invalid_arguments(self, arguments, message):
        with pytest.raises(jaxtal.JaxtalError, match=message):
            jaxtal.localize(**arguments)


class TestPlots:
    def test_figures_do_not_change_pyplot(self, tiny, trained):
        backend = matplotlib.rcParams["backend"]
        found = found_in(tiny)
        result = jaxtal.evaluate(tiny, found)
        figures = [
            jaxtal.plot.dataset(tiny),
            jaxtal.plot.training(trained),
            jaxtal.plot.training(trained.metrics),
            jaxtal.plot.errors(jaxtal.analyze_errors(result)),
            jaxtal.plot.detections(found, dataset=tiny),
            jaxtal.plot.detections(found, found.videos[1]),
        ]
        for figure in figures:
            assert isinstance(figure, Figure)
            assert figure.number is None if hasattr(figure, "number") else True
            figure.draw_without_rendering()
        assert matplotlib.rcParams["backend"] == backend

    def test_detections_lie_where_they_are(self, tiny):
        found = found_in(tiny)
        name = found.videos[0]
        (axis,) = jaxtal.plot.detections(found, name, dataset=tiny).axes
        bars = sorted((bar.get_x(), bar.get_width()) for bar in axis.patches if bar.get_width())
        video = tiny.test[0]
        wanted = [
            *zip(video.segments[:, 0], video.segments[:, 1] - video.segments[:, 0], strict=True)
        ]
        wanted += [(row["start"], row["end"] - row["start"]) for row in found.of(name)]
        np.testing.assert_allclose(bars, sorted(wanted))
        assert axis.get_title(loc="left") == name

    def test_nothing_to_draw(self, tiny):
        found = found_in(tiny)
        none = dataclasses.replace(found, segments=found.segments.take([]))
        with pytest.raises(jaxtal.DataError, match="no detections to draw"):
            jaxtal.plot.detections(none)
        assert jaxtal.plot.detections(none, found.videos[0]).axes


def test_namespaces():
    assert {"co2net", "d2net", "twostream", "hybrid"} <= {*jaxtal.methods.names()}
    assert isinstance(jaxtal.methods.get("co2net"), jaxtal.methods.Method)
    assert "thumos14" in jaxtal.protocols.names()
    assert callable(jaxtal.losses.topk_mil)


class TestErrors:
    def test_classes(self):
        assert issubclass(jaxtal.ConfigError, ValueError)
        assert issubclass(jaxtal.DataError, ValueError)
        for error in (jaxtal.ConfigError, jaxtal.DataError, jaxtal.CheckpointError,
                      jaxtal.NonFiniteError):  # fmt: skip
            assert issubclass(error, jaxtal.JaxtalError)
        assert str(jaxtal.DataError("a\n\x1b[31m")) == "a \\x1b[31m"

    def test_a_model_that_is_not_finite(self):
        huge = FeatureFile("v", (20, WIDTH), lambda: np.full((20, WIDTH), 3e38, np.float32), "v")
        with pytest.raises(jaxtal.NonFiniteError):
            toy_predictor().predict([huge])


class TestLogs:
    """Output of the library's log in a console command and in a script."""

    def test_a_script_sees_warnings_alone(self):
        program = (
            "import logging, jaxtal.errors; log = logging.getLogger('jaxtal.training.trainer');"
            "log.info('info'); jaxtal.errors.warn('odd')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("", "odd\n")

    def test_programs_print_lines(self, capsys):
        logs.install()
        logs.install()
        logger = logging.getLogger("jaxtal.somewhere")
        logger.info("[bold]%d steps[/bold]", 3)
        logger.warning("a\nb\x1b")
        logging.getLogger("other").info("nothing")
        assert capsys.readouterr() == ("[bold]3 steps[/bold]\n", "warning: a b\\x1b\n")

    def test_above_a_progress_bar(self, capsys):
        from jaxtal.visualization import console

        logs.install()
        with console.progress(0, 2) as show:
            logging.getLogger("jaxtal").info("a line")
            show(2, {"loss": 1.0})
        assert "a line\n" in capsys.readouterr().out

    def test_other_processes_of_a_job_are_silent(self, capsys, monkeypatch):
        import jax

        logs.install()
        monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        logging.getLogger("jaxtal").warning("not printed")
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(jax, "process_index", lambda: 0)
        logging.getLogger("jaxtal").warning("once")
        assert capsys.readouterr() == ("", "warning: once\n")


def test_existing_functions_take_text(trained, tiny, tmp_path):
    from jaxtal.checkpoint_conversion.convert import saved_variables
    from jaxtal.data import layouts
    from jaxtal.inference import exported, restore
    from jaxtal.inference.batch_predict import predict
    from jaxtal.training.workdir import Workdir

    folder = os.fspath(trained.workdir)
    assert Workdir(folder).latest_step() == 4
    model = restore.load_work_directory(folder)
    exported.export_model(str(tmp_path / "m"), model)
    assert exported.load_exported(str(tmp_path / "m")).classes == model.classes
    assert "params" in saved_variables(folder)
    np.save(tmp_path / "v.npy", tiny.test[0].features)
    predict(model, str(tmp_path / "v.npy"), str(tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text())["results"]["v"]
    with pytest.raises(jaxtal.JaxtalError, match="no data set is detected"):
        layouts.read(str(tmp_path))
    config = jaxtal.get_config("co2net_demo", overrides=FIELDS)
    result = trainer.train_and_evaluate(config, folder, "eval", dataset=tiny)
    assert result["step"] == 4


def test_times_are_measured():
    seconds = {"a": 0.0}
    with dispatch.Timer(seconds, "a"):
        time.sleep(0.01)
    assert 0.01 <= seconds["a"] < 1
