"""Show the library's log on the terminal, as the console programs do.

The library logs to `logging.getLogger("jaxtal")` and its children, and leaves to the application
where the records go. A console program calls `install` once, before it calls the library.
"""

import logging
import sys

from jaxtal.errors import one_line

_NAME = "jaxtal"


class _OnConsole(logging.Handler):
    """Info lines on stdout, above a progress bar; warnings and errors as one line on stderr.

    Streams are looked up for each record: tests and notebooks exchange them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not _is_primary():
                return
            message = record.getMessage()
            if record.levelno < logging.WARNING:
                _print_info(message)
            else:
                kind = "warning" if record.levelno < logging.ERROR else "error"
                print(f"{kind}: {one_line(message)}", file=sys.stderr)
        except Exception:
            self.handleError(record)


def install() -> None:
    """Print the library's info lines and warnings; a second call changes nothing.

    Records do not reach the root logger any more, whose handlers (absl installs one) would print
    them a second time.
    """
    logger = logging.getLogger(_NAME)
    if any(isinstance(handler, _OnConsole) for handler in logger.handlers):
        return
    logger.addHandler(_OnConsole())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _print_info(message: str) -> None:
    import rich  # takes long to import, and --help prints nothing here

    rich.get_console().print(message, markup=False, highlight=False)


def _is_primary() -> bool:
    """Return whether this process is the only one of its job, or the first one.

    JAX is not imported for that: without it there is one process.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return True
    return jax.process_index() == 0
