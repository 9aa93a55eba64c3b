"""Golden values of the published programs: those of the repository, or of JAXTAL_FIXTURES."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import GOLDEN

FOLDER = Path(os.environ.get("JAXTAL_FIXTURES") or GOLDEN / "parity")


@pytest.fixture(scope="session")
def golden():
    """Return a function that loads a named .npz file as a dict of arrays."""
    cache: dict = {}

    def load(name: str) -> dict[str, np.ndarray]:
        if name not in cache:
            with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
                cache[name] = {key: file[key] for key in file.files}
        return cache[name]

    return load


@pytest.fixture(autouse=True)
def full_precision():
    """Compute matrix products in full float32, also on accelerators."""
    with jax.default_matmul_precision("highest"):
        yield
