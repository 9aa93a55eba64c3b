"""The notebooks in examples/ run from top to bottom, and their stored outputs are complete."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SECONDS = 180.0  # CPU time limit of a notebook; both together need 60 on 2 cores


def executed(path: Path, folder: Path, monkeypatch) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder, as a user who downloaded it does."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, kernel_name="python3"
    ).execute()
    return notebook


def _children() -> float:
    """Return the CPU time in seconds of ended child processes, including a notebook's kernel."""
    times = os.times()
    return times.children_user + times.children_system


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    """Return the MIME types of the outputs of a cell."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    start = _children()
    notebook = executed(path, tmp_path, monkeypatch)
    assert _children() - start < SECONDS
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    for before, now in zip(stored.cells, notebook.cells, strict=True):
        assert before.source == now.source
        assert kinds(before) == kinds(now)
        assert not any(output.output_type == "error" for output in now.get("outputs", []))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [one["text"] for one in outputs if one.get("name") == "stderr"] == []
    assert not [*tmp_path.iterdir()]


def test_there_are_two_and_they_are_small():
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "your_features"]
    for path in NOTEBOOKS:
        assert path.stat().st_size < 250_000
        cells = [
            cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
        ]
        assert all(cell.execution_count for cell in cells)
        assert any("image/png" in kinds(cell) for cell in cells)
        assert any("text/html" in kinds(cell) for cell in cells)
