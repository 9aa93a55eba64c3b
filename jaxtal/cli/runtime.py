"""Process setup and error reporting of the commands."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from jaxtal.cli.flags import Parser, as_flags
from jaxtal.data.io.files import unwritable_folder
from jaxtal.errors import JaxtalError, warn


def fail(message: str) -> int:
    """Print an error as one line on stderr, and return the exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def reporting_errors(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command, print an error of the user or of the system as one line.

    Args:
        run: Function that runs the command and returns its exit code.
        args: Parsed flags, with the command's `parser`.

    Returns:
        The exit code: 0 success, 2 user error, 75 or 130 interrupted.
    """
    try:
        return run(args)
    except JaxtalError as error:
        return fail_with(error, args.parser)
    except OSError as error:
        return fail_with_system(error)
    except Exception as error:
        if not _is_full_memory(error):
            raise
        return fail(
            f"the memory is full: {error}; free some, or take fewer or shorter videos, smaller "
            "batches or a smaller model"
        )


def _is_full_memory(error: Exception) -> bool:
    """Return True for errors of Python, NumPy and JAX about the memory of the machine."""
    from_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (from_jax and "Out of memory" in str(error))


def fail_with_system(error: OSError) -> int:
    """Print the system's error about a file as one line, and return the exit code 2.

    Args:
        error: The error; it is raised again if it is about no file.
    """
    if not isinstance(error.filename, str | bytes):
        raise error
    path = os.fsdecode(error.filename)
    return fail(f"{path}: {error.strerror}; check that path, then run the same command again")


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
    variable = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None and variable is not None:
        if _cache(variable) != variable:
            jax.config.update("jax_compilation_cache_dir", None)
        return
    if folder is None:
        folder = platformdirs.user_cache_dir("jaxtal", appauthor=False)
    jax.config.update("jax_compilation_cache_dir", _cache(folder) or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _cache(folder: str) -> str:
    """Return the folder of the cache, "" with a warning if it cannot be written."""
    if "://" in folder or not folder:  # a bucket
        return folder
    why = "no home folder" if folder.startswith("~") else unwritable_folder(Path(folder))
    if why:
        warn(f"compilation_cache_dir={folder}: {why}; compiled programs are not cached")
    return "" if why else folder


def quiet_absl(level: str) -> None:
    """Silence absl's logger below a level: Orbax and TFDS log pages of details.

    Args:
        level: Lowest level to print: "warning", "error" or "fatal".
    """
    from absl import logging

    logging.set_verbosity(level)
