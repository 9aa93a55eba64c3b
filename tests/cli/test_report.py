"""The command `jaxtal report` on complete, partial and damaged runs."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxtal.data.io import json_files
from tests.helpers.command import TINY, run, run_program, snapshot
from tests.reporting.test_html import Elements


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a run and a population, both with their activations.

    The population is not trained: compilation is slow, and makes no difference for a report.
    """
    folder = tmp_path_factory.mktemp("runs")
    for name, config, steps, members in (("single", "co2net", 4, 1), ("seeds", "d2net", 0, 2)):
        code, _, err = run(
            f"--config=configs/{config}_demo.py", *TINY[1:], f"--config.population={members}",
            f"--workdir={folder / name}", f"--config.train.steps={steps}",
            "--config.evaluation.save_activations=True",
        )  # fmt: skip
        assert code == 0, err
    return folder


def report(output: Path, *folders: Path) -> tuple[Elements, str]:
    """Return the page and the output on stderr."""
    code, out, err = run_program(
        "report", *(f"--workdir={folder}" for folder in folders), f"--output={output}"
    )
    assert code == 0, err
    assert f"{len(folders)} run" in out
    return Elements(output.read_text()), err


def result_of(folder: Path) -> dict:
    return json_files.load(folder / "result.json", "a result")


def test_a_run_and_a_population(trained, tmp_path):
    elements, err = report(tmp_path / "report.html", trained / "single", trained / "seeds")
    assert err == ""
    text = " ".join(elements.text.split())
    single, seeds = (result_of(trained / name) for name in ("single", "seeds"))
    for number in (*single["map"].values(), *single["official"]["average"].values()):
        assert f"{100 * number:.1f}" in text
    for mean, sd in zip(seeds["mean"]["map"].values(), seeds["sd"]["map"].values(), strict=True):
        assert f"{100 * mean:.1f}± {100 * sd:.1f}" in text
    (group,) = json.loads(elements.raw["script"][0])["groups"]
    names = ["single", "seeds, member 0", "seeds, ensemble"]
    folders = [trained / name for name in ("single", "seeds/members/0", "seeds/ensemble")]
    for index, (model, name, folder) in enumerate(
        zip(group["models"], names, folders, strict=True)
    ):
        assert model["name"] == name
        found = json.loads((folder / "detections.json").read_text())["results"]
        assert model["count"] == sum(map(len, found.values()))
        for video in group["videos"]:
            shown = video["found"][index]
            assert shown["all"] == len(found[video["name"]])
            assert len(shown["score"]) == min(shown["all"], 200)
            assert video["curves"][index]["attention"]
    assert [title for title in names if f"Errors of {title}" in str(elements.found)] == names
    assert [n for n in ("single", "seeds") if f"mAP of {n} by" in str(elements.found)]


def test_the_annotations_are_saved_with_every_run(trained, tmp_path):
    """Without the activations only the curves are missing."""
    for name in ("single", "seeds"):
        shutil.copytree(trained / name, tmp_path / name)
        for path in (tmp_path / name).rglob("activations.npz"):
            path.unlink()
        assert [path.parent for path in (tmp_path / name).rglob("annotations.json")] == [
            tmp_path / name
        ]
    elements, err = report(tmp_path / "report.html", tmp_path / "single", tmp_path / "seeds")
    lines = err.splitlines()
    for name, line in zip(("single", "seeds, member 0", "seeds, ensemble"), lines, strict=True):
        assert line == (
            f"warning: {name}: no curves of its attention and T-CAM, as there is no "
            "activations.npz; repeat the run's command with "
            "--config.evaluation.save_activations=True, which writes what is missing"
        )
        # The page, which is not about commands, spells arguments without dashes.
        assert re.sub("--(?=mode|config)", "", line).removeprefix("warning: ") in elements.text
    (group,) = json.loads(elements.raw["script"][0])["groups"]
    assert all(video["curves"] == [None] * 3 for video in group["videos"])


def test_a_run_of_an_earlier_version(trained, tmp_path):
    """Without annotations and metrics, the page has the results only."""
    for name in ("new", "a/old"):
        shutil.copytree(trained / "single", tmp_path / name)
    for name in ("annotations.json", "metrics.jsonl"):
        (tmp_path / "a" / "old" / name).unlink()
    elements, err = report(tmp_path / "report.html", tmp_path / "new", tmp_path / "a" / "old")
    assert re.fullmatch(
        r"warning: old: no AP by class, errors and videos, as there is no annotations.json; "
        r"repeat the run's command with .*\n", err
    )  # fmt: skip
    (group,) = json.loads(elements.raw["script"][0])["groups"]
    assert [model["name"] for model in group["models"]] == ["new"]
    assert "Synthetic, annotations not saved" in elements.text


