"""Hooks of the interpreter that the console commands install."""

import asyncio.base_events
import logging
import sys
import traceback
from typing import Any


def quiet_asyncio() -> None:
    """Do not print asyncio's log, and tracebacks of writes that end after their event loop.

    Orbax closes its event loop as soon as one write of a checkpoint fails, for example on a full
    disk, and that error is reported. Each write that TensorStore ends afterwards calls the closed
    loop from C++, which prints a traceback. All other exceptions are printed as before.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _is_late_callback(unraisable):
            before(unraisable)

    sys.unraisablehook = hook


def _is_late_callback(unraisable: Any) -> bool:
    """Return True if C++ called a closed event loop: no Python code but asyncio's is involved."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(unraisable.exc_traceback)]
    return (
        unraisable.object is None
        and isinstance(unraisable.exc_value, RuntimeError)
        and str(unraisable.exc_value) == "Event loop is closed"
        and {code.co_filename for code in codes} == {asyncio.base_events.__file__}
        and codes[0].co_name == "call_soon_threadsafe"
    )
