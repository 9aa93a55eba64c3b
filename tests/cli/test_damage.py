"""Commands on a run whose files were damaged or edited: nothing is passed off, nothing is lost."""

import json
import re
import shutil

import pytest

from jaxtal.training import checkpoint_integrity
from tests.helpers.command import TINY, outcome, run, run_program, snapshot

RUN = [*TINY, "--config.train.steps=8", "--config.evaluation.plot_videos=0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with checkpoints of two steps."""
    folder = tmp_path_factory.mktemp("whole")
    code, _, err = run(*RUN, f"--workdir={folder}")
    assert code == 0, err
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def flip(path):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def export(copy, *arguments):
    """Export, which loads the model like a prediction does."""
    return run_program(
        "export", f"--workdir={copy}", f"--output={copy / 'model.jaxtal'}", *arguments
    )


@pytest.mark.parametrize(
    "name", ["parameters", "sealed.json", "state/_sharding", "progress/metadata"]
)
def test_a_bit_of_the_newest_checkpoint(whole, copy, name):
    newest = copy / "checkpoints" / "8"
    flip(largest(newest / "state") if name == "parameters" else newest / name)
    before = snapshot(copy)
    for code, out, err in (export(copy), run(*RUN, f"--workdir={copy}", "--mode=eval")):
        assert (code, out) == (2, "")
        assert re.fullmatch(
            r"error: \S+/checkpoints/8: this checkpoint is damaged \(\S+ \w+ \w+\); --checkpoint=4 "
            r"uses another one, which is good\n",
            err,
        )
    assert snapshot(copy) == before
    code, _, err = export(copy, "--checkpoint=4")
    assert code == 0, err
    code, _, err = run(*RUN, f"--workdir={copy}", "--mode=eval", "--checkpoint=4")
    assert code == 0, err
    again = json.loads((copy / "evaluations" / "step=4" / "result.json").read_text())
    assert again["step"] == 4
    assert outcome(copy) == outcome(whole)
    code, out, err = run(*RUN, f"--workdir={copy}")
    assert code == 0, err
    assert re.search(
        r"warning: .*/8: this checkpoint is damaged .*; moving it to .*/damaged/8", err
    )
    assert "resuming from step 4" in out
    assert outcome(copy) == outcome(whole)
    assert not checkpoint_integrity.find_damage(newest)


def test_a_damaged_log_does_not_stop_a_run(whole, copy):
    path = copy / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], '{"step": 10, garbage', *lines[2:], ""]))
    code, _, err = run(*RUN, f"--workdir={copy}", "--mode=eval")
    assert (code, err) == (0, "")
    damaged = path.read_text()
    code, _, err = run(*RUN, f"--workdir={copy}")
    assert code == 0
    assert re.fullmatch(r"warning: .*metrics.jsonl: line 2 is damaged .*\n", err)
    assert (copy / "damaged" / "metrics.jsonl").read_text() == damaged
    assert outcome(copy)[1] == outcome(whole)[1]


