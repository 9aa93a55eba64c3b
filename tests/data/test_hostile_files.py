"""Thousands of hostile files are read, or refused in one line; nothing else happens.

The files are made and watched in tests/hostile/; `python -m tests.hostile --only 1234` reads the
one with that number again and says what went wrong.
"""

import json
import os
import re
import shutil
import sys
from collections import Counter

import numpy as np
import pytest

from jaxtal import data
from jaxtal.data import conversion, layouts
from jaxtal.errors import JaxtalError
from tests.helpers.command import run_program
from tests.hostile import families, runner, unsafe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and devices are Linux's")

COUNT = 3000
# Of every family this share is refused at least, and this share is read.
SHARES = {
    "npy_bytes": (0.5, 0.03), "npy_header": (0.7, 0.02), "pickles": (0.8, 0.01),
    "columns": (0.5, 0.05), "npz_bytes": (0.5, 0.02), "npz_archive": (0.4, 0.05),
    "npz_arrays": (0.5, 0.04), "json_tree": (0.4, 0.1), "manifests": (0.15, 0.3),
    "json_bytes": (0.5, 0.01), "detection_files": (0.4, 0.1), "texts": (0.2, 0.3),
    "names": (0.4, 0.08), "special_files": (0.3, 0.15), "folder_bytes": (0.3, 0.15),
    "torch_bytes": (0.5, 0.02), "torch_crafted": (0.6, 0.01),
}  # fmt: skip


def assert_harmless(lines) -> None:
    failed = [line for line in lines if line["outcome"] == "failed"]
    said = "\n\n".join(
        f"python -m tests.hostile --only {line['number']}  # {line['family']}: {line['what']}\n"
        f"{line['said']}"
        for line in failed[:5]
    )
    assert not failed, f"{len(failed)} of {len(lines)}\n{said}"


@pytest.fixture(scope="module")
def lines():
    """What became of every mutant."""
    found, growth = runner.run(COUNT)
    assert growth < 2**28
    return found


def test_hostile_files_do_no_harm(lines):
    assert [line["number"] for line in lines] == list(range(COUNT))
    assert_harmless(lines)


def test_every_family_is_read_and_refused(lines):
    """Else only the first check of each reader would be tested."""
    counts = Counter((line["family"], line["outcome"]) for line in lines)
    assert {family.__name__ for family in families.SHARES} == set(SHARES)
    for family, share in families.SHARES.items():
        name = family.__name__
        total = share * COUNT // 100
        refused, loaded = counts[name, "rejected"] / total, counts[name, "loaded"] / total
        assert refused + loaded == 1, name
        assert refused >= SHARES[name][0], (name, refused)
        assert loaded >= SHARES[name][1], (name, loaded)


def test_the_same_number_is_the_same_file(tmp_path):
    for number in range(100):
        contents = []
        for folder in (tmp_path / f"a{number}", tmp_path / f"b{number}"):
            folder.mkdir()
            families.mutant(number, folder)
            contents.append({
                path.relative_to(folder): path.read_bytes()
                for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
            })  # fmt: skip
        assert contents[0] == contents[1], number


def test_readers_with_faults_are_caught():
    """The harness itself: each of these readers does one thing that none may do."""
    found, _ = runner.worker("--unsafe")
    assert [line["number"] for line in found] == list(unsafe.READERS)
    for line in found:
        assert line["outcome"] == "failed", line
        assert unsafe.READERS[line["number"]][1] in line["said"], line


@pytest.mark.slow
def test_many_more_hostile_files():
    assert_harmless(runner.run(20_000, COUNT)[0])


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
    """`bad`, a training video, is an error that names it, and left out if the user says so."""
    good = {video.name for video in families.tiny().train + families.tiny().test} - {bad}
    with pytest.raises(JaxtalError, match=rf"{bad}.*config\.data\.skip_damaged leaves") as error:
        data.load(config(folder))
    assert named in str(error.value)
    assert str(error.value).isprintable()
    source = layouts.read(folder)
    with pytest.raises(JaxtalError, match=rf"{bad}.*--skip leaves such videos out"):
        conversion.convert(source, "acmnet", tmp_path / "refused", how_to_skip="--skip")
    caplog.clear()
    asked = config(folder)
    asked.skip_damaged = True
    loaded = data.load(asked)
    assert {video.name for video in loaded.train + loaded.test} == good
    (warned,) = caplog.messages
    assert re.match(rf"left out: .*{bad}", warned)
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
    """The one line that a command says."""
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
def test_evaluate_says_one_line(tmp_path, content):
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
    assert "no regular file" in refused("evaluate", *options, f"--detections={tmp_path / 'pipe'}")
    assert "/dev/zero" in refused("evaluate", *options, "--detections=/dev/zero")


def test_inspect_and_convert_say_one_line(tmp_path):
    folder = laid_out(tmp_path, "wtalc")
    executes(folder / "Tiny-Annotations" / "segments.npy")
    said = refused("datasets", "inspect", folder)
    assert "segments.npy: refused, because it contains a reference to re._compile" in said
    shutil.rmtree(folder)
    folder = laid_out(tmp_path, "actionformer")
    path = next(path for path in (folder / "annotations").iterdir())
    content = json.loads(path.read_bytes())
    content["name"] = "../../strays"
    path.write_text(json.dumps(content))
    said = refused("datasets", "convert", folder, tmp_path / "out", "--to=activitynet")
    assert "'../../strays' cannot be a name" in said
    assert not (tmp_path / "out").exists()
