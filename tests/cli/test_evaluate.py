"""The commands `jaxtal evaluate` and `jaxtal localize`, as a user runs them."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

from jaxtal.data import activitynet_writer, detections, layouts
from jaxtal.evaluation import detection_map, protocols
from tests.conftest import GOLDEN, ROOT
from tests.helpers.command import TINY, run, run_program, start


def entry(subset: str, *segments) -> dict:
    """Return a video with instances (label, start, end)."""
    annotations = [{"label": label, "segment": [start, end]} for label, start, end in segments]
    return {"subset": subset, "duration": 60.0, "annotations": annotations}


DATABASE = {
    "t": entry("training", ("Dive", 1, 2), ("Jump", 3, 4)),
    "a": entry("validation", ("Dive", 0, 10), ("Dive", 20, 30)),
    "b": entry("validation", ("Jump", 5, 9), ("Dive", 40, 44)),
}
RESULTS = {
    "a": [
        {"label": "Dive", "segment": [0, 10], "score": 0.9},
        {"label": "Dive", "segment": [20, 26], "score": 0.7},
    ],
    "b": [{"label": "Dive", "segment": [5, 9], "score": 0.8}],
}


@pytest.fixture
def files(tmp_path):
    """Function that writes annotations and detections, and returns the arguments for them."""

    def write(database=None, results=RESULTS, name="truth.json"):
        (tmp_path / name).write_text(json.dumps({"database": database or DATABASE}))
        (tmp_path / "found.json").write_text(json.dumps({"results": results}))
        return f"--annotations={tmp_path / name}", f"--detections={tmp_path / 'found.json'}"

    return write


def test_every_number_in_one_file(files, tmp_path):
    """By hand: Dive has 3 instances, true positives at ranks 1 and 3, a wrong label at rank 2."""
    output, figure = tmp_path / "scores.json", tmp_path / "errors.png"
    code, out, err = run_program(
        "evaluate", *files(), "--protocol=official", "--protocol", "co2", f"--output={output}",
        f"--figure={figure}", "--top=5",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for text in ("official", "co2", "wrong label", "above 18", "Jump 5.0 to 9.0"):
        assert text in out
    scores = json.loads(output.read_text())
    assert list(scores["protocols"]) == ["official", "co2"]
    row = scores["protocols"]["official"]
    dive = (1 + 2 / 3) / 3
    assert row["map"]["0.5"] == pytest.approx(dive / 2)
    assert row["map"]["0.7"] == pytest.approx(1 / 3 / 2)
    assert row["average"]["0.1:0.5"] == pytest.approx(dive / 2)
    assert row["per_class"]["Dive"]["map"]["0.5"] == pytest.approx(dive)
    assert row["per_class"]["Jump"]["detections"] == 0
    counts = row["counts"]
    assert (counts["instances"], counts["detections"], counts["classes"]) == (4, 3, 2)
    kinds = row["errors"]["kinds"]
    assert {name: kind["detections"] for name, kind in kinds.items() if kind["detections"]} == {
        "true positive": 2, "wrong label": 1,
    }  # fmt: skip
    assert kinds["wrong label"]["gain"] == pytest.approx(2 / 3 / 2 - dive / 2)
    (worst,) = row["top_false_positives"]
    assert (worst["video"], worst["kind"], worst["score"]) == ("b", "wrong label", 0.8)
    pixels = image.imread(figure)
    assert pixels.shape[0] > 500
    assert np.ptp(pixels[..., :3]) > 0.9


def test_false_positives_at_equal_recall(files, tmp_path):
    """By hand: both find 2 of 4 instances, with 1 and 2 false positives before the second."""
    first, other = [{"label": "Dive", "segment": [5, 9], "score": s} for s in (0.95, 0.85)]
    others = {**RESULTS, "b": [first, other]}
    (tmp_path / "others.json").write_text(json.dumps({"results": others}))
    output = tmp_path / "scores.json"
    against = f"--against={tmp_path / 'others.json'}"
    code, out, err = run_program(
        "evaluate", *files(), "--protocol=official", against, f"--output={output}"
    )
    assert (code, err) == (0, "")
    assert "false positives at equal recall: t-IoU 0.5" in out
    rows = json.loads(output.read_text())["equal_recall"]
    assert [row["found"] for row in rows] == [1, 2]
    assert [row["false_positives"] for row in rows] == [0, 1]
    assert [row["false_positives_against"] for row in rows] == [1, 2]
    assert [row["change"] for row in rows] == [-1, -0.5]
    assert "-50 %" in out


def test_wtalc_folder_and_json_file_agree(thumos14, tmp_path):
    """THUMOS14's annotations in both forms, and the reference predictions, under four protocols."""
    found = GOLDEN / "evaluation" / "thumos14_test_pred.json"
    names = ["thumos14", "thumos_co2", "thumos_d2", "thumos_210"]
    code, _, err = run_program(
        "evaluate", "--annotations", thumos14 / "thumos14.json",
        "--annotations", thumos14 / "Thumos14reduced-Annotations", "--detections", found,
        *(f"--protocol={name}" for name in names), f"--output={tmp_path / 'scores.json'}",
    )  # fmt: skip
    assert code == 0
    warnings = err.splitlines()
    assert len(warnings) == 2
    assert all("26 of 3358 instances lie outside their video" in line for line in warnings)
    rows = json.loads((tmp_path / "scores.json").read_text())["protocols"]
    assert len(rows) == 8
    dataset = layouts.load_annotations(thumos14)
    wanted = detections.read(found, dataset)
    for name, (first, second) in zip(
        names, zip(list(rows.values())[:4], list(rows.values())[4:], strict=True), strict=True
    ):
        assert first == second
        result = detection_map.evaluate(
            dataset.test, wanted, protocols.get(name), len(dataset.classes), dataset.grid
        )
        assert first["map"] == result.summary()["map"]
    counted = [row["counts"]["instances"] for row in rows.values()][:4]
    assert counted == [3358, 3358, 3234, 3311]
    expected = json.loads((GOLDEN / "evaluation" / "expected.json").read_text())
    ours = list(rows[f"thumos14 @ {thumos14 / 'thumos14.json'}"]["map"].values())
    np.testing.assert_allclose(ours, expected["thumos14_test"]["mAP"], rtol=0, atol=1e-9)


