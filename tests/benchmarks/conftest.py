"""What is measured of a benchmark in a test does not matter: compile quickly instead."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _compile_quickly():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