def test_a_member_that_has_diverged_is_omitted(trained, tmp_path):
    shutil.copytree(trained / "seeds", tmp_path / "seeds")
    path = tmp_path / "seeds" / "result.json"
    result = result_of(path.parent)
    first = result["members"][0]
    result["members"][0] = {"seed": first["seed"], "values": {}, "diverged": 2, "step": 4}
    path.write_text(json.dumps(result))
    shutil.rmtree(tmp_path / "seeds" / "members" / "0")
    elements, err = report(tmp_path / "report.html", tmp_path / "seeds")
    assert "seeds: diverged, and excluded from all numbers: member 0" in err
    (group,) = json.loads(elements.raw["script"][0])["groups"]
    assert [model["name"] for model in group["models"]] == ["seeds, member 1", "seeds, ensemble"]


def test_a_custom_method_has_no_curves(trained, tmp_path):
    shutil.copytree(trained / "single", tmp_path / "single")
    path = tmp_path / "single" / "config.json"
    path.write_text(json.dumps({**json_files.load(path, "a config"), "method": "mine"}))
    elements, err = report(tmp_path / "report.html", tmp_path / "single")
    assert "single: no curves, as its method is not one of this package's" in err
    assert json.loads(elements.raw["script"][0])["groups"][0]["videos"]


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Return a function that damages a text file, and removes its checksum."""

    def damage(folder: Path) -> None:
        text = change((folder / name).read_text())
        (folder / name).write_text(re.sub(r',\s*"sha256": "\w+"', "", text))

    return damage


def swap_classes(folder: Path) -> None:
    with np.load(folder / "activations.npz") as saved:
        np.savez(folder / "activations.npz", **{**saved, "classes": saved["classes"][::-1]})


DAMAGE = {
    "no such folder": (shutil.rmtree, "not the work directory of a run: it has no config.json"),
    "no work directory": (
        lambda d: (d / "config.json").unlink(),
        "not the work directory of a run: it has no config.json; give the",
    ),
    "unfinished": (lambda d: (d / "result.json").unlink(), "the run there has not finished; run"),
    "result cut short": (edit("result.json", lambda t: t[:99]), "result.json: not a JSON file"),
    "result of another kind": (edit("result.json", lambda t: "{}"), "result.json: .*; wanted res"),
    "detections cut short": (edit("detections.json", lambda t: t[:-9]), "detections.json: not a"),
    "unknown video": (
        edit("detections.json", lambda t: t.replace("test_00001", "who")),
        "detections.json, video who: .* in no video of Synthetic",
    ),
    "another score": (
        lambda d: (d / "detections.json").write_text(
            (d / "detections.json").read_text().replace('"score": 0.', '"score": 1.', 1)
        ),
        "detections.json: damaged or edited",
    ),
    "annotations cut short": (edit("annotations.json", lambda t: t[:-9]), "annotations.json: not"),
    "metrics damaged": (
        edit("metrics.jsonl", lambda t: "{\n" + t),
        "metrics.jsonl: line 1 is damaged .*; delete the line, or",
    ),
    "activations cut short": (
        lambda d: (d / "activations.npz").write_bytes(b"PK\3\4"),
        "activations.npz: not a complete .npz file",
    ),
    "other classes": (
        swap_classes,
        "videos or classes are not those of annotations.json; repeat",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line_and_nothing_is_written(damage, trained, tmp_path):
    change, message = DAMAGE[damage]
    shutil.copytree(trained / "single", tmp_path / "run", ignore=shutil.ignore_patterns("check*"))
    change(tmp_path / "run")
    output = tmp_path / "report.html"
    output.write_text("the report before")
    before = snapshot(tmp_path)
    code, out, err = run_program("report", f"--workdir={tmp_path / 'run'}", f"--output={output}")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: .*{message}.*\n", err), err
    assert snapshot(tmp_path) == before


def test_invalid_arguments(trained, tmp_path):
    once = f"--workdir={trained / 'single'}"
    file = tmp_path / "file"
    file.write_text("")
    for arguments, message in (
        ((), "--workdir is missing; Work directory of a finished run"),
        ((once, f"--workdir={trained}/seeds/../single"), "is given twice; name each folder once"),
        ((once, f"--output={tmp_path / 'no' / 'report.html'}"), "no folder .* to write in; give"),
        ((once, f"--output={tmp_path}"), "is a folder; give the name of a file to write"),
        ((once, "--output="), "--output is missing"),
        ((once, "--videos=0"), "--videos=0: 0 is not a positive integer"),
        ((f"--workdir={file}",), "not the work directory of a run"),
    ):
        code, out, err = run_program("report", *arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(rf"error: .*{message}.*\n", err), err
    assert list(tmp_path.iterdir()) == [file]