def test_it_needs_no_jax():
    modules = "jaxtal.evaluation.files, jaxtal.visualization.plots"
    program = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_detections_in_frames_and_of_some_videos(files, tmp_path):
    output = tmp_path / "scores.json"
    results = {
        "a": [{"label": "Dive", "segment": [100 + at, 1490 - at], "score": 0.5} for at in range(8)]
    }
    arguments = *files(results=results), "--protocol=official", f"--output={output}"
    code, out, err = run_program("evaluate", *arguments)
    assert code == 0
    assert "found.json: 8 of 8 detections begin after the end of their video" in err
    assert "in frames at about 25 fps? Wanted seconds" in err
    assert "detections for 1 of 2 test videos" in out
    counts = json.loads(output.read_text())["protocols"]["official"]["counts"]
    assert (counts["test_videos"], counts["test_videos_with_detections"]) == (2, 1)


def test_unknown_videos_are_counted_on_request(files):
    results = {**RESULTS, "elsewhere": RESULTS["a"]}
    arguments = *files(results=results), "--protocol=official"
    code, _, err = run_program("evaluate", *arguments)
    assert code == 2
    assert "video elsewhere: 2 detections" in err
    code, _, err = run_program("evaluate", *arguments, "--skip_unknown")
    assert code == 0
    assert err.endswith("found.json: 2 detections of unknown videos are skipped\n")


