"""Invalid data, configs and work directories: a one-line error and exit code 2.

Every file and folder stays as it was.
"""

import os
import re
import shutil

import numpy as np
import pytest

from tests.data.layouts.test_wtalc import objects, write
from tests.helpers.command import TINY, TINY_VIDEOS, run, snapshot


def damaged(value) -> np.ndarray:
    """Return features of four videos, with `value` in the last snippet of the third."""
    features = [np.ones((4, 6), np.float32) for _ in range(4)]
    features[2][3, 1] = value
    return objects(features)


def arrays(*shapes, dtype=np.float32) -> np.ndarray:
    return objects([np.ones(shape, dtype) for shape in shapes])


def streams(rgb: np.ndarray, flow: np.ndarray):
    """Return a function that writes the two modalities to separate files."""

    def prepare(folder):
        write(folder, features=None)
        for name, features in (("RGB", rgb), ("FLOW", flow)):
            if features is not None:
                np.save(folder / f"Tiny-I3D-{name}Features.npy", features)

    return prepare


def changed(**files):
    return lambda folder: write(folder, **files)


def ambiguous(folder) -> None:
    (write(folder) / "Tiny-Annotations" / "Ambiguous_test.txt").write_text("c 1 two\n")


def cut_short(folder) -> None:
    path = write(folder) / "Tiny-I3D-JOINTFeatures.npy"
    path.write_bytes(path.read_bytes()[:300])


def hostile(folder) -> None:
    write(folder, segments=objects([re.compile("executed"), [], [], []]))


FOUR = [(4, 6)] * 4

# Case: (function that writes the data set, message).
DATA = {
    "no data": (lambda folder: None, r"data: no data set is detected; looked for <DS>-Annotations/ and"),
    "no features": (changed(features=None), r"Tiny-I3D-JOINTFeatures\.npy is missing; looked for"),
    "cut short": (cut_short, r"JOINTFeatures\.npy: not a complete \.npy file"),
    "code in a pickle": (hostile, r"segments\.npy: rejected, because it contains a reference to re"),
    "NaN": (changed(features=damaged(np.nan)), r"video c: NaN features in 1 of 4 snippets, first in snippet 3; extract"),
    "infinite": (changed(features=damaged(np.inf)), r"video c: infinite features in 1 of 4 snippets, first in snippet 3; extract"),
    "odd width": (changed(features=arrays(*[(4, 5)] * 4)), r"video a: 5 features a snippet; wanted an even number"),
    "another width": (changed(features=arrays(*FOUR[1:], (4, 8))), r"video d: 8 features a snippet, but a has 6; extract"),
    "no snippets": (changed(features=arrays(*FOUR[1:], (0, 6))), r"video d: no snippets; remove the video or"),
    "one axis": (changed(features=arrays(*FOUR[1:], (6,))), r"video d: an array of shape \(6,\).* wanted \(T, 2D\)"),
    "integers": (changed(features=arrays(*FOUR, dtype=int)), r"video a: an array of .* type int64; wanted .* float"),
    "ragged": (changed(features=objects([[[1.0, 2.0], [3.0]]] * 4)), r"video a: an array .*; wanted \(T, 2D\)"),
    "flow of another length": (streams(arrays(*[(4, 3)] * 4), arrays((4, 3), (5, 3), (4, 3), (4, 3))),
        r"video b: RGB features are 4 x 3 \(snippets x width\), flow features 5 x 3 .*; wanted the same number"),
    "no flow": (streams(arrays(*[(4, 3)] * 4), None), r"Tiny-I3D-FLOWFeatures\.npy is missing"),
    "infinite flow": (streams(arrays(*[(4, 6)] * 4), damaged(-np.inf)), r"FLOWFeatures\.npy, video c: infinite features"),
    "fewer features than annotations": (changed(features=arrays(*FOUR[1:])), r"features of 3 videos, but the annotations list 4"),
    "fewer durations than names": (changed(duration=np.ones(3)), r"duration\.npy has 3 entries, but videoname\.npy has 4"),
    "more labels than segments": (changed(labels=objects([["Jump"] * 2, [], [], []])), r"video a: 2 labels for 1 segments"),
    "unknown label of a video": (changed(labels_all=objects([[], ["Run"], [], []])), r"video b: label 'Run' is not among the 2 classes; add"),
    "unknown label of a segment": (changed(labels=objects([["Run"], [], [], []])), r"video a: label 'Run' is not among the 2 classes; add"),
    "a label that is no list": (changed(labels_all=objects([None, [], [], []])), r"video a: labels are None; wanted a list"),
    "a video twice": (changed(videoname=np.array(["a", "b", "c", "a"])), r"videoname\.npy: 'a' is listed twice, as entry 0 and as entry 3"),
    "a class twice": (changed(classlist=np.array(["Dive", "Jump", "Dive"])), r"classlist\.npy: 'Dive' is listed twice"),
    "one value": (changed(subset=np.array("test")), r"subset\.npy holds a single value; wanted an array"),
    "subsets": (changed(subset=np.array(["x", "x", "y", "y"])), r"subset\.npy: subsets are 2 of subset 'x', 2 of subset 'y'; wanted train"),
    "no training videos": (changed(subset=np.array(["test"] * 3 + ["spare"])), r"0 training and 3 test videos; unused: 1 of subset 'spare'; wanted some to train on"),
    "duration": (changed(duration=np.array([1, 2, np.nan, 3])), r"video c: duration is nan; wanted seconds above 0"),
    "segments of three": (changed(segments=objects([[1, 2, 3], [], [], []])), r"video a: segments must be a list of \[start, end\]"),
    "segments without number": (changed(segments=objects([[[0, np.nan]], [], [], []])), r"video a: a segment's time is not a finite"),
    "ambiguous interval": (ambiguous, r"Ambiguous_test\.txt, line 1: 'c 1 two'; wanted: video start end"),
    "classes of one video each": (changed(labels_all=objects([["Jump"], ["Dive"], [], []])), r"no class is carried by two training videos.*; set --config\.train\.pairs=0"),
}  # fmt: skip

