"""The benchmark programs run, print a table, and write rows with sizes and device."""

import importlib
import json
import shlex
import sys

import jax
import numpy as np
import pytest

from benchmarks import everything, workloads
from benchmarks.speed import end_to_end, population
from benchmarks.speed.scaling import exponents
from jaxtal.evaluation import detection_map

SIZES = "batch=6 snippets=8 width=8 classes=3 videos=9"
TINY_RUN = """data.num_snippets=16 evaluation.plot_videos=1
    'data.generator=demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=60'"""

PROGRAMS = {
    "population": (
        "--members 1 2 --steps 1 --repeats 1 --batch 6 --snippets 8 --width 8 --classes 3 "
        "--videos 9",
        ["1 single runs", "population of 1", "2 single runs", "population of 2"],
        "ms a member-step",
    ),
    "scaling": (
        f"--axes snippets --snippets 8 16 --steps 1 --repeats 1 --base {SIZES}",
        ["snippets 8", "snippets 16"],
        "exponent",
    ),
    "end_to_end": (f"--steps 2 --eval_every 1 --set {TINY_RUN}", ["cold", "warm"], "localize"),
}


def run(name: str, arguments: str, monkeypatch, capsys) -> tuple[list[dict], str]:
    """The rows that a program prints, and the output after the last row."""
    monkeypatch.setattr(sys, "argv", [name, *shlex.split(arguments)])
    importlib.import_module(f"benchmarks.speed.{name}").main()
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines], printed.rpartition(lines[-1])[2]


# CI runs the program that covers a whole run.
_SELECTED = [
    pytest.param(name, marks=() if name == "end_to_end" else pytest.mark.slow) for name in PROGRAMS
]


@pytest.mark.parametrize("name", _SELECTED)
def test_program(name, monkeypatch, capsys, tmp_path):
    arguments, cases, shown = PROGRAMS[name]
    file = tmp_path / "rows.jsonl"
    rows, table = run(name, f"{arguments} --method twostream --json {file}", monkeypatch, capsys)
    assert [row["case"].rpartition(", ")[2] for row in rows] == cases
    for row in rows:
        assert {"device", "jax", "shapes"} <= set(row)
        low, high = row["quartiles_s"]
        assert 0 < low <= row["median_s"] <= high
    assert [json.loads(line) for line in file.read_text().splitlines()] == rows
    assert shown in table


def test_train_step(monkeypatch, capsys, tmp_path):
    """The file is a JSON list; `ratio` is the reference's seconds divided by jaxtal's."""
    file = tmp_path / "rows.json"
    arguments = "--method twostream --batch 6 --snippets 8 --width 8 --steps 2 --repeats 1"
    rows, table = run(
        "train_step", f"{arguments} --reference none --json {file}", monkeypatch, capsys
    )
    assert json.loads(file.read_text()) == rows
    assert [row["reference"] for row in rows] == ["jaxtal, one step a dispatch", "floor, executed"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["reference_median_s"] / row["median_s"])
        assert row["shapes"] == {"batch": 6, "snippets": 8, "features": 8, "classes": 20}
    assert "GFLOP/s" in table


def test_input(monkeypatch, capsys):
    monkeypatch.setitem(workloads.SHAPES, "demo", (6, 8, 8, 3))
    rows, table = run("input", "--shapes demo --repeats 1", monkeypatch, capsys)
    per_bin = ["per bin, draw", "per bin, randint", "per bin, batch"]
    cases = ["draw", "batch", "stream", *per_bin, "step"]
    assert [row["case"] for row in rows] == [f"demo, {case}" for case in cases]
    assert rows[-1]["share"] == 1
    assert all("ratio" in row for row in rows[:3])
    assert "share of a step" in table


@pytest.mark.slow
def test_memory(monkeypatch, capsys):
    arguments = "--train_videos 4 --test_videos 2 --snippets 8 --width 8 --method twostream"
    (row,), table = run("memory", arguments, monkeypatch, capsys)
    found = row["bytes"]
    needed = [found[name] for name in ("features", "parameters", "optimizer", "activations")]
    assert row["ratio"] == pytest.approx((found["peak"] - found["before"]) / sum(needed))
    assert found["optimizer"] == pytest.approx(2 * found["parameters"], rel=0.1)
    assert "peak minus before" in table


def test_everything_names_programs_that_exist(monkeypatch, capsys, tmp_path):
    made = everything.commands(tmp_path, "TPU v5 lite", ["scaling"])
    assert all(str(tmp_path / "tpu_v5_lite_") in command[-1] for command in made)
    assert {command[2] for command in made} == {
        f"benchmarks.speed.{name}"
        for name in ("train_step", "input", "population", "memory", "end_to_end")
    }
    for command in made:  # the programs accept these arguments
        monkeypatch.setattr(sys, "argv", [*command[2:], "--no-such-argument"])
        with pytest.raises(SystemExit):
            importlib.import_module(command[2]).main()
        assert "unrecognized arguments: --no-such-argument" in capsys.readouterr().err


def test_members_are_doubled_until_memory_is_full():
    assert list(population.sizes([1, 3], False, 24)) == [1, 3]
    assert list(population.sizes([1, 3], True, 24)) == [1, 3, 6, 12, 24]
    assert population.out_of_memory(MemoryError())
    assert population.out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"))
    assert not population.out_of_memory(jax.errors.JaxRuntimeError("INVALID_ARGUMENT"))


def test_parts_of_a_run_are_timed_only_while_it_lasts():
    seconds = dict.fromkeys(end_to_end.PARTS, 0.0)
    functions = [getattr(owner, name) for owner, name, _ in end_to_end.WRAPPED]
    with end_to_end.wrapped(seconds):
        assert detection_map.classification_map(np.ones((2, 1)), np.ones((2, 1))) == 1
    assert [name for name, value in seconds.items() if value] == ["evaluate"]
    assert functions == [getattr(owner, name) for owner, name, _ in end_to_end.WRAPPED]


def test_exponents_of_a_power_law():
    values = [10, 40, 20]
    seconds = [[3 * value**2.0, 5 * value**2.0] for value in values]
    for fit in (exponents(values, seconds), exponents(values, seconds, 2)):
        assert fit["exponent"] == pytest.approx(2)
        assert fit["quartiles"] == pytest.approx([2, 2])
    assert exponents([10], [[1.0]])["exponent"] is None


def test_checksums(monkeypatch, capsys):
    arguments = "--videos 6 --snippets 20 --width 16 --repeats 1"
    rows, _ = run("checksums", arguments, monkeypatch, capsys)
    assert [row["case"] for row in rows] == [
        f"{name} {how}" for name in ("save", "restore", "load") for how in ("without", "with")
    ]
    assert all(row["ratio"] > 0 for row in rows[1::2])
