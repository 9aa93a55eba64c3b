"""What commands set up in their process, and how they end it."""

import argparse
import os
import sys
from collections.abc import Callable

from jaxtal.cli.flags import Parser, as_flags
from jaxtal.errors import JaxtalError


def fail(message: str) -> int:
    """Print an error in one line on stderr; return the exit code that goes with it."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def reporting_errors(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; print an error of its user, and return the exit code."""
    try:
        return run(args)
    except JaxtalError as error:
        return fail_with(error, args.parser)


def fail_with(error: JaxtalError, parser: Parser, hint: str = "") -> int:
    """Print an error, with arguments spelled as the flags of a command, as `fail` does."""
    return fail(as_flags(str(error), parser) + hint)


def enable_compilation_cache(folder: str | None) -> None:
    """Turn JAX's persistent compilation cache on.

    Args:
        folder: where compiled programs are kept; None for JAX_COMPILATION_CACHE_DIR or, without
            it, the user's cache folder; "" for nowhere.
    """
    import jax
    import platformdirs

    if folder is None and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if folder is None:
        folder = platformdirs.user_cache_dir("jaxtal", appauthor=False)
    jax.config.update("jax_compilation_cache_dir", folder or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def quiet_absl(level: str) -> None:
    """Silence absl's logger below a level: Orbax logs a page per checkpoint, TFDS a warning each.

    Args:
        level: "warning", "error" or "fatal".
    """
    from absl import logging

    logging.set_verbosity(level)