# Argument: message.
CONFIG = {
    "--config.train.stepz=4": r"config\.train has no field 'stepz', only batch_size, .*; did you mean config\.train\.steps\?",
    "--config.model.depth=4": r"config\.model has no field 'depth', only attention_unit, ",
    "--config.seed.value=4": r"config\.seed has no field 'value', only a value",
    "--config.train.steps=many": r"config\.train\.steps is 'many'; wanted an integer, as in the config file: 5000",
    "--config.train.steps=1.5": r"config\.train\.steps is '1\.5'; wanted an integer",
    "--config.loss.weights.norm=x": r"config\.loss\.weights\.norm is 'x'; wanted a number, as in the config file: 0\.8",
    "--config.train.tensorboard=maybe": r"config\.train\.tensorboard is 'maybe'; wanted true or false",
    "--config.model=3": r"config\.model is '3'; wanted its fields, each set separately",
    "--config.localization.thresholds=(1,2)": r"thresholds is \(1, 2\); wanted \(first, last, count\)",
    "--config.localization.thresholds=(0.1,0.9,x)": r"thresholds is '\(0\.1,0\.9,x\)'; wanted a tuple, .*\(0\.1, 0\.9, 10\)",
    "--config.localization.thresholds=(0.1,0.9,10.0)": r"thresholds is \(0\.1, 0\.9, 10\.0\); wanted \(first, last, count\)",
    "--config.localization.thresholds=(0.1,1e400,10)": r"thresholds is \(0\.1, inf, 10\); wanted \(first, last, count\)",
    "--config.localization.class_weight=nan": r"localization\.class_weight is nan; it must be a number within \+-1e\+06",
    "--config.localization.sigma=0": r"localization\.sigma is 0\.0; it must be at least 1e-06",
    "--config.train.batch_size=4": r"batch_size is 4, but --config\.train\.pairs=3 pairs need at least 6",
    "--config.train.eval_every=0": r"eval_every is 0; it must be at least 1",
    "--config.train.steps=-1": r"steps is -1; it must be at least 0",
    "--config.train.pairs=-1": r"pairs is -1; it must be at least 0",
    "--config.loss.topk_divisor=0": r"topk_divisor is 0; it must be at least 1",
    "--config.optimizer.learning_rate=nan": r"learning_rate is nan; it must be at least 0",
    "--config.seed=-1": r"seed is -1; it must be at least 0",
    "--config.population=0": r"config\.population is 0; it must be at least 1",
    "--config.vary=train.steps=1": r"config\.vary: 'train\.steps=1': members cannot differ in 'train\.steps', only in seed, optimizer\.learning_rate,",
    "--config.vary=loss.weights.norm=1,2": r"has 2 values, but config\.population is 1; give one for each",
    "--config.vary=loss.weights.norm=-1": r"config\.loss\.weights\.norm is -1\.0; it must be at least 0",
    "--config.precision=float16": r"config\.precision is 'float16'; it must be one of float32, bfloat16",
    "--config.data.device_dtype=float8": r"device_dtype is 'float8'; it must be one of ,? ?float32, float16",
    "--config.data.device_share=-1": r"device_share is -1\.0; it must be at least 0",
    "--config.seed=4294967296": r"seed is 4294967296; it must be below 4294967296",
    "--config.data.min_snippets=11": r"the longest test video has 9 snippets, fewer than --config\.data\.min_snippets=11; lower it",
    "--config.model.pool_window=4": r"pool_window is 4; it must be odd",
    "--config.model.classifier=mine": r"classifier is 'mine'; it must be one of code, paper",
    "--config.loss.suppression=none": r"suppression is 'none'; it must be one of min_shift, product",
    "--config.loss.mutual_metric=l9": r"mutual_metric is 'l9'; it must be one of mse, mae, kl, js",
    "--config.method=none": r"config\.method is 'none'; it must be one of co2net",
    "--config.evaluation.protocol=x": r"config\.evaluation\.protocol: protocol 'x': it must be one of ",
    "--config.data.name=None": r"no data set 'None'",
    "--config.data.dir=": r"config\.data\.dir is empty, which means generated videos, but this config has no",
    "--config=configs/none.py": r"configs/none\.py: No such file or directory; wanted a file such as",
    "--config=tests/conftest.py": r"tests/conftest\.py, line \d+: KeyError: 'get_config'; wanted a Python file with get_config",
    "--mode=eval": r"has no checkpoint; train first",
    "--mode=sing": r"sing.*train\|eval",
    "--stepz=4": r"Unknown command line flag 'stepz'",
    "something": r"unexpected argument 'something'; options begin with --",
    "--workdir=/proc/none": r"/proc/none: the work directory cannot be written \(No such file or directory\); give another",
    "--workdir=README.md": r"README\.md: the work directory cannot be written \(\S+README\.md is not a folder\); give another",
}  # fmt: skip


