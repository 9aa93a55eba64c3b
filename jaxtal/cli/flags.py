"""Command-line flags: argparse, with the spellings that absl and ml_collections accept.

A flag is given as `--flag=value`, `--flag value` or `-flag=value`, with `_` or `-` in its name, and
a boolean one also as `--flag` and `--noflag`. The last value of a repeated flag counts, unless the
flag collects values. `--flagfile=FILE` inserts flags from a file, one per line. In commands with a
config, `--config.a.b=value` overrides a field; a boolean field also accepts `--config.a.b` and
`--noconfig.a.b`.

The module imports neither JAX nor NumPy nor ml_collections: `--help` prints at once.
"""

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jaxtal.data.io.files import too_long
from jaxtal.errors import JaxtalError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_FIRST_RUN = "--config is missing; for a first run --config co2net_demo"


class UsageError(JaxtalError):
    """A flag is unknown or missing, or has an invalid value."""


class Parser(argparse.ArgumentParser):
    """Parser of the flags of one command.

    Attributes:
        flags: Action of every flag by its name, spelled with underscores.
        takes_config: True if the command has --config and --config.FIELD.
        requires_config: True if --config is mandatory.
    """

    def __init__(self, prog: str, description: str | None, paths: Sequence[str] = ()):
        """Create a parser with the flag --help only.

        Args:
            prog: Name of the command, such as "jaxtal predict".
            description: Text printed by --help.
            paths: Names of the positional arguments; empty if the command has none. One that
                ends with ... is any number of them, at least one.
        """
        super().__init__(
            prog=prog,
            usage=" ".join([prog, *paths, "[--flag=value ...]"]),
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            exit_on_error=False,
        )
        self.flags: dict[str, argparse.Action] = {}
        self._help: dict[str, str] = {}
        self.takes_config = self.requires_config = False
        self._paths = tuple(paths)

    def add_flag(
        self,
        name: str,
        help: str,
        *,
        type: Callable[[str], Any] = str,
        default: Any = None,
        repeated: bool = False,
    ) -> None:
        """Define a flag.

        Args:
            name: Name spelled with underscores, without dashes.
            help: One sentence for --help.
            type: `str`, `number`, `boolean`, or as returned by `integer` and `choice`.
            default: Value of a flag that is not given.
            repeated: Collect the values of all occurrences in a list.
        """
        self._help[name] = help
        shown = f" (default: {default})" if default else ""
        self.flags[name] = self.add_argument(
            f"--{name}",
            help=(help + shown).replace("%", "%%"),
            type=type,
            default=default,
            action="append" if repeated else "store",
            metavar=getattr(type, "metavar", "TEXT"),
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, where argparse would print the usage and exit."""
        raise UsageError(message)

    def help_of(self, name: str) -> str:
        """Return the description of a flag."""
        return self._help[name]

    def check_paths(self, given: Sequence[str]) -> None:
        """Raise UsageError for a wrong number of positional arguments."""
        if given and not self._paths:
            raise UsageError(f"unexpected argument {given[0]!r}; options begin with --")
        if given and self._paths[0].endswith("..."):
            return
        if len(given) != len(self._paths):
            wanted = " and ".join(self._paths)
            raise UsageError(f"{self.prog} needs {wanted}; got {len(given)} paths")


def _named(metavar: str) -> Callable[[Callable[[str], Any]], Any]:
    """Set the placeholder that --help prints for a flag's value."""

    def name(convert: Callable[[str], Any]) -> Callable[[str], Any]:
        convert.metavar = metavar  # type: ignore[attr-defined]
        return convert

    return name


@_named("true|false")
def boolean(text: str) -> bool:
    """Convert the value of a boolean flag, which may also be given without a value."""
    if (value := _BOOLEANS.get(text.lower())) is None:
        raise argparse.ArgumentTypeError(f"={text}: wanted true or false")
    return value


@_named("NUMBER")
def number(text: str) -> float:
    """Convert the value of a floating-point flag."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"={text}: {text!r} is not a number") from None


def integer(lowest: int | None = None) -> Callable[[str], int]:
    """Return the type of an integer flag of at least `lowest`: None (any), 0 or 1."""
    kind = {None: "an integer", 0: "a non-negative integer", 1: "a positive integer"}[lowest]

    @_named("INTEGER")
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or (lowest is not None and value < lowest):
            raise argparse.ArgumentTypeError(f"={text}: {text} is not {kind}")
        return value

    return convert


@_named("NAMES")
def names(text: str) -> tuple[str, ...]:
    """Convert names separated by commas; parentheses and quotes, as of a Python tuple, may be."""
    bare = (name.strip().strip("\"'") for name in text.strip("() ").split(","))
    return tuple(name for name in bare if name)


@_named("INTEGERS")
def integers(text: str) -> tuple[int, ...]:
    """Convert positive integers separated by commas, as `names` does."""
    return tuple(map(integer(1), names(text)))


def choice(*values: str) -> Callable[[str], str]:
    """Return the type of a flag with a fixed set of values."""

    @_named("|".join(values))
    def convert(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(
                f"={text}: wanted {'|'.join(values)}{near(text, values)}"
            )
        return text

    return convert


def near(name: str, names: Sequence[str], prefix: str = "") -> str:
    """Return "; did you mean X?" for the most similar of `names`, "" if none is similar."""
    found = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def help_requested(argv: Sequence[str]) -> bool:
    """Return True if the arguments contain a help flag."""
    return bool(_HELP & set(argv))


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of a command.

    Args:
        parser: The flags of the command.
        argv: Arguments, without the name of the command.

    Returns:
        The values of the flags by name, `paths` (the positional arguments), `parser` and
        `overrides` (pairs of config field and text), and for commands with a config `config` (the
        text of the flag) and `loaded_config` (a ConfigDict, or None).

    Raises:
        UsageError: A flag is unknown, or its value has the wrong type.
        JaxtalError: The config or one of its fields is invalid.
    """
    arguments = list(_with_flagfiles(argv))
    config = _Config(parser, arguments)
    given, paths, fields = _split(parser, arguments, config)
    parser.check_paths(paths)
    try:
        args = parser.parse_args(given)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name or ''}{error.message}") from None
    args.paths, args.parser, args.overrides = paths, parser, fields
    args.loaded_config = config.overridden(fields)
    return args


