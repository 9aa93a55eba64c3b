"""Models of work directories by run and member."""

import json
import shutil

import numpy as np
import pytest

from jaxtal.data.io import json_files
from jaxtal.errors import DataError
from jaxtal.reporting import variants
from tests.helpers.command import TINY, run, run_program


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """A population of two, whose activations were saved."""
    folder = tmp_path_factory.mktemp("two") / "run"
    fields = ("train.steps=2", "population=2", "evaluation.save_activations=True")
    code, _, err = run(*TINY, *(f"--config.{field}" for field in fields), f"--workdir={folder}")
    assert code == 0, err
    return folder


def test_curves_are_those_that_were_saved_or_are_computed_again(population, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(population, bare)
    for path in bare.rglob("activations.npz"):
        path.unlink()
    chosen = [variants.parse(f"{folder}:{m}") for folder in (population, bare) for m in (0, 1)]
    truth = variants.read_truth(chosen)
    labels = variants.labels(chosen)
    assert labels == ["run:0", "run:1", "bare:0", "bare:1"]
    read = [variants.read(*each, truth, [1, 4]) for each in zip(chosen, labels, strict=True)]
    for saved, computed in zip(read[:2], read[2:], strict=True):
        assert sorted(saved.outputs) == sorted(computed.outputs) == [1, 4]
        for index in (1, 4):
            np.testing.assert_allclose(
                saved.activations[index], computed.activations[index], atol=1e-5
            )
        np.testing.assert_array_equal(saved.found.score, computed.found.score)
    assert not np.array_equal(read[0].found.score, read[1].found.score)


def test_the_command(population, tmp_path):
    output = tmp_path / "timelines.svg"
    arguments = [f"{population}:0", f"{population}:ensemble", f"--output={output}"]
    code, out, err = run_program("figure", "timelines", *arguments, "--names=first,mean of both")
    assert (code, err) == (0, "")
    assert "2 videos, 2 models" in out
    assert output.stat().st_size > 10_000
    code, _, err = run_program("figure", "timelines", *arguments, "--videos=test_0000")
    assert code == 2
    assert "--videos: no test video 'test_0000'; did you mean test_0000" in err
    code, _, err = run_program("figure", "timelines", *arguments, "--names=first")
    assert code == 2
    assert "--names has 1 names; there are 2 models" in err


def test_what_is_no_model(population, tmp_path):
    for text, message in {
        str(tmp_path): "no work directory; wanted RUN, RUN:MEMBER or RUN:ensemble",
        str(population): "it is a population; .*run has :0, :1; a member",
        f"{population}:2": "members/2/detections.json; it is a population",
    }.items():
        with pytest.raises(DataError, match=message):
            variants.parse(text)


def test_models_in_one_figure_have_the_same_videos(population, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(population, other)
    content = json.loads((other / "annotations.json").read_text())
    content.pop("sha256")
    name = next(n for n in content["database"] if n.startswith("test"))
    content["database"][name]["annotations"].pop()
    (other / "annotations.json").write_text(json_files.to_text(content))
    chosen = [variants.parse(f"{folder}:0") for folder in (population, other)]
    with pytest.raises(DataError, match=r"other: other test videos or classes than in"):
        variants.read_truth(chosen)
