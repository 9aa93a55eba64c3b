"""Golden values of the published programs, from the folder named by JAXTAL_FIXTURES."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("JAXTAL_FIXTURES") or ROOT.parent / "shared" / "fixtures")


@pytest.fixture(scope="session")
def golden():
    """Loads a named .npz file as a dict of arrays; without the folder the test is skipped."""
    if not FOLDER.is_dir():
        pytest.skip(f"no golden values: {FOLDER} does not exist (set JAXTAL_FIXTURES)")
    cache: dict = {}

    def load(name: str) -> dict[str, np.ndarray]:
        if name not in cache:
            with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
                cache[name] = {key: file[key] for key in file.files}
        return cache[name]

    return load


@pytest.fixture(autouse=True)
def full_precision():
    """Matrix products in full float32, also on accelerators."""
    with jax.default_matmul_precision("highest"):
        yield
