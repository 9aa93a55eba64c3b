"""Logging of the console commands.

The library logs to `logging.getLogger("jaxtal")` and its children, and installs no handler. A
console command calls `install` once, before it calls the library.
"""

import logging
import sys
from collections.abc import Callable

from jaxtal.errors import one_line

_NAME = "jaxtal"


class _OnConsole(logging.Handler):
    """Handler that prints info to stdout, above a progress bar, and other records to stderr.

    It looks the streams up for each record, because tests and notebooks replace them.

    Attributes:
        spell: Function from a warning to its text with the command's spelling of options.
    """

    spell: Callable[[str], str] = staticmethod(str)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not _is_primary():
                return
            message = record.getMessage()
            if record.levelno < logging.WARNING:
                _print_info(message)
            else:
                kind = "warning" if record.levelno < logging.ERROR else "error"
                print(f"{kind}: {one_line(self.spell(message))}", file=sys.stderr)
        except Exception:
            self.handleError(record)


def install(spell: Callable[[str], str] = str) -> None:
    """Print the library's info records and warnings; a second call only replaces `spell`.

    Records no longer propagate to the root logger, whose handlers (absl installs one) would print
    them a second time.

    Args:
        spell: Function from a warning to its text with the command's spelling of options.
    """
    # Without a writable home folder it works in a temporary one, with two lines about that.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    logger = logging.getLogger(_NAME)
    for handler in logger.handlers:
        if isinstance(handler, _OnConsole):
            handler.spell = spell
            return
    handler = _OnConsole()
    handler.spell = spell
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _print_info(message: str) -> None:
    import rich  # slow to import, and not needed by --help

    rich.get_console().print(message, markup=False, highlight=False, emoji=False)


def _is_primary() -> bool:
    """Return True for the only or the first process of a job.

    JAX is not imported: a program that has not imported it has one process.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return True
    return jax.process_index() == 0