def _with_flagfiles(argv: Sequence[str], within: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the arguments, with --flagfile replaced by the arguments in the file."""
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            yield from (argument, *rest)
        elif match := re.fullmatch(r"--?flagfile(?:=(.*))?", argument, re.DOTALL):
            name = next(rest, "") if match[1] is None else match[1]
            yield from _with_flagfiles(_lines_of(name, within), (*within, name))
        else:
            yield argument


def _lines_of(name: str, within: tuple[str, ...]) -> list[str]:
    """Return the lines of a flag file without blank lines and comments (# and //)."""
    if name in within:
        raise UsageError(f"--flagfile={name}: the file includes itself; remove that line")
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UsageError(f"--flagfile={name}: cannot be read ({reason})") from None
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith(("#", "//"))]


def _split(
    parser: Parser, argv: Sequence[str], config: "_Config"
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Split the arguments into flags (`--flag=value`), paths and overrides of config fields."""
    given: list[str] = []
    paths: list[str] = []
    fields: list[tuple[str, str]] = []
    rest = iter(argv)
    for argument in rest:
        match = re.fullmatch(r"--?([^-=][^=]*)(?:=(.*))?", argument, re.DOTALL)
        if argument == "--":
            paths += rest
        elif match is None:
            paths.append(argument)
        elif parser.takes_config and re.match(r"(no)?config\.", match[1]):
            fields.append(_field(match[1], match[2], rest, config))
        else:
            given.append(_flag(parser, match[1], match[2], rest))
    return given, paths, [*dict(fields).items()]  # the last override of a field


def _flag(parser: Parser, name: str, value: str | None, rest: Iterator[str]) -> str:
    """Return a flag as `--name=value`; the value may be the next argument or implied."""
    spelled = name.replace("-", "_")
    if spelled in parser.flags:
        if value is None and parser.flags[spelled].type is boolean:
            value = "true"
        return f"--{spelled}={_value(name, value, rest)}"
    booleans = {f"no{known}": known for known, flag in parser.flags.items() if flag.type is boolean}
    if spelled in booleans and value is None:
        return f"--{booleans[spelled]}=false"
    known = [*parser.flags, *booleans]
    raise UsageError(f"Unknown command line flag {name!r}{near(spelled, known, '--')}")


def _field(name: str, value: str | None, rest: Iterator[str], config: "_Config") -> tuple[str, str]:
    """Return a config field and its text, which is implied for a boolean field."""
    no, field = name.startswith("no"), name.partition(".")[2].replace("-", "_")
    if value is None and config.is_boolean(field):
        return field, "false" if no else "true"
    if no:
        raise UsageError(f"--{name}: config.{field} is not boolean; give --config.{field}=...")
    return field, _value(name, value, rest)


def _value(name: str, value: str | None, rest: Iterator[str]) -> str:
    """Return the value of a flag, or the next argument if it has none."""
    value = next(rest, None) if value is None else value
    if value is None:
        raise UsageError(f"--{name} has no value; give --{name}=...")
    return value


class _Config:
    """The config that --config names, loaded on first use."""

    def __init__(self, parser: Parser, argv: Sequence[str]):
        self._required = parser.requires_config
        self._name = config_name(argv) if parser.takes_config else None
        self._config: ConfigDict | None = None

    def load(self) -> "ConfigDict":
        """Return the config; raise UsageError if --config is missing."""
        from jaxtal.config import get_config

        if self._name is None:
            raise UsageError(_FIRST_RUN)
        if self._config is None:
            self._config = get_config(self._name)
        return self._config

    def is_boolean(self, field: str) -> bool:
        """Return True for a boolean field; raise JaxtalError for an unknown one."""
        from jaxtal.config import find_field

        parent, name = find_field(self.load(), field)
        return parent.get_type(name) is bool

    def overridden(self, fields: Sequence[tuple[str, str]]) -> "ConfigDict | None":
        """Return the config with overridden fields; None if --config is optional and missing."""
        if self._name is None and not fields and not self._required:
            return None
        from jaxtal.config import override

        config = self.load()
        for field, text in fields:
            override(config, field, text)
        return config


def config_name(argv: Sequence[str]) -> str | None:
    """Return the value of the last --config flag, or None."""
    found = None
    for index, argument in enumerate(argv):
        if match := re.fullmatch(r"--?config(?:=(.*))?", argument, re.DOTALL):
            following = argv[index + 1] if index + 1 < len(argv) else None
            found = following if match[1] is None else match[1]
    return found or None


def add_config(parser: Parser, help: str, *, required: bool = True) -> None:
    """Define --config and --config.FIELD."""
    parser.add_flag("config", help)
    parser.takes_config, parser.requires_config = True, required


def add_compilation_cache(parser: Parser) -> None:
    """Define --compilation_cache_dir."""
    parser.add_flag(
        "compilation_cache_dir",
        "Folder where compiled programs are cached; default: JAX_COMPILATION_CACHE_DIR or jaxtal/ "
        "in the user's cache folder; '' disables the cache.",
    )


def required(args: argparse.Namespace, name: str) -> Any:
    """Return the value of a flag; raise UsageError if it is missing."""
    if not (value := getattr(args, name)):
        raise UsageError(f"--{name} is missing; {args.parser.help_of(name)}")
    return value


def check_outputs(
    args: argparse.Namespace, names: Sequence[str], inputs: Sequence[Path] = ()
) -> None:
    """Raise UsageError for output files that cannot be written or overwrite another file.

    Args:
        args: Parsed flags.
        names: Flags that name output files.
        inputs: Input files, which must not be overwritten.
    """
    taken = {path.resolve() for path in inputs}
    for name in names:
        if not getattr(args, name):
            continue
        path = Path(getattr(args, name))
        if wrong := _unwritable(path, taken):
            raise UsageError(f"--{name}={path}: {wrong}; give the name of a file to write")
        taken.add(path.resolve())


def _unwritable(path: Path, taken: set[Path]) -> str:
    """Return the reason why a file cannot be written, or ""."""
    if why := too_long(path.parent / f".{path.name}.tmp"):  # the unfinished file
        return why
    if path.is_dir():
        return "is a folder"
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        return f"no folder {path.parent} to write in"
    return "is another option's file" if path.resolve() in taken else ""


def as_flags(message: str, parser: Parser) -> str:
    """Spell the arguments in a library error's message as flags.

    `skip_damaged=True` becomes `--skip_damaged`, `ensemble=False` `--noensemble`, `member=3`
    `--member=3` and `workdir=...` `--workdir`. For commands with a config, `config.seed=1` becomes
    `--config.seed=1`. Other text with `=` stays.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name.startswith("config.") and parser.takes_config:
            return f"--{match[0]}"
        if name not in parser.flags:
            return match[0]
        if parser.flags[name].type is boolean and value in ("True", "False"):
            return f"--{name}" if value == "True" else f"--no{name}"
        return f"--{name}" + (f"={value}" if value.strip(".") else "")

    return re.sub(
        r"(?<![\w.\-/'\"=])([a-z_]+|config\.[a-z_.]+)=(\.\.\.|[^\s,;:()]*)", flag, message
    )


def help_text(parser: Parser, argv: Sequence[str]) -> str:
    """Return the help of a command, with the fields of the config that --config names."""
    text = parser.format_help()
    name = config_name(list(_with_flagfiles(argv))) if parser.takes_config else None
    return text + (_fields_text(name) if name else "")


def _fields_text(name: str) -> str:
    """Return one line per field of a config, with its value and its comment."""
    from jaxtal.config import describe_config

    lines = [f"\nfields of {name}, each set by --config.FIELD=VALUE:"]
    for field in describe_config(name):
        shown = f"{field.field} = {field.value!r}"
        lines.append(f"  {shown:<50}  {field.comment}".rstrip())
    return "\n".join(lines) + "\n"
