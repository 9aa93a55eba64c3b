"""Parsing `--config FILE --config.FIELD=VALUE ...`, with everything wrong said in one line."""

import difflib
import itertools
import os
import re
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from jaxtal.errors import JaxtalError

_KINDS = {bool: "true or false", int: "an integer", float: "a number", tuple: "a tuple"}


def fail(message: str) -> int:
    """Print an error for a person in one line; the exit code that goes with it."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def required(flag: flags.FlagHolder) -> Any:
    """A flag's value; UserError if it was not given."""
    if not flag.value:
        raise JaxtalError(f"--{flag.name} is missing; {flags.FLAGS[flag.name].help}")
    return flag.value


def check_outputs(outputs: list[flags.FlagHolder], inputs: list[Path]) -> None:
    """Raise JaxtalError unless the files that flags name, if any, can be written and are no input."""
    taken = {path.resolve() for path in inputs}
    for flag in outputs:
        if not flag.value:
            continue
        path = Path(flag.value)
        wrong = ""
        if path.is_dir():
            wrong = "is a folder"
        elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            wrong = f"no folder {path.parent} to write in"
        elif path.resolve() in taken:
            wrong = "is another option's file"
        if wrong:
            raise JaxtalError(f"--{flag.name}={path}: {wrong}; give the name of a file to write")
        taken.add(path.resolve())


def keep_compiled(folder: str | None) -> None:
    """Turn JAX's persistent compilation cache on in `folder`, None for the default; "" for off."""
    import jax
    import platformdirs

    if folder is None and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if folder is None:
        folder = platformdirs.user_cache_dir("jaxtal", appauthor=False)
    jax.config.update("jax_compilation_cache_dir", folder or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def parse_plain(argv: list[str]) -> list[str]:
    """Absl's parsing, for `app.run`, without a config; else as `parse`."""
    try:
        return _without_positional(flags.FLAGS(argv))
    except (flags.Error, JaxtalError) as error:
        sys.exit(_misused(error))


def parse_with_paths(argv: list[str]) -> list[str]:
    """As `parse_plain`, but arguments that are no options may stand anywhere, and are returned."""
    flags.FLAGS.set_gnu_getopt()
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_misused(error))


def parse(argv: list[str]) -> list[str]:
    """Absl's parsing, for `app.run`; where that raises, one line and exit code 2."""
    try:
        if {"--help", "-help", "--helpfull", "-?"} & set(argv):
            return flags.FLAGS(argv)
        given = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)  # --flagfile
        config = _load(_config_file(given))
        for argument in given:
            if match := re.match(r"--?(?:no)?config\.([^=]+)", argument):
                _find(config, match[1])
        return _without_positional(_parse_values(argv, config))
    except (flags.Error, JaxtalError) as error:
        sys.exit(_misused(error))


def _without_positional(rest: list[str]) -> list[str]:
    if len(rest) > 1:
        raise JaxtalError(f"unexpected argument {rest[1]!r}; options begin with --")
    return rest


def _misused(error: Exception) -> int:
    spec = sys.modules["__main__"].__spec__
    program = f"python -m {spec.name}" if spec else sys.argv[0]
    return fail(f"{error} ({program} --help lists the options)")


def _config_file(argv: list[str]) -> str:
    """The value of the last --config."""
    files = [a.partition("=")[2] for a in argv if re.match("--?config=", a)]
    files += [b for a, b in itertools.pairwise(argv) if re.fullmatch("--?config", a)]
    if not files:
        raise JaxtalError("--config is missing; for a first run --config configs/co2net_demo.py")
    return files[-1]


def _load(value: str) -> ConfigDict:
    """What the config file's get_config() returns; FILE:TEXT passes TEXT to it."""
    filename, *text = value.split(":", 1)
    try:
        config = runpy.run_path(filename)["get_config"](*text)
    except OSError as error:
        raise JaxtalError(
            f"{filename}: {error.strerror}; --config wants a file such as configs/co2net_demo.py"
        ) from None
    except Exception as error:  # the file is somebody's program: it may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == filename]
        line = getattr(error, "lineno", None) or (lines or [1])[-1]
        raise JaxtalError(
            f"{filename}, line {line}: {type(error).__name__}: {error}; wanted a Python file with "
            "get_config()"
        ) from None
    if not isinstance(config, ConfigDict):
        raise JaxtalError(f"{filename}: get_config() returns {config!r:.40}; wanted a ConfigDict")
    return config


def _find(config: ConfigDict, field: str) -> None:
    """Raise JaxtalError unless the config has `field`, a path like train.steps."""
    path = "config"
    for name in field.split("."):
        known = list(config) if isinstance(config, ConfigDict) else []
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            guess = f"; did you mean {path}.{near[0]}?" if near else ""
            raise JaxtalError(
                f"--config.{field}: {path} has no field {name!r}, only "
                f"{', '.join(known) or 'a value'}{guess}"
            )
        config, path = config[name], f"{path}.{name}"


def _parse_values(argv: list[str], config: ConfigDict) -> list[str]:
    """Absl's parsing; a value of the wrong type is told with the type that it should have."""
    try:
        return flags.FLAGS(argv)
    except flags.IllegalFlagValueError as error:
        match = re.match(r"flag --config\.(\S+?)=(.*?): ", str(error), re.DOTALL)
        if match is None:
            raise
        *parents, name = match[1].split(".")
        for parent in parents:
            config = config[parent]
        kind = _KINDS.get(config.get_type(name), "fields of its own, each set by itself")
        raise JaxtalError(
            f"--config.{match[1]} is {match[2]!r}; wanted {kind}, as in the config file: "
            f"{str(config[name])[:80]}"
        ) from None
