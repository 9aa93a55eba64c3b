"""Names with rich's markup are printed as they are."""

import math
from pathlib import Path

import pytest

from jaxtal.cli import logs
from jaxtal.visualization import console

NAME = "run[/bold][red]x[/]:fire:"


def numbers(value: float = 0.5) -> dict:
    return {
        "map": {"0.5": value}, "average": {NAME: value}, "classification_map": value, "f1": value,
        "step": 4, "protocol": NAME,
    }  # fmt: skip


RESULT = {
    "method": NAME, "data": NAME, "seconds": {NAME: 1.0}, "seed": 0, **numbers(),
    "best_on_test": numbers(), "official": numbers(),
}  # fmt: skip
MEMBER = {"seed": 0, "values": {NAME: 1.0}, **numbers(), "best_on_test": numbers()}
SPREAD = {**numbers(), "best_on_test": numbers()}
INTERVAL = {
    "average": {NAME: [0.1, 0.2]}, "classification_map": [0.1, 0.2],
    "best_on_test": {"average": {NAME: [0.1, 0.2]}},
}  # fmt: skip
ROW = {
    "map": {"0.5": 0.5}, "average": {NAME: 0.5},
    "counts": {
        "instances": 1, "detections": 2, "test_videos_with_detections": 1, "test_videos": 2
    },
    "errors": {
        "t-IoU": 0.5,
        "kinds": {NAME: {
            "detections": 1, "among_best": {"1G": 1, "3G": 1, "10G": 1}, "gain": math.nan
        }},
        "recall_by_length": {NAME: {
            "seconds": [0, 1], "instances": 1, "found": 1, "recall": 1.0
        }},
    },
    "top_false_positives": [{
        "score": 0.5, "video": NAME, "label": NAME, "segment": [0, 1], "kind": NAME, "t-IoU": 0.5,
        "instance": {"label": NAME, "segment": [0, 1]},
    }],
}  # fmt: skip
INSPECTION = {
    "data": {
        "name": NAME, "layout": NAME, "path": NAME, "fps": 25, "stride": 16, "window": 16,
        "videos_with_their_own_fps": 0, "grid_is_stated": True,
    },
    "features": {"snippets": 1, "videos": 1, "streams": [8], "types": [NAME]},
    "unused": {NAME: 1}, "notes": [NAME],
    "subsets": {NAME: {"videos": 1, "instances": 1, "hours": 1, "quantiles": {NAME: [1.0] * 7}}},
    "classes": {NAME: {NAME: {"videos": 1, "instances": 1}}},
    "findings": [{"severity": NAME, "message": NAME, "first": []}],
}  # fmt: skip


def printed(monkeypatch, capsys, show, *arguments) -> str:
    """Return what a function prints on a wide terminal, without the line breaks."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(console, "_wide", lambda: console._console(1000))
    show(*arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("show", "arguments", "times"),
    [
        (console.print_message, [NAME], 1),
        (logs._print_info, [NAME], 1),
        (console.print_run, [{**RESULT, "map": {}, "average": {}}, Path(NAME)], 3),
        (console.print_result, [RESULT, Path(NAME)], 6),
        (console.print_evaluations, [{NAME: ROW}], 2),
        (console.print_errors, [NAME, ROW], 9),
        (console.print_inspection, [INSPECTION], 13),
    ],
)
def test_names_are_printed_as_they_are(monkeypatch, capsys, show, arguments, times):
    out = printed(monkeypatch, capsys, show, *arguments)
    assert out.count(NAME) >= times, out


def test_names_of_a_population_are_printed_as_they_are(monkeypatch, capsys):
    result = {
        **RESULT, "members": [MEMBER, {**MEMBER, "diverged": 3}], "mean": SPREAD,
        "groups": [{
            "values": {NAME: 1.0}, "mean": SPREAD, "sd": SPREAD, "interval_95": INTERVAL,
            "ensemble": {"members": 2, **numbers()},
        }],
    }  # fmt: skip
    out = printed(monkeypatch, capsys, console.print_population, result, Path(NAME))
    assert out.count(NAME) >= 8, out


def test_names_of_progress_bars_are_printed_as_they_are(capsys):
    with console.progress_bar(NAME, 1) as advance:
        advance()
    with console.progress(0, 1) as show:
        show(1, {NAME: 0.5})
    assert NAME in capsys.readouterr().out


def test_there_is_output_without_stdout(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    console.print_evaluations({NAME: ROW})
