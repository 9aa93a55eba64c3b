"""Process setup and error reporting of the commands."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable

from jaxtal.cli.flags import Parser, as_flags
from jaxtal.errors import JaxtalError


def fail(message: str) -> int:
    """Print an error as one line on stderr, and return the exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def reporting_errors(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command, print a JaxtalError as one line, and return the exit code.

    Args:
        run: Function that runs the command and returns its exit code.
        args: Parsed flags, with the command's `parser`.

    Returns:
        0 success, 2 user error, 75 interrupted.
    """
    try:
        return run(args)
    except JaxtalError as error:
        return fail_with(error, args.parser)


def fail_with(error: JaxtalError, parser: Parser, hint: str = "") -> int:
    """Print an error with its arguments spelled as flags, and return the exit code 2.

    Args:
        error: The error to print.
        parser: Parser of the command, with its flags.
        hint: Text appended to the message.
    """
    return fail(as_flags(str(error), parser) + hint)


def enable_compilation_cache(folder: str | None) -> None:
    """Enable JAX's persistent compilation cache.

    Args:
        folder: Folder for compiled programs; None for the environment variable
            JAX_COMPILATION_CACHE_DIR or, if it is not set, the user's cache folder; "" disables
            the cache.
    """
    import jax
    import platformdirs

    # A cache that cannot be read or written only costs time.
    warnings.filterwarnings("ignore", message="Error (read|writ)ing persistent compilation cache")
    if folder is None and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if folder is None:
        folder = platformdirs.user_cache_dir("jaxtal", appauthor=False)
    jax.config.update("jax_compilation_cache_dir", folder or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def quiet_absl(level: str) -> None:
    """Silence absl's logger below a level: Orbax and TFDS log pages of details.

    Args:
        level: Lowest level to print: "warning", "error" or "fatal".
    """
    from absl import logging

    logging.set_verbosity(level)
