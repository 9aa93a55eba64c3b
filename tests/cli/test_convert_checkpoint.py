"""Conversion of checkpoints of the published programs to work directories, and back."""

import errno
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.experimental.compilation_cache import compilation_cache

from configs import co2net_demo, co2net_thumos, d2net_anet12, d2net_demo, d2net_thumos
from jaxtal.checkpoint_conversion import convert, parameter_names, torch_writer
from jaxtal.data import layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io import torch_files
from jaxtal.errors import JaxtalError
from jaxtal.inference.model import load_model
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.train_state import TrainState
from jaxtal.training.trainer import train_and_evaluate
from jaxtal.training.workdir import Workdir
from tests.helpers.command import TINY, TINY_VIDEOS, run_program, snapshot

D, C = 8, 3
CONFIGS = {"co2net": co2net_demo, "d2net": d2net_demo}
OUTER = ("vAttn.channel_conv.0.weight", "fAttn.channel_conv.0.weight")


def shapes(method: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in the published state dict for features of width 2D and C classes."""
    if method == "d2net":
        layers = {
            "conv": (2 * D, D, 3),
            "conv1": (2 * D, D, 3),
            "classifier": (2 * C, D, 1),
        }
        return {"running_bg": (1, D), **with_biases(layers)}
    layers = {}
    for unit in ("vAttn", "fAttn"):
        layers[f"{unit}.bit_wise_attn.0"] = (D, D, 3)
        layers[f"{unit}.channel_conv.0"] = (D, D, 3)
        layers[f"{unit}.attention.0"] = (D // 2, D, 3)
        layers[f"{unit}.attention.3"] = (D // 2, D // 2, 3)
        layers[f"{unit}.attention.5"] = (1, D // 2, 1)
    layers["feat_encoder.0"] = (2 * D, 2 * D, 3)
    layers["fusion.0"] = (2 * D, 2 * D, 1)
    layers["classifier.1"] = (2 * D, 2 * D, 3)
    layers["classifier.4"] = (C + 1, 2 * D, 1)
    return with_biases(layers)


def with_biases(layers: dict) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.{kind}": shape if kind == "weight" else shape[:1]
        for name, shape in layers.items()
        for kind in ("weight", "bias")
    }


def published(method: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes(method).items()
    }


def write(path: Path, method: str, **changed) -> Path:
    """Write a checkpoint, with the arrays in `changed` replaced, or removed where they are None."""
    tensors = {**published(method), **changed}
    torch_writer.save(path, {name: value for name, value in tensors.items() if value is not None})
    return path


def tiny(method: str):
    """Return the demo's config on few small videos of D features and C classes."""
    config = CONFIGS[method].get_config()
    config.data.generator += (
        f" num_train=8 num_test=2 num_classes={C} feature_width={D} min_snippets=50 max_snippets=60"
    )
    config.evaluation.plot_videos = 0
    return config


@pytest.fixture
def compiled_once(tmp_path):
    """A compilation cache, because two runs of one network compile the same program."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield


@pytest.mark.parametrize("method", list(CONFIGS))
def test_there_and_back_again(tmp_path, method):
    source, target = write(tmp_path / "a.pkl", method), tmp_path / "b.pkl"
    converted = convert.from_torch(method, source, tmp_path / "run")
    assert converted.widths[:2] == (D, C)
    assert convert.to_torch(method, tmp_path / "run", target) == 1
    got = torch_files.load(target)
    assert list(got) == list(shapes(method))
    for name, wanted in published(method).items():
        if name in OUTER:
            wanted[..., [0, 2]] = 0
        wanted = 0 * wanted if name.startswith("feat_encoder") else wanted
        np.testing.assert_array_equal(got[name], wanted, err_msg=name)


def test_pytorch_modules_take_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    convert.from_torch("d2net", write(tmp_path / "a.pkl", "d2net"), tmp_path / "run")
    convert.to_torch("d2net", tmp_path / "run", tmp_path / "b.pkl")

    class Published(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.conv1 = (torch.nn.Conv1d(2 * D, 2 * D, 3, groups=2) for _ in "ab")
            self.classifier = torch.nn.Conv1d(2 * D, 2 * C, 1, groups=2)
            self.running_bg = torch.nn.Parameter(torch.zeros(1, D))

    model = Published()
    model.load_state_dict(torch.load(tmp_path / "b.pkl", weights_only=True))
    torch.save({"state_dict": torch.nn.DataParallel(model).state_dict()}, tmp_path / "c.pkl")
    convert.from_torch("d2net", tmp_path / "c.pkl", tmp_path / "again")
    for name, value in flat(tmp_path / "run").items():
        np.testing.assert_array_equal(flat(tmp_path / "again")[name], value, err_msg=name)


def flat(workdir: Path) -> dict[str, np.ndarray]:
    return flatten_dict(convert.saved_variables(workdir), sep="/")


def test_other_types_and_what_may_be_missing(tmp_path):
    tensors = {
        f"module.{name}": value.astype(ml_dtypes.bfloat16 if "bias" in name else np.float16)
        for name, value in published("co2net").items()
        if not name.startswith("feat_encoder")
    }
    variables, _ = parameter_names.to_variables("co2net", tensors, "a.pkl")
    for name, value in flatten_dict(variables["params"], sep="/").items():
        assert value.dtype == np.float32, name
    bias = published("co2net")["classifier.4.bias"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(variables["params"]["cls1"]["bias"], bias)


@pytest.mark.parametrize("method", list(CONFIGS))
def test_detections_are_those_of_the_network(tmp_path, method, compiled_once):
    """Evaluate after conversion, and again after conversion to PyTorch's form and back."""
    config, source = tiny(method), write(tmp_path / "a.pkl", method)
    first, second = tmp_path / "first", tmp_path / "second"
    convert.from_torch(method, source, first)
    result = train_and_evaluate(config, first, "eval")
    assert (result["step"], result["method"]) == (0, method)
    convert.to_torch(method, first, tmp_path / "b.pkl")
    convert.from_torch(method, tmp_path / "b.pkl", second, config)
    assert json.loads((second / "config.json").read_text())["method"] == method
    train_and_evaluate(config, second, "eval")
    evaluated = "evaluations/step=0/detections.json"
    found = (first / evaluated).read_bytes()
    assert found.count(b"segment") > 2
    assert (second / evaluated).read_bytes() == found


def test_classes_in_another_order_than_the_data(tmp_path):
    """The error is raised before anything is written."""
    config, source, run = tiny("d2net"), write(tmp_path / "a.pkl", "d2net"), tmp_path / "run"
    names = layouts.load_from_config(config.data).classes
    convert.from_torch("d2net", source, run, config, names[::-1])
    before = snapshot(run)
    wanted = f"class 0 .* is '{names[-1]}' in model.json, '{names[0]}' in this data set"
    with pytest.raises(JaxtalError, match=wanted):
        train_and_evaluate(config, run, "eval")
    assert snapshot(run) == before


@pytest.mark.parametrize("method", list(CONFIGS))
def test_data_of_other_classes_or_features(tmp_path, method, capfd):
    """The error names both, whether model.json exists or not; the checkpoint stays as it is."""
    source, run = write(tmp_path / "a.pkl", method), tmp_path / "run"
    convert.from_torch(method, source, run)
    there = f"{C} classes and {2 * D} features a snippet"
    for changed, here in (
        ("num_classes=4", f"4 classes and {2 * D} features a snippet"),
        (f"feature_width={2 * D}", f"{C} classes and {4 * D} features a snippet"),
    ):
        config = tiny(method)
        config.data.generator += f" {changed}"
        for mode in ("eval", "train"):
            for name in ("model.json", "none"):
                (run / "model.json").rename(run / name)
                before = snapshot(run)
                with pytest.raises(JaxtalError, match=f"{there}.*, .*{here}") as raised:
                    train_and_evaluate(config, run, mode)
                assert "delete" not in str(raised.value)
                assert snapshot(run) == before
                (run / name).rename(run / "model.json")
    assert "Traceback" not in capfd.readouterr().err


def test_classes_of_the_data_set_and_unknown_ones(tmp_path, caplog):
    """Without data there is a number of classes; predictions need their names."""
    source = write(tmp_path / "a.pkl", "d2net")
    convert.from_torch("d2net", source, tmp_path / "none")
    model = json.loads((tmp_path / "none" / "model.json").read_text())
    assert (model["classes"], model["feature_width"]) == ([None] * C, 2 * D)
    parts = ("training", "training", "validation", "validation")
    database = {
        label: {
            "subset": subset,
            "duration": 9,
            "annotations": [{"label": label, "segment": [1, 2]}],
        }
        for label, subset in zip("abcd", parts, strict=True)
    }
    for count in (C, C + 1):
        config, file = tiny("d2net"), tmp_path / f"{count}.json"
        file.write_text(json.dumps({"database": dict([*database.items()][:count])}))
        config.data.update(dir=str(file), layout="activitynet")
        convert.from_torch("d2net", source, tmp_path / f"run_{count}", config)
    assert Workdir(tmp_path / f"run_{C}").read_model().classes == ("a", "b", "c")
    assert Workdir(tmp_path / f"run_{C + 1}").read_model().classes == (None,) * C
    assert f"has {C} classes, but {file} has {C + 1}: it is not the data set" in caplog.text
    with pytest.raises(JaxtalError, match="the names of the 3 classes are unknown; ev"):
        load_model(tmp_path / f"run_{C + 1}")
    config = tiny("d2net")
    convert.from_torch("d2net", source, tmp_path / "run", config)
    train_and_evaluate(config, tmp_path / "run", "eval")
    assert None not in load_model(tmp_path / "run").classes


def test_the_time_grid_of_the_config(tmp_path):
    source, config = write(tmp_path / "a.pkl", "d2net"), tiny("d2net")
    config.data.update(fps=30.0, stride=8.0)
    convert.from_torch("d2net", source, tmp_path / "run", config, tuple("abc"))
    assert Workdir(tmp_path / "run").read_model().grid == TimeGrid(30, 8)
    config.data.fps = -1.0
    with pytest.raises(
        JaxtalError, match=r"fps is -1.0; wanted a number above 0.* \(config.data\)"
    ):
        convert.from_torch("d2net", source, tmp_path / "none", config, tuple("abc"))
    assert not (tmp_path / "none").exists()


def test_the_command(tmp_path):
    workdir = tmp_path / "run"
    source = write(tmp_path / "a.pkl", "co2net")
    (tmp_path / "classes.txt").write_text("Diving\nShot put\n\nBilliards\n")
    code, out, err = run_program(
        "convert-checkpoint",
        "--method=co2net",
        f"--torch={source}",
        f"--workdir={workdir}",
        f"--classes={tmp_path / 'classes.txt'}",
        *TINY[:3],
    )
    assert (code, err) == (0, "")
    read, command = out.splitlines()
    assert read == (
        f"co2net, 3 classes, 8 features per modality, 1,982 parameters: {source} is step 0 in "
        f"{workdir}"
    )
    assert command == (
        "to evaluate it: jaxtal train --config=configs/co2net_demo.py "
        f"--config.data.num_snippets=16 '--config.data.generator={TINY_VIDEOS}' "
        f"--workdir={workdir} --mode=eval"
    )
    model = json.loads((workdir / "model.json").read_text())
    assert model["classes"] == ["Diving", "Shot put", "Billiards"]
    assert (model["feature_width"], model["data"]) == (2 * D, "Synthetic")
    assert json.loads((workdir / "config.json").read_text())["data"]["num_snippets"] == 16
    options = ["--method=co2net", f"--workdir={workdir}", f"--to_torch={tmp_path / 'b.pkl'}"]
    code, out, err = run_program("convert-checkpoint", *options)
    assert (code, err) == (0, "")
    assert out.startswith(f"co2net from {workdir} is in {tmp_path / 'b.pkl'}; ")


@pytest.mark.parametrize(("options", "message"), [
    ([], "either --torch, a file to read, or --to_torch"),
    (["--torch=a", "--to_torch=b"], "either --torch, a file to read, or --to_torch"),
    (["--torch=a", "--member=1"], "--member is for --to_torch only"),
    (["--to_torch=a", "--method=d2net"], "--workdir is missing"),
    (["--torch=a", "--config.seed=1"], "--config is missing"),
])  # fmt: skip
def test_wrong_options(options, message):
    code, out, err = run_program("convert-checkpoint", *options)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(("method", "changed", "message"), [
    ("co2net", {"fusion.0.bias": None}, "no tensor fusion.0.bias"),
    ("co2net", {"classifier.4.weight": None}, "no tensor classifier.4.weight"),
    ("co2net", {"extra": np.zeros(1)}, "unknown tensors extra"),
    ("co2net", {"fusion.0.weight": np.zeros((16, 15, 1))},
     "fusion.0.weight is 16 x 15 x 1; wanted 16 x 16 x 1"),
    ("co2net", {"feat_encoder.0.bias": np.zeros(9)}, "feat_encoder.0.bias is 9; wanted 16"),
    ("co2net", {"classifier.4.weight": np.zeros((1, 16, 1))}, "classifier.4.weight has 1 output"),
    ("co2net", {"vAttn.bit_wise_attn.0.weight": np.zeros(8)}, "is 8; wanted 3 dimensions"),
    ("co2net", {"vAttn.bit_wise_attn.0.weight": np.zeros((0, 0, 3))}, "wanted 3 dimensions"),
    ("co2net", {"fusion.0.bias": np.zeros(16, np.int64)}, "fusion.0.bias is of type int64"),
    ("co2net", {"fusion.0.bias": np.full(16, 1e300)}, "fusion.0.bias has numbers that are not fin"),
    ("d2net", {"conv.bias": np.full(16, np.nan)}, "conv.bias has numbers that are not finite"),
    ("d2net", {"running_bg": None}, "no tensor running_bg"),
    ("d2net", {"running_bg": np.zeros(8)}, "running_bg is 8; wanted 1 x 8"),
    ("d2net", {"conv.weight": np.zeros((16, 8, 2))}, "conv.weight has 2 taps; wanted an odd"),
    ("d2net", {"classifier.weight": np.zeros((7, 8, 1))}, "is 7 x 8 x 1; wanted 6 x 8 x 1"),
])  # fmt: skip
def test_state_dicts_that_do_not_fit(tmp_path, method, changed, message):
    source = write(tmp_path / "a.pkl", method, **changed)
    with pytest.raises(JaxtalError) as error:
        convert.from_torch(method, source, tmp_path / "run")
    assert f"{source}: " in str(error.value)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def of(module, **changed):
    """Return a config with changed fields."""
    config = module.get_config()
    config.update_from_flattened_dict(changed)
    return config


@pytest.mark.parametrize(("method", "config", "classes", "message"), [
    ("co2net", of(d2net_thumos), (), "config.method is d2net, but method=co2net"),
    ("co2net", of(co2net_thumos, population=2), (), "config.population is 2"),
    ("co2net", of(co2net_thumos, **{"model.classifier": "paper"}), (),
     "set config.model.classifier=code"),
    ("d2net", of(d2net_anet12), (),
     "flow/cls/kernel is (1, 8, 3), but (5, 8, 3) in the config's network; set "
     "config.model.kernel_size=3 and config.model.classifier_kernel_size=1"),
    ("d2net", None, ("a", "b"), "has 3 classes, but 2 names are given"),
    ("twostream", None, (), "method=twostream: no program with PyTorch checkpoints"),
])  # fmt: skip
def test_what_does_not_go_together(tmp_path, method, config, classes, message):
    source = write(tmp_path / "a.pkl", method if method in CONFIGS else "d2net")
    with pytest.raises(JaxtalError) as error:
        convert.from_torch(method, source, tmp_path / "run", config, classes)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_work_directories_that_do_not_fit(tmp_path):
    source, run, target = write(tmp_path / "a.pkl", "d2net"), tmp_path / "run", tmp_path / "b.pkl"
    convert.from_torch("d2net", source, run)
    (tmp_path / "file").touch()
    for message, wrong in {
        "has a checkpoint already": lambda: convert.from_torch("d2net", source, run),
        "cannot be written": lambda: convert.from_torch("d2net", source, tmp_path / "file"),
        "has no checkpoint": lambda: convert.to_torch("d2net", tmp_path / "none", target),
        "not co2net as published": lambda: convert.to_torch("co2net", run, target),
        "holds members 0 to 0": lambda: convert.to_torch("d2net", run, target, 1),
        "method=twostream": lambda: convert.to_torch("twostream", run, target),
    }.items():
        with pytest.raises(JaxtalError, match=message):
            wrong()
    assert not target.exists()
    os.remove(run / "checkpoints" / "0" / "state" / "_METADATA")
    with pytest.raises(JaxtalError, match="this checkpoint is damaged"):
        convert.to_torch("d2net", run, target)


def test_a_full_disk_keeps_no_half_of_a_checkpoint(tmp_path, monkeypatch):
    source = write(tmp_path / "a.pkl", "d2net")

    def full(checkpoints, *_):
        (tmp_path / "run" / "checkpoints" / "0.orbax-checkpoint-tmp").mkdir()
        raise ValueError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(JaxtalError, match=r"the disk is full \(.*nothing was converted; free some"):
        convert.from_torch("d2net", source, tmp_path / "run")
    assert os.listdir(tmp_path / "run" / "checkpoints") == []


def test_a_member_of_a_population(tmp_path):
    convert.from_torch("d2net", write(tmp_path / "a.pkl", "d2net"), tmp_path / "one")
    one = convert.saved_variables(tmp_path / "one")
    both = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf + 1]), one)
    zeros = jnp.zeros(2, jnp.int32)
    checkpoints = Checkpoints(tmp_path / "two" / "checkpoints", writes=True)
    others = {"running": both["running"]}
    checkpoints.save(TrainState(zeros, both["params"], others, {}, zeros, zeros), 7, {}, 0.0)
    checkpoints.close()
    for member, added in ((None, 0), (0, 0), (1, 1)):
        assert convert.to_torch("d2net", tmp_path / "two", tmp_path / "b.pkl", member) == 2
        for name, value in torch_files.load(tmp_path / "b.pkl").items():
            np.testing.assert_array_equal(value, published("d2net")[name] + np.float32(added))


def test_class_names_of_every_form(tmp_path):
    wanted = ("Diving", "Shot put", "Billiards")
    (tmp_path / "a.txt").write_text("\n".join(wanted))
    np.save(tmp_path / "b.npy", np.array([name.encode() for name in wanted])[:, None])
    np.save(tmp_path / "c.npy", np.array(wanted, object))
    annotation = {"label": "Diving", "segment": [0, 1]}
    video = {"subset": "validation", "duration": 2, "annotations": [annotation]}
    content = {"classes": wanted, "database": {"v": video}}
    (tmp_path / "d.json").write_text(json.dumps(content))
    for path in sorted(tmp_path.iterdir()):
        assert convert.read_classes(path) == wanted, path


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.txt", b"a\nb\na\n", "a.txt: "),
    ("a.txt", b"\n", "no class names"),
    ("a.txt", b"\xff\xfe", "not a text file"),
    ("a.npy", b"\xff\xfe", "a.npy: "),
    ("a.json", b"[]", "a.json: "),
    ("b.txt", None, "b.txt: cannot be read"),
])  # fmt: skip
def test_no_class_names(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(JaxtalError, match=message):
        convert.read_classes(tmp_path / name)