def edit(path, keep_sum, change):
    content = json.loads(path.read_text())
    change(content)
    if not keep_sum:
        del content["sha256"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("keep_sum", [True, False])
@pytest.mark.parametrize("name", ["config.json", "model.json"])
def test_an_edited_file_is_not_used(copy, name, keep_sum):
    def change(content):
        if name == "config.json":
            content["localization"]["sigma"] = 0.5
        else:
            content["classes"].reverse()

    edit(copy / name, keep_sum, change)
    code, out, err = export(copy)
    assert (code, out) == (2, "")
    message = "damaged or edited" if keep_sum else "not what the checkpoint was trained with"
    assert f"{name}: {message}" in err
    (copy / name).unlink()
    code, _, err = run(*RUN, f"--workdir={copy}", "--mode=eval")
    assert code == 0, err
    code, _, err = export(copy)
    assert code == 0, err


def test_a_missing_config_does_not_allow_another_one(copy):
    (copy / "config.json").unlink()
    for mode in ("train", "eval"):
        code, _, err = run(*RUN, "--config.seed=5", f"--workdir={copy}", f"--mode={mode}")
        assert code == 2
        assert "holds a run with a different config: config.seed: 0 there, 5 here" in err


def test_a_checkpoint_of_another_run_is_not_used(copy, tmp_path):
    """The config inside the checkpoint is compared, and the one beside it as well."""
    other = tmp_path / "other"
    code, _, err = run(*RUN, "--config.seed=7", f"--workdir={other}")
    assert code == 0, err
    swapped = tmp_path / "swapped"
    shutil.copytree(copy, swapped)
    shutil.copy(other / "config.json", swapped / "config.json")
    shutil.rmtree(copy / "checkpoints" / "8")
    shutil.copytree(other / "checkpoints" / "8", copy / "checkpoints" / "8")
    for folder, seed, where in ((copy, 0, "7 there, 0 here"), (swapped, 7, "0 there, 7 here")):
        for mode in ("train", "eval"):
            options = f"--workdir={folder}", f"--mode={mode}", f"--config.seed={seed}"
            code, out, err = run(*RUN, *options)
            assert (code, out) == (2, "")
            assert f"config.json: not what the checkpoint was trained with: seed: {where}" in err


def test_a_checkpoint_whose_manifest_is_gone_is_damaged(copy):
    (copy / "checkpoints" / "8" / "sealed.json").unlink()
    code, _, err = export(copy)
    assert code == 2
    assert "checkpoints/8: this checkpoint is damaged (sealed.json is missing)" in err


def test_a_renamed_checkpoint_is_not_used(copy):
    shutil.rmtree(copy / "checkpoints" / "8")
    (copy / "checkpoints" / "4").rename(copy / "checkpoints" / "8")
    for code, out, err in (export(copy), run(*RUN, f"--workdir={copy}")):
        assert (code, out) == (2, "")
        assert "checkpoints/8: this is the checkpoint of step 4; rename the folder to 4" in err


def test_the_checkpoint_is_for_evaluations(copy):
    code, _, err = run(*RUN, f"--workdir={copy}", "--checkpoint=4")
    assert code == 2
    assert "--checkpoint is for --mode=eval; training resumes from the last checkpoint" in err
    code, _, err = run_program(
        "predict", "--exported=model.jaxtal", "--features=.", "--checkpoint=4"
    )
    assert code == 2
    assert "--checkpoint are for --workdir" in err


def test_the_best_checkpoint_is_evaluated_exported_and_reported(copy):
    """The run's test results at steps 4 and 8 are changed so that step 4 is the best."""
    for step, average in ((4, 0.5), (8, 0.25)):
        folder = copy / "checkpoints" / str(step)
        progress = json.loads((folder / "progress" / "metadata").read_text())
        progress["evaluation"][0]["average"]["0.1:0.7"] = average
        (folder / "progress" / "metadata").write_text(json.dumps(progress))
        checkpoint_integrity.write_manifest(folder)
    report = ("report", f"--workdir={copy}", "--checkpoint=best", f"--output={copy / 'a.html'}")
    code, _, err = run_program(*report)
    assert code == 2
    assert "step 4 has not been evaluated on its own" in err
    code, _, err = run(*RUN, f"--workdir={copy}", "--mode=eval", "--checkpoint=best")
    assert code == 0, err
    assert (copy / "evaluations" / "step=4" / "result.json").is_file()
    code, _, err = run_program(*report)
    assert code == 0, err
    assert "step=4" in (copy / "a.html").read_text()
    for which in ("best", "4"):
        code, _, err = export(copy, f"--checkpoint={which}")
        assert code == 0, err
        (copy / "model.jaxtal").rename(copy / which)
    assert (copy / "best").read_bytes() == (copy / "4").read_bytes()
    code, _, err = export(copy, "--checkpoint=newest")
    assert code == 2
    assert "wanted last, best, or the step of a checkpoint" in err


def test_evaluating_while_training_goes_on(copy):
    """The log of a longer run keeps every line."""
    before = snapshot(copy)
    code, _, err = run(*RUN, f"--workdir={copy}", "--config.train.steps=40", "--mode=eval")
    assert code == 0, err
    after = snapshot(copy)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {str(copy)}
    added = after.keys() - before.keys()
    assert all(name.startswith(str(copy / "evaluations")) for name in added)