def refused(root, message: str, *arguments) -> None:
    """Check that a command fails with a message and exit code 2, and that `root` is unchanged."""
    before = snapshot(root)
    code, _, err = run(*arguments)
    lines = [line for line in err.splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].startswith("warning: "):  # findings about the data
        lines.pop(0)
    assert code == 2, err
    assert len(lines) == 1, err
    assert re.match("error: ", lines[0])
    assert re.search(message, lines[0]), lines[0]
    assert snapshot(root) == before


def on(root, config: str = "co2net_thumos") -> list[str]:
    """Return the arguments for the data set and the work directory below `root`."""
    return [
        f"--config=configs/{config}.py", "--config.data.name=Tiny",
        f"--config.data.dir={root / 'data'}", f"--workdir={root / 'run'}",
        "--config.train.steps=2", "--config.data.num_snippets=4",
    ]  # fmt: skip


@pytest.mark.parametrize("what", DATA)
def test_data(tmp_path, what):
    prepare, message = DATA[what]
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data")
    refused(tmp_path, message, *on(tmp_path))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A valid data set."""
    root = tmp_path_factory.mktemp("good")
    (root / "data").mkdir()
    write(root / "data")
    return root


@pytest.mark.parametrize("argument", CONFIG)
def test_config(good, argument):
    refused(good, CONFIG[argument], *on(good), argument)


def test_an_unknown_preset(tmp_path):
    refused(
        tmp_path, r"configs/d2net_thumos\.py, line \d+: ValueError: preset 'papper'; wanted code, paper or",
        "--config=configs/d2net_thumos.py:papper", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip


def test_videos_too_short_for_d2net(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", features=arrays(*FOUR), duration=np.full((4, 1), 2.56))
    refused(
        tmp_path, r"Tiny: no training video has both a label and 5 snippets with features; add",
        *on(tmp_path, "d2net_thumos"),
    )  # fmt: skip


def test_no_config():
    for arguments in ([], ["--config"], ["--workdir=run"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert re.fullmatch(r"error: .*--config.*\n", err), err


def test_options_from_a_file(tmp_path):
    (tmp_path / "options").write_text("--config=configs/co2net_demo.py\n--config.train.stepz=3\n")
    refused(tmp_path, r"config\.train has no field 'stepz'", f"--flagfile={tmp_path / 'options'}")


def test_a_config_file_with_a_mistake(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\ndef get_config(:\n")
    refused(tmp_path, r"mine\.py, line 2: SyntaxError: ", f"--config={tmp_path / 'mine.py'}")
    (tmp_path / "mine.py").write_text("def get_config():\n    return {}['a']\n")
    refused(tmp_path, r"mine\.py, line 2: KeyError: 'a'", f"--config={tmp_path / 'mine.py'}")
    (tmp_path / "mine.py").write_text("def get_config():\n    return 3\n")
    refused(tmp_path, r"mine\.py: get_config\(\) returns 3", f"--config={tmp_path / 'mine.py'}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and its data."""
    root = tmp_path_factory.mktemp("finished")
    (root / "data").mkdir()
    write(root / "data")
    code, _, err = run(*on(root))
    assert code == 0, err
    return root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seed=5"], r"holds a run with a different config: config\.seed: 3552 there, 5 here; give"),
        (["--config.loss.weights.norm=0", "--config.train.pairs=2"],
         r"config\.loss\.weights\.norm: 0\.8 there, 0\.0 here; config\.train\.pairs: 3 there, 2 here"),
        (["--config.train.steps=1"], r"already at step 2, beyond --config\.train\.steps=1; raise it or"),
        (["--config.train.steps=3", "--config.train.stepz=3"], r"no field 'stepz'"),
    ],
)  # fmt: skip
def test_a_finished_run_stays_as_it_is(finished, arguments, message):
    refused(finished, message, *on(finished), *arguments)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    return root


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": damaged(np.nan)}, r"video c: NaN features"),
        ({"features": arrays((10, 8), (14, 8), (7, 8), (8, 8))}, r"different data: checksum: .* features a snippet: 6 there, 8 here; snippets: 40 there, 39 here; give"),
        ({"labels_all": objects([["Jump"], ["Jump"], [], []])}, r"holds a run on different data: checksum: \d+ there, \d+ here; give another"),
        ({"videoname": np.array(["a", "b", "c", "e"])}, r"holds a run on different data: checksum"),
    ],
)  # fmt: skip
def test_a_finished_run_outlives_its_data(copy, changes, message):
    write(copy / "data", **changes)
    refused(copy, message, *on(copy), "--config.train.steps=4")


