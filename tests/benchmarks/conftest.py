"""Compilation without most optimizations: the tests do not depend on measured times."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _compile_quickly():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
