"""Eight devices, in any number of processes, train and evaluate like one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxtal.checkpoint_conversion.convert import saved_variables
from tests.conftest import ROOT
from tests.helpers import pods

# Without LLVM's optimizations, which take most of the time and are not compared here.
QUICKLY = "--xla_backend_optimization_level=0"
LAYOUTS = {"1 x 8": (1, 8), "2 x 4": (2, 4), "4 x 2": (4, 2)}  # processes, devices of each
# Two processes cover the other cases: communication within and between processes.
_SELECTED = [
    pytest.param(name, marks=() if name == "2 x 4" else pytest.mark.slow) for name in LAYOUTS
]
RELATIVE = 1e-5


def run(folder: Path, processes: int, devices: int, mesh: tuple[int, int]) -> None:
    """Run all methods."""
    launcher = ["launch/local.py", f"--processes={processes}", f"--devices={devices}"]
    program = (
        "import runpy, sys; sys.path.insert(0, 'launch'); import local;"
        "sys.exit(local.main(sys.argv[1:], 'tests.helpers.pods'))"
    )
    arguments = [*launcher[1:], "--", str(folder), "--mesh", *map(str, mesh)]
    environment = {**os.environ, "XLA_FLAGS": QUICKLY}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run(folder, 1, 1, (1, 1))
    return folder


@pytest.fixture(scope="module", params=_SELECTED)
def several(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    run(folder, *LAYOUTS[request.param], (2, 4))
    return folder


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def numbers(tree) -> list[float]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, float)]


def test_the_same_losses_parameters_and_map(one, several):
    for method in pods.METHODS:
        ours, theirs = (folder / method for folder in (several, one))
        lines = [
            [json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()]
            for at in (ours, theirs)
        ]
        assert [line["step"] for line in lines[0]] == [2, 4, 4]
        np.testing.assert_allclose(*map(numbers, lines), rtol=RELATIVE, atol=1e-6)
        for mine, other in zip(*(members_of(at) for at in (ours, theirs)), strict=True):
            assert np.linalg.norm(mine - other) <= RELATIVE * np.linalg.norm(other)
        mine, other = result(ours), result(theirs)
        assert mine["seconds"].keys() == other.pop("seconds").keys()
        assert len(numbers(other)) > 50
        del mine["seconds"]
        np.testing.assert_allclose(numbers(mine), numbers(other), rtol=RELATIVE)


def members_of(folder: Path) -> list[np.ndarray]:
    """Return the variables of each member as one vector."""
    leaves = jax.tree.leaves(saved_variables(folder))
    return [np.concatenate([leaf[member].ravel() for leaf in leaves]) for member in range(2)]
