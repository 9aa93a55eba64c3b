"""Damaged and hostile data sets: a one-line error that names the file, or a skipped video."""

import json
import os
import re
import shutil
import sys

import numpy as np
import pytest

from jaxtal.data import conversion, layouts
from jaxtal.errors import JaxtalError
from tests.helpers.command import run_program
from tests.stress.hostile import families

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices are Linux's")


EVERY = list(families.folders())
WITH_FILES = [
    name
    for name in EVERY
    if name.partition(",")[0] in ("basnet", "acmnet", "opentad", "actionformer")
]
JOINT = ["wtalc", "hamnet"]


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def cut_in_the_header(path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def not_a_number(path) -> None:
    features = np.load(path)
    features[1, 0] = np.nan
    np.save(path, features)


def narrower(path) -> None:
    np.save(path, np.load(path)[:, :2])


def linked_to_nothing(path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def a_pipe(path) -> None:
    path.unlink()
    os.mkfifo(path)


def executes(path) -> None:
    np.save(path, np.array([re.compile("a"), None], object), allow_pickle=True)


DAMAGE = [cut, cut_in_the_header, not_a_number, narrower, linked_to_nothing, a_pipe, executes]


def laid_out(tmp_path, layout: str):
    for name, content in families.folders()[layout].items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "data"


def config(path):
    from configs import co2net_thumos

    found = co2net_thumos.get_config().data
    found.dir, found.name = str(path), ""
    return found


def assert_skipped_if_asked(folder, tmp_path, bad: str, named: str, caplog) -> None:
    """Check that the training video `bad` is an error that names it, and can be skipped."""
    good = {video.name for video in families.tiny().train + families.tiny().test} - {bad}
    with pytest.raises(JaxtalError, match=rf"{bad}.*config\.data\.skip_damaged skips") as error:
        layouts.load_from_config(config(folder))
    assert named in str(error.value)
    assert str(error.value).isprintable()
    source = layouts.read(folder)
    with pytest.raises(JaxtalError, match=rf"{bad}.*--skip skips such videos"):
        conversion.convert(source, "acmnet", tmp_path / "rejected", how_to_skip="--skip")
    caplog.clear()
    skipping = config(folder)
    skipping.skip_damaged = True
    loaded = layouts.load_from_config(skipping)
    assert {video.name for video in loaded.train + loaded.test} == good
    (warned,) = caplog.messages
    assert re.match(rf"skipped: .*{bad}", warned)
    written = conversion.convert(source, "acmnet", tmp_path / "out", skip_damaged=True)
    assert {video.name for video in written.train + written.test} == good
    assert not list((tmp_path / "out").rglob(f"{bad}.npy"))


@pytest.mark.parametrize("layout", WITH_FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_feature_file(tmp_path, caplog, layout, damage):
    folder = laid_out(tmp_path, layout)
    bad = families.tiny().train[1].name
    damaged = sorted(folder.rglob(f"{bad}.npy"))[-1]  # of basnet's two, RGB
    damage(damaged)
    named = str(folder) if damage is narrower else str(damaged.parent)
    assert_skipped_if_asked(folder, tmp_path, bad, named, caplog)


@pytest.mark.parametrize("layout", WITH_FILES)
def test_a_feature_file_is_missing(tmp_path, caplog, layout):
    folder = laid_out(tmp_path, layout)
    bad = families.tiny().train[1].name
    for path in folder.rglob(f"{bad}.npy"):
        path.unlink()
    assert_skipped_if_asked(folder, tmp_path, bad, str(folder), caplog)


@pytest.mark.parametrize("layout", WITH_FILES)
@pytest.mark.parametrize("part", ["train", "test"])
def test_skipping_is_not_offered_if_nothing_would_remain(tmp_path, caplog, layout, part):
    folder = laid_out(tmp_path, layout)
    for video in getattr(families.tiny(), part):
        for path in folder.rglob(f"{video.name}.npy"):
            not_a_number(path)
    with pytest.raises(JaxtalError, match="NaN") as error:
        layouts.load_from_config(config(folder))
    assert "skips such" not in str(error.value)
    with pytest.raises(JaxtalError, match="NaN") as error:
        conversion.convert(layouts.read(folder), "acmnet", tmp_path / "x", how_to_skip="--skip")
    assert "skips such" not in str(error.value)
    assert not caplog.messages


@pytest.mark.parametrize("layout", JOINT)
@pytest.mark.parametrize("value", ["NaN", "narrower", "text", "empty", "a list"])
def test_a_damaged_video_in_a_joint_file(tmp_path, caplog, layout, value):
    folder = laid_out(tmp_path, layout)
    path = folder / "Tiny-I3D-JOINTFeatures.npy"
    features = np.load(path, allow_pickle=True)
    bad = features[1]
    features[1] = {
        "NaN": np.where(np.arange(8) == 3, np.nan, bad).astype(bad.dtype),
        "narrower": bad[:, :6], "text": "abc", "empty": bad[:0], "a list": bad.tolist(),
    }[value]  # fmt: skip
    np.save(path, features)
    named = str(folder if value == "narrower" else path)
    assert_skipped_if_asked(folder, tmp_path, families.tiny().train[1].name, named, caplog)


def refused(program: str, *arguments) -> str:
    """Return the one-line error of a command."""
    code, _, err = run_program(program, *arguments)
    assert code == 2, err
    assert re.fullmatch(r"error: .*\n", err), err
    assert err[:-1].isprintable(), err
    assert "Traceback" not in err, err
    return err


@pytest.mark.parametrize(
    "content",
    [
        b'{"results": ' + b"[" * 100_000,
        b'{"results": {"\\u001b[2J../../x\\n": [{"label": "a"}]}}',
        b'{"results": {"%s": [{"label": "a", "segment": [0, 1e999], "score": 1}]}}',
        b'{"results": {"%s": [{"label": "\\u001b[2J", "segment": [0, 1], "score": 1}]}}',
        b'{"results": {"%s": [{"label": "a", "segment": [0, ' + b"9" * 5000 + b'], "score": 1}]}}',
        b'{"results": {"%s": ' + b"[" * 950 + b"]" * 950 + b"}}",
        b'{"results": {"%s": [{}], "%s": []}}',
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_evaluate_reports_one_line(tmp_path, content):
    truth = tmp_path / "truth.json"
    truth.write_bytes(families.folders()["activitynet"]["Tiny.json"])
    path = tmp_path / "detections.json"
    path.write_bytes(content.replace(b"%s", families.tiny().test[0].name.encode()))
    options = f"--annotations={truth}", "--protocol=thumos14"
    assert str(path) in refused("evaluate", *options, f"--detections={path}")


def test_evaluate_does_not_wait_for_a_pipe(tmp_path):
    truth = tmp_path / "truth.json"
    truth.write_bytes(families.folders()["activitynet"]["Tiny.json"])
    os.mkfifo(tmp_path / "pipe")
    options = f"--annotations={truth}", "--protocol=thumos14"
    assert "not a regular file" in refused(
        "evaluate", *options, f"--detections={tmp_path / 'pipe'}"
    )
    assert "/dev/zero" in refused("evaluate", *options, "--detections=/dev/zero")


def test_inspect_and_convert_report_one_line(tmp_path):
    folder = laid_out(tmp_path, "wtalc")
    executes(folder / "Tiny-Annotations" / "segments.npy")
    message = refused("data inspect", folder)
    assert "segments.npy has changed since the conversion" in message
    message = refused("data inspect", folder, "--verify=never")
    assert "segments.npy: rejected, because it contains a reference to re._compile" in message
    shutil.rmtree(folder)
    folder = laid_out(tmp_path, "actionformer")
    path = next(path for path in (folder / "annotations").iterdir())
    content = json.loads(path.read_bytes())
    content["name"] = "../../strays"
    path.write_text(json.dumps(content))
    options = "--to=activitynet", "--verify=never"
    message = refused("data convert", folder, tmp_path / "out", *options)
    assert "'../../strays' cannot be a name" in message
    assert not (tmp_path / "out").exists()
