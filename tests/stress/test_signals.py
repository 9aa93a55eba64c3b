"""The campaign of signals: its checks, a few signals, and (slow) all commands."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.stress.signals import __main__ as signals
from tests.stress.signals import commands
from tests.stress.signals.__main__ import Event

STOPPED = ["error: stopped by SIGINT; run the same command again"]


@pytest.mark.parametrize(
    ("fields", "lines", "bad", "wrong"),
    [
        ({}, STOPPED, [], []),
        ({"code": 0}, [], [], []),
        ({"code": 1}, STOPPED, [], ["exit code 1 instead of 130"]),
        ({"code": None}, [], ["a"], ["hung", "incomplete: a"]),
        ({}, [*STOPPED, "Traceback (most"], [], ["a traceback"]),
        ({}, STOPPED * 2, [], ["2 lines about the end"]),
        ({}, [], [], ["the signal is not named"]),
        ({}, STOPPED, ["found.json"], ["incomplete: found.json"]),
        ({"kind": "SIGKILL", "code": -9}, [], [], []),
        ({"kind": "SIGSTOP", "code": 143}, ["stopped by SIGSTOP"], [],
         ["exit code 143 instead of 0"]),
        ({"handled": False, "code": -2}, ["Traceback"], [], []),
        ({"command": "train", "kind": "SIGHUP", "code": 75}, ["stopped by SIGHUP"], [], []),
        ({"command": "train", "kind": "SIGTERM", "code": 143}, ["stopped by SIGTERM"], [],
         ["exit code 143 instead of 75"]),
    ],
)  # fmt: skip
def test_judge(fields, lines, bad, wrong):
    event = Event("predict", "SIGINT", 1.0, 130, 0.1, True, "")
    assert signals.judge(dataclasses.replace(event, **fields), lines, bad) == wrong


def test_incomplete_files_are_detected(tmp_path):
    reference, ours = tmp_path / "reference", tmp_path / "ours"
    for folder, text in ((reference, "whole"), (ours, "who")):
        folder.mkdir()
        (folder / "found.json").write_text(text)
        (folder / ".found.json.tmp").write_text(text)
        (folder / "metrics.jsonl").write_text("1\n2\n" if text == "whole" else "1\n3\n")
    assert commands.incomplete("predict", ours, reference) == ["found.json", "metrics.jsonl"]
    assert commands.incomplete("train", ours, reference) == ["found.json", "metrics.jsonl"]
    (ours / "found.json").write_text("whole")
    (ours / "metrics.jsonl").write_text("1\n")
    assert commands.incomplete("train", ours, reference) == []
    assert commands.differing("predict", ours, reference) == [".found.json.tmp", "metrics.jsonl"]


def test_signals_of_a_conversion(tmp_path):
    assert (
        signals.main(["--signals=5", "--commands", "convert", f"--json={tmp_path / 'rows'}"]) == 0
    )
    events = json.loads((tmp_path / "rows").read_text())
    assert {event["kind"] for event in events} == set(signals.KINDS)
    rows = signals.summary([Event(**event) for event in events])
    assert rows[-1][:3] == ["all", "", "5"]


@pytest.mark.slow
def test_signals_of_all_commands():
    words = [sys.executable, "-m", "tests.stress.signals", "--signals=25"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
