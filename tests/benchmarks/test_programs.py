"""The benchmark programs run, print a table, and every row says what was measured where."""

import importlib
import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import end_to_end, population
from benchmarks.scaling import exponents
from jaxtal import evaluation

SIZES = "batch=6 snippets=8 width=8 classes=3 videos=9"
TINY_RUN = """data.num_snippets=16 data.generator.num_train=12 data.generator.num_test=6
    data.generator.num_classes=3 data.generator.feature_width=8 data.generator.max_snippets=60
    evaluation.plot_videos=1"""

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
    "end_to_end": (f"--steps 2 --eval_every 1 --set {TINY_RUN}", ["cold", "warm"], "localise"),
}


def run(name: str, arguments: str, monkeypatch, capsys) -> tuple[list[dict], str]:
    """The rows that a program prints, and what follows the last one."""
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    importlib.import_module(f"benchmarks.{name}").main()
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines], printed.rpartition(lines[-1])[2]


@pytest.mark.parametrize("name", PROGRAMS)
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
        assert evaluation.classification_map(np.ones((2, 1)), np.ones((2, 1))) == 1
    assert [name for name, value in seconds.items() if value] == ["evaluate"]
    assert functions == [getattr(owner, name) for owner, name, _ in end_to_end.WRAPPED]


def test_exponents_of_a_power_law():
    values = [10, 40, 20]
    seconds = [[3 * value**2.0, 5 * value**2.0] for value in values]
    for fit in (exponents(values, seconds), exponents(values, seconds, 2)):
        assert fit["exponent"] == pytest.approx(2)
        assert fit["quartiles"] == pytest.approx([2, 2])
    assert exponents([10], [[1.0]])["exponent"] is None
