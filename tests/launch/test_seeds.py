"""The launcher of several seeds: what it runs and what it prints."""

import importlib.util
import json
import re
import subprocess

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("seeds", ROOT / "launch" / "seeds.py")
seeds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seeds)


def result(value: float) -> dict:
    row = {"protocol": "co2", "average": {"0.1:0.5": value, "0.1:0.7": value / 2}}
    return {
        **row,
        "best_on_test": row,
        "official": {**row, "protocol": "official"},
        "classification_map": 0.9,
        "f1": value / 4,
    }


def test_table_has_mean_and_standard_deviation():
    lines = seeds.table([result(0.2), result(0.3), result(0.4)]).splitlines()
    assert lines[2] == "| last step, co2 | 30.0 ± 10.0 | 15.0 ± 5.0 |"
    assert lines[4].startswith("| last step, official |")
    assert lines[6] == (
        "video-level mAP 90.0 ± 0.0; F1 at 0.5 7.5 ± 2.5; 0.1:0.7 by seed: 10.0, 15.0, 20.0"
    )


def test_every_seed_runs_the_entry_point_in_its_own_folder(tmp_path, monkeypatch):
    commands = []

    def fake_run(command, check):
        commands.append(command)
        folder = re.search(r"--workdir=(\S+)", " ".join(command))[1]
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "result.json").write_text(json.dumps(result(0.1)))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fake_run)
    arguments = ["--workdir", str(tmp_path / "w"), "--", "--config", "configs/co2net_demo.py"]
    monkeypatch.setattr("sys.argv", ["seeds.py", "--seeds", "4", "7", *arguments])
    seeds.main()
    assert [command[-1] for command in commands] == ["--config.seed=4", "--config.seed=7"]
    assert commands[0][-2] == f"--workdir={tmp_path / 'w' / 'seed_4'}"
    assert commands[0][3:5] == ["--config", "configs/co2net_demo.py"]


def test_a_failing_run_stops_with_its_code(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(subprocess, "run", lambda command, check: failed)
    with pytest.raises(SystemExit) as stop:
        seeds.run(tmp_path, 0, [])
    assert stop.value.code == 2