def test_nothing_is_written_if_a_protocol_lacks_the_threshold(files, tmp_path):
    code, out, err = run_program(
        "evaluate", *files(), "--protocol=official", "--protocol=anet13", "--errors_at=0.3",
        f"--figure={tmp_path / 'errors.png'}",
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert "t-IoU 0.3 is not a threshold of anet13" in err
    assert not (tmp_path / "errors.png").exists()


def test_inputs_are_not_overwritten(files):
    truth, found = files()
    code, _, err = run_program(
        "evaluate", truth, found, "--protocol=co2", found.replace("--detections", "--output")
    )
    assert code == 2
    assert "found.json: is another option's file; give" in err


def test_ground_truths_of_different_classes(files, tmp_path):
    first, found = files()
    other = {**DATABASE, "a": entry("validation", ("Leap", 0, 10))}
    second, _ = files(other, name="other.json")
    code, out, err = run_program("evaluate", first, second, found, "--protocol=official")
    assert (code, out) == (2, "")
    assert "truth.json has 2 classes, " in err
    assert "differ in 1: 'Leap' is only in " in err
    assert err.count("\n") == 1


def test_annotations_that_thumos_protocols_need_and_a_file_lacks(files):
    """Labels of the videos, ambiguous intervals, the excluded videos."""
    names = ("thumos14", "thumos_co2", "thumos_d2", "thumos_210", "d2")
    code, _, err = run_program("evaluate", *files(), *(f"--protocol={name}" for name in names))
    assert code == 0
    lines = [line.partition("truth.json has ")[2] for line in err.splitlines()]
    assert lines == [
        'no "ambiguous" intervals, so no detection is excluded',
        'no "ambiguous" intervals, so no detection is excluded; no "video_labels" that differ from '
        "its instances, so no label excludes one",
        "none of the excluded videos",
    ]


def test_instances_that_cannot_be_right_are_counted(files):
    wrong = {**DATABASE, "a": entry("validation", ("Dive", 9, 3), ("Dive", -9, -3))}
    code, _, err = run_program("evaluate", *files(wrong), "--protocol=official")
    assert code == 0
    assert "truth.json: 1 of 4 instances lie outside their video" in err
    assert "truth.json: 1 of 4 instances end before they begin" in err


def test_names_are_shown_as_they_are_and_tests_need_no_training(files):
    """Square brackets are not markup; a single subset is evaluated."""
    database = {"v [x]": entry("Test", ("[/Dive]", 0, 10))}
    results = {"v [x]": [{"label": "[/Dive]", "segment": [5, 30], "score": 1}]}
    code, out, err = run_program("evaluate", *files(database, results), "--protocol=official")
    assert (code, err) == (0, "")
    assert "v [x]" in out
    assert "0.17 [/Dive] 0.0 to 10.0" in out


def test_numbers_are_written_before_they_are_shown(files, tmp_path):
    output = tmp_path / "scores.json"
    process = start(*files(), "--protocol=official", f"--output={output}", program="evaluate")
    process.stdout.close()
    process.stderr.close()
    process.wait(60)
    assert json.loads(output.read_text())["protocols"]["official"]["map"]


WRONG = {
    "no annotations": ({"annotations": None}, r"--annotations is missing; Ground truth"),
    "no detections": ({"detections": None}, r"--detections is missing; JSON file"),
    "no protocol": ({"protocol": None}, r"--protocol is missing; .*one of thumos14, "),
    "protocol": ({"protocol": "thumos15"}, r"protocol 'thumos15': it must be one of thumos14, "),
    "t-IoU": (
        {"errors_at": "0.55"},
        r"t-IoU 0\.55 is not a threshold of official; wanted one of 0\.1, ",
    ),
    "output": ({"output": "none/x.json"}, r"--output=none/x\.json: no folder none to write in"),
    "figure": ({"figure": "configs"}, r"--figure=configs: is a folder; give the name of a file"),
    "ending": ({"figure": "x.txt"}, r"x\.txt: not the name of a figure; wanted \.png"),
    "no file": ({"annotations": "none.json"}, r"none\.json: No such file or directory; wanted"),
    "folder": ({"annotations": "configs"}, r"configs holds 0 folders <DS>-Annotations; wanted"),
    "output again": ({"figure": "x.json", "output": "x.json"}, r"--figure=x\.json: is another opt"),
    "top": ({"top": "-1"}, r"--top=-1: -1 is not a non-negative integer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments(files, what):
    changes, message = WRONG[what]
    truth, found = files()
    given = {
        "annotations": truth.partition("=")[2], "detections": found.partition("=")[2],
        "protocol": "official", **changes,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
    code, out, err = run_program("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: .*(?:{message}).*\n", err), err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on generated videos, with its activations."""
    workdir = tmp_path_factory.mktemp("run")
    code, _, err = run(
        *TINY, f"--workdir={workdir}", "--config.train.steps=4",
        "--config.evaluation.save_activations=True",
    )  # fmt: skip
    assert code == 0, err
    return workdir


def test_localizing_saved_activations_repeats_the_run(trained, tmp_path):
    """The detections are those of the run byte by byte, and their evaluation is its result."""
    found, scores = tmp_path / "found.json", tmp_path / "scores.json"
    saved = f"--activations={trained / 'activations.npz'}"
    code, out, err = run_program("localize", *TINY[:1], saved, f"--output={found}", fresh=True)
    assert code == 0, err
    assert "detections in 6 videos" in " ".join(out.split())
    assert found.read_bytes() == (trained / "detections.json").read_bytes()
    code, _, err = run_program(
        "evaluate", f"--annotations={trained / 'annotations.json'}", f"--detections={found}",
        "--protocol=co2", "--protocol=official", f"--output={scores}",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(scores.read_text())["protocols"]
    result = json.loads((trained / "result.json").read_text())
    for ours, wanted in ((rows["co2"], result), (rows["official"], result["official"])):
        assert all(ours[name] == wanted[name] for name in ("map", "average", "f1"))
    again = layouts.load_annotations(trained / "annotations.json")
    assert [len(part) for part in (again.train, again.test)] == [12, 6]
    assert activitynet_writer.to_json(again) == (trained / "annotations.json").read_text()
    few = tmp_path / "few.json"
    code, _, err = run_program(
        "localize", *TINY[:1], saved, f"--output={few}", "--config.localization.nms=hard",
        "--config.localization.thresholds=(0.5,0.5,1)",
    )  # fmt: skip
    assert code == 0, err
    assert 0 < len(few.read_text()) < len(found.read_text())


def test_activations_of_another_method(trained, tmp_path):
    for config, message in {
        "d2net_demo": "activations.npz: activations of 4 classes, but 3 class names; wanted d2",
        "twostream_demo": "no array 'scores', only videos, classes, rows, snippets, durations, gri",
    }.items():
        code, out, err = run_program(
            "localize", f"--config=configs/{config}.py", f"--output={tmp_path / 'found.json'}",
            f"--activations={trained / 'activations.npz'}",
        )  # fmt: skip
        assert (code, out) == (2, "")
        assert message in err
    assert not list(tmp_path.iterdir())


def test_wrong_settings_of_a_localization(trained):
    saved = f"--activations={trained / 'activations.npz'}"
    for arguments, message in (
        ((), "--config is missing"),
        ((*TINY[:1],), "--activations is missing"),
        ((*TINY[:1], saved, "--config.localization.nms=soft"), "one of gaussian, linear, hard, n"),
        ((*TINY[:1], saved, "--config.localization.x=3"), "jaxtal localize --help"),
    ):
        code, out, err = run_program("localize", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
