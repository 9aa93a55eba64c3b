"""The commands `jaxtal data inspect` and `jaxtal data convert`, as a user runs them."""

import json

import numpy as np

from jaxtal.data import layouts
from tests.data.layouts.test_layouts import actionformer
from tests.data.layouts.test_wtalc import write as write_wtalc
from tests.helpers import layout_cases
from tests.helpers.command import run_program


def datasets(command, *arguments):
    return run_program(f"data {command}", *arguments)


def failed(*arguments) -> str:
    """Return the error line of a command that fails."""
    code, _, err = datasets(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    return err


def test_inspect(tmp_path):
    write_wtalc(tmp_path)
    figure, numbers = tmp_path / "p.png", tmp_path / "n.json"
    code, out, err = datasets("inspect", tmp_path, f"--figure={figure}", f"--output={numbers}")
    assert (code, err) == (0, "")
    assert "Tiny, layout wtalc" in out
    assert "time grid: 25 fps, stride 16, window 16 frames, assumed" in out
    assert "features: 40 snippets of 4 videos, 3 + 3 float16" in out
    assert "2 videos, 3 instances" in out
    assert "note: 1 test videos without a label: d" in out
    assert figure.stat().st_size > 10_000
    assert json.loads(numbers.read_text())["subsets"]["train"]["instances"] == 3


def test_convert_and_back(tmp_path):
    actionformer(tmp_path / "a", fps=24.0)
    out = tmp_path / "b"
    code, printed, err = datasets("convert", tmp_path / "a", "--to", "wtalc", out, "--name=New")
    assert code == 0, err
    assert "annotations and features of 2 videos" in printed
    assert "30 fps, stride 4, window 16; other programs that read the layout 'wtalc' assume" in err
    back = layouts.read(out)
    assert (back.dataset.name, back.videos[0].fps) == ("New", 24)
    np.testing.assert_array_equal(
        back.read(back.videos[0]).features, np.load(tmp_path / "a/i3d_features/a.npy")
    )
    code, _, err = datasets("convert", out, tmp_path / "c", "--to=actionformer")
    assert (code, err) == (0, "")
    layout_cases.assert_same(layouts.read(tmp_path / "c"), back)


def test_mistakes_are_one_line(tmp_path):
    error = failed("look", tmp_path)
    assert "wanted one of data inspect, data convert, data prepare" in error
    assert "inspect needs PATH; got 0 paths" in failed("inspect")
    assert "convert needs PATH and OUT; got 1 paths" in failed("convert", tmp_path)
    assert "no data set is detected" in failed("inspect", tmp_path)
    assert "--to is missing" in failed("convert", tmp_path, tmp_path / "o")
    assert "Unknown command line flag 'nothing'" in failed("inspect", tmp_path, "--nothing")
    write_wtalc(tmp_path)
    assert "no folder" in failed("inspect", tmp_path, f"--figure={tmp_path}/no/p.png")
    assert "layout 'x' cannot be written" in failed("convert", tmp_path, tmp_path / "o", "--to=x")


def test_a_damaged_video_is_named_and_skipped_on_request(tmp_path):
    actionformer(tmp_path / "a")
    path = tmp_path / "a/i3d_features/b.npy"
    path.write_bytes(path.read_bytes()[:-100])
    error = failed("convert", tmp_path / "a", tmp_path / "o", "--to=acmnet")
    assert "b.npy: not a complete .npy file" in error
    assert "--skip_damaged" not in error  # no test video would remain
    code, out, err = datasets(
        "convert", tmp_path / "a", tmp_path / "p", "--to=acmnet", "--skip_damaged"
    )
    assert code == 0, err
    assert "annotations and features of 1 videos" in out
    assert "warning: skipped" in err
    assert "b.npy" in err