def test_corrected_test_annotations_may_be_evaluated(copy):
    write(copy / "data", segments=objects([[[0.5, 1.5]], [[1, 2], [3, 4.5]], [[1, 2]], []]))
    code, _, err = run(*on(copy), "--mode=eval")
    assert code == 0, err


def test_a_damaged_checkpoint(copy):
    manifest = copy / "run" / "checkpoints" / "2" / "state" / "manifest.ocdbt"
    manifest.write_bytes(bytes(manifest.stat().st_size))
    message = r"checkpoints/2: this checkpoint is damaged \(state/manifest.ocdbt has changed\)"
    refused(copy, f"{message}; none is good", *on(copy), "--mode=eval")
    code, out, err = run(*on(copy), "--config.train.steps=4")
    assert code == 0, err
    assert re.search(f"warning: .*{message}; moving it to .*damaged/2", err)
    assert "resuming" not in out


def test_checkpoints_that_are_cut_short(copy):
    """Evaluation rejects one; `tests/training/test_survival.py` covers training after one."""
    for step in (copy / "run" / "checkpoints").iterdir():
        os.truncate(step / "state" / "manifest.ocdbt", 3)
    refused(
        copy, r"checkpoints/2: this checkpoint is damaged \(state/manifest.ocdbt has 3 of",
        *on(copy), "--mode=eval",
    )  # fmt: skip


def test_tiny_data_cannot_be_generated_from_nothing(tmp_path):
    arguments = [*TINY, f"--workdir={tmp_path / 'run'}"]
    refused(
        tmp_path, r"num_train", *arguments, f"--config.data.generator={TINY_VIDEOS} num_train=0"
    )
    refused(
        tmp_path, r"No such file.*wanted a JSON file",
        *arguments, f"--config.data.generator=demo annotations={tmp_path / 'none.json'}",
    )  # fmt: skip
