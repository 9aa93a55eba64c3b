"""Errors that the commands print as one line."""

import argparse

import jax
import pytest

from jaxtal.cli import runtime


def raising(error: Exception):
    """Return a command that fails with `error`."""

    def run(_: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 16.0 GiB for an array\nwith shape (1, 268435456, 16)"),
    jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 1073741824 bytes."),
])  # fmt: skip
def test_full_memory_is_one_line(capsys, error):
    assert runtime.reporting_errors(raising(error), argparse.Namespace()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory is full: ")
    assert "; free some, or take fewer or shorter videos" in line


@pytest.mark.parametrize("error", [
    ValueError("Out of memory"), jax.errors.JaxRuntimeError("INTERNAL: something else")
])  # fmt: skip
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error)):
        runtime.reporting_errors(raising(error), argparse.Namespace())
