"""The public command on three parts, without test videos, and on labels without segments."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxtal.data import synthetic
from jaxtal.data.io import json_files
from tests.helpers.command import TINY, TINY_VIDEOS, run, run_program

STEPS = ["--config.train.steps=12", "--config.data.fps=25", "--config.data.stride=16"]


def write(folder: Path, parts: dict[str, str], bare: str = "") -> list[str]:
    """Write generated videos in OpenTAD's layout; return the command's arguments.

    Args:
        folder: the folder.
        parts: subset by the first letters of the names of its videos.
        bare: subset whose videos have labels but no segments.
    """
    data = synthetic.generate(synthetic.parse(TINY_VIDEOS))
    (folder / "annotations").mkdir(parents=True)
    (folder / "features" / "set").mkdir(parents=True)
    database = {}
    for video in data.videos:
        np.save(folder / "features" / "set" / f"{video.name}.npy", video.features)
        names = [data.classes[label] for label in video.segment_labels]
        timed = [
            {"label": name, "segment": times}
            for name, times in zip(names, video.segments.tolist(), strict=True)
        ]
        subset = next(subset for start, subset in parts.items() if video.name.startswith(start))
        listed = [{"label": name} for name in names] if subset == bare else timed
        database[video.name] = {"subset": subset, "duration": video.duration, "annotations": listed}
    (folder / "annotations" / "mine.json").write_text(json.dumps({"database": database}))
    (folder / "annotations" / "category_idx.txt").write_text("\n".join(data.classes))
    return [*TINY, *STEPS, f"--config.data.dir={folder}", "--config.data.name=mine"]


def result_of(workdir: Path) -> dict:
    text = (workdir / "result.json").read_text()
    assert "NaN" not in text
    return json_files.load(workdir / "result.json", "a result")


def evaluations(workdir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "map" in line]


THREE = {"train_0000": "Train", "train_": "Spare", "test_00000": "Val", "test_00001": "Val",
         "test_00002": "Val", "test_": "Test"}  # fmt: skip


def test_validation_videos_judge_and_test_videos_are_evaluated_at_the_end(tmp_path):
    arguments = write(tmp_path / "data", THREE)
    code, out, err = run(*arguments, f"--workdir={tmp_path / 'run'}")
    assert code == 0, err
    said = " ".join(out.split())
    assert "mine: 10 training, 3 validation and 3 test videos; unused: 2 of subset 'Spare';" in said
    assert out.count("validation mAP") == 3
    assert "step 12: test mAP" in out
    result = result_of(tmp_path / "run")
    assert "best_on_test" not in result
    lines = evaluations(tmp_path / "run")
    assert [line["on"] for line in lines] == ["validation"] * 3
    judged = [np.mean([line["map"][f"0.{d}"] for d in range(1, 8)]) for line in lines]
    best = result["best_on_validation"]
    assert best["step"] == [4, 8, 12][int(np.argmax(judged))]
    assert best["map"] == lines[int(np.argmax(judged))]["map"]
    check_test_result(tmp_path, result)
    check_test_result_of_the_best_step(tmp_path, arguments, best)
    code, _, err = run(*arguments, f"--workdir={tmp_path / 'run'}", "--mode=eval")
    assert code == 0, err
    again = result_of(tmp_path / "run")
    del result["seconds"], again["seconds"]
    assert again == result


def check_test_result(tmp_path: Path, result: dict) -> None:
    """The numbers are those of the written detections in the test videos alone."""
    found = json.loads((tmp_path / "run" / "detections.json").read_text())["results"]
    database = json.loads((tmp_path / "data" / "annotations" / "mine.json").read_text())["database"]
    assert found.keys() == {name for name, entry in database.items() if entry["subset"] == "Test"}
    output = tmp_path / "evaluation.json"
    code, _, err = run_program(
        "evaluate", f"--annotations={tmp_path / 'run' / 'annotations.json'}", "--protocol=co2",
        f"--detections={tmp_path / 'run' / 'detections.json'}", f"--output={output}",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(output.read_text())["protocols"]["co2"]
    assert report["map"] == pytest.approx(result["map"], abs=1e-12)


def check_test_result_of_the_best_step(tmp_path: Path, arguments: list, best: dict) -> None:
    """The test result of the best step is that of a run that ends there."""
    arguments = [*arguments, f"--config.train.steps={best['step']}"]
    code, _, err = run(*arguments, f"--workdir={tmp_path / 'short'}")
    assert code == 0, err
    short = result_of(tmp_path / "short")
    assert best["test"]["step"] == short["step"] == best["step"]
    for key in ("map", "average", "f1", "classification_map", "official"):
        assert best["test"][key] == short[key]


@pytest.mark.slow
def test_a_population_with_validation_videos(tmp_path):
    arguments = write(tmp_path / "data", THREE)
    arguments += ["--config.population=2", "--config.train.steps=8"]
    code, out, err = run(*arguments, f"--workdir={tmp_path / 'run'}")
    assert code == 0, err
    assert "validation, best step" in " ".join(out.split())
    result = result_of(tmp_path / "run")
    lines = evaluations(tmp_path / "run")
    for index, member in enumerate(result["members"]):
        curve = [line["members"]["0.1:0.7"][index] for line in lines]
        best = member["best_on_validation"]
        assert (best["step"], best["average"]["0.1:0.7"]) == (
            [4, 8][int(np.argmax(curve))],
            max(curve),
        )
    code, _, err = run_program(
        "report", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'report.html'}"
    )
    assert code == 0, err
    assert "validation, best step" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("population", [1, 2])
def test_without_test_videos_it_trains_and_predicts_nothing(tmp_path, population):
    arguments = write(tmp_path / "data", {"": "training"}, bare="training")
    arguments += [f"--config.population={population}", f"--workdir={tmp_path / 'run'}"]
    for mode in ("train", "eval"):
        code, out, err = run(*arguments, f"--mode={mode}")
        assert code == 0, err
        said = " ".join(out.split())
        assert "mine: 18 training and 0 test videos" in said
        assert said.count("no test videos, so nothing is predicted or tested") == 1
        assert "nan" not in said
        assert not [*(tmp_path / "run").rglob("detections.json")]
    assert result_of(tmp_path / "run")["step"] == 12
    assert "map" not in result_of(tmp_path / "run")
    features = tmp_path / "data" / "features" / "set"
    chosen = ["--member=0"] if population > 1 else []
    code, _, err = run_program(
        "predict", "--workdir", tmp_path / "run", "--features", features, *chosen,
        f"--output={tmp_path / 'found.json'}",
    )  # fmt: skip
    assert code == 0, err
    assert len(json.loads((tmp_path / "found.json").read_text())["results"]) == 18


@pytest.mark.parametrize("population", [1, 2])
def test_a_test_set_without_segments_gets_detections_and_no_map(tmp_path, population):
    arguments = write(tmp_path / "data", {"train": "train", "test": "test"}, bare="test")
    arguments += [f"--config.population={population}", f"--workdir={tmp_path / 'run'}"]
    code, out, err = run(*arguments)
    assert code == 0, err
    said = " ".join(out.split())
    assert said.count("so detections are written without mAP") == 1
    assert "nan" not in said
    result = result_of(tmp_path / "run")
    assert "map" not in result
    assert "best_on_test" not in result
    folders = ["."] if population == 1 else ["members/0", "members/1", "ensemble"]
    for folder in folders:
        found = json.loads((tmp_path / "run" / folder / "detections.json").read_text())["results"]
        assert len(found) == 6
        assert sum(map(len, found.values()))
    member = result["members"][0] if population > 1 else result
    assert 0 <= member["classification_map"] <= 1  # the labels are known


def test_labels_are_all_that_training_needs(tmp_path):
    names = {"train": "training", "test": "validation"}
    results = []
    for bare in ("", "training"):
        arguments = write(tmp_path / f"data{bare}", names, bare)
        code, _, err = run(*arguments, f"--workdir={tmp_path / f'run{bare}'}")
        assert code == 0, err
        results.append(result_of(tmp_path / f"run{bare}"))
        del results[-1]["seconds"]
    assert results[0] == results[1]


def test_validation_without_test_videos(tmp_path):
    """The best step is selected, and nothing is called a result on test videos."""
    arguments = write(tmp_path / "data", {"train_": "Train", "test_": "in no list"})
    subsets = ["--config.data.train_subset=Train", "--config.data.validation_subset=in no list"]
    code, out, err = run(*arguments, *subsets, f"--workdir={tmp_path / 'run'}")
    assert code == 0, err
    assert "validation mAP" in out
    assert "test mAP" not in out
    result = result_of(tmp_path / "run")
    assert "map" not in result
    assert result["best_on_validation"]["map"]
    assert not (tmp_path / "run" / "detections.json").exists()
