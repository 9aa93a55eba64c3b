"""Hooks of the interpreter: late callbacks of Orbax's writes are not printed, other errors are."""

import asyncio
import logging
import sys
from types import SimpleNamespace

import pytest

from jaxtal.cli import hooks


@pytest.fixture
def printed(monkeypatch):
    """The exceptions that are still printed after the hook is installed."""
    seen = []
    level = logging.getLogger("asyncio").level
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    hooks.quiet_asyncio()
    yield seen
    logging.getLogger("asyncio").setLevel(level)


def unraisable(call, drop: int = 1, source=None) -> SimpleNamespace:
    """Return what the interpreter passes for an error of `call`, without the first frames."""
    try:
        call()
    except Exception as error:
        trace = error.__traceback__
        for _ in range(drop):
            trace = trace.tb_next
        return SimpleNamespace(exc_value=error, exc_traceback=trace, object=source)
    raise AssertionError("no error")


def on_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    loop.call_soon_threadsafe(print)


def test_a_late_callback_from_outside_of_python_is_not_printed(printed):
    sys.unraisablehook(unraisable(on_a_closed_loop, drop=2))
    assert not printed


@pytest.mark.parametrize(
    "other",
    [
        lambda: unraisable(on_a_closed_loop),  # Python code called the loop
        lambda: unraisable(on_a_closed_loop, drop=2, source=print),  # a destructor
        lambda: unraisable(lambda: 1 / 0),
        lambda: unraisable(lambda: asyncio.run(None), drop=2),
    ],
)
def test_other_errors_are_printed(printed, other):
    error = other()
    sys.unraisablehook(error)
    assert printed == [error]
