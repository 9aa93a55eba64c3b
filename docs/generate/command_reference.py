"""The reference of commands, from the options and descriptions that `--help` prints."""

import inspect
import re
from collections.abc import Iterator

from docs.generate.markdown import NONE, escape
from jaxtal.cli import COMMANDS
from jaxtal.cli.command import Command

_HEAD = """# Commands

`jaxtal COMMAND --help` prints what this page states about a command. `python -m jaxtal.main` is the
same as `jaxtal train`, and `python -m jaxtal COMMAND` the same as `jaxtal COMMAND`.

Write flags as `--flag=value` or `--flag value`, with `_` or `-` in their names; a boolean flag also
as `--flag` and `--noflag`. The last value of a repeated flag counts, unless the flag collects
values. `--flagfile=FILE` inserts flags from a file, one per line. `jaxtal --version` prints the
version.

All commands share their [exit codes](errors.md). This page is generated from the options of the
commands when the site is built.
"""


def page() -> str:
    """Return the page: one section for each command."""
    rows = (f"| [`jaxtal {name}`](#{anchor(name)}) | {c.summary} |" for name, c in COMMANDS.items())
    lines = [_HEAD, "| Command | Purpose |\n|---|---|", *rows, ""]
    for command in COMMANDS.values():
        lines += _section(command)
    return "\n".join(lines)


def anchor(name: str) -> str:
    """Return the id of a command's section."""
    return f"jaxtal-{name.replace(' ', '-')}"


def _section(command: Command) -> Iterator[str]:
    parser = command.parser()
    yield f"## `jaxtal {command.name}` {{ #{anchor(command.name)} }}\n"
    yield _fenced(inspect.cleandoc(parser.description or ""))
    yield "\n| Flag | Value | Default | Meaning |\n|---|---|---|---|"
    if parser.takes_config:
        yield (
            "| `--config.FIELD` | the type of the field | the config's | Override a [field of the "
            "config](config.md). |"
        )
    for name, flag in parser.flags.items():
        default = NONE if flag.default in (None, "") else f"`{flag.default}`"
        meaning = escape(parser.help_of(name))
        yield f"| `--{name}` | {escape(str(flag.metavar))} | {default} | {meaning} |"
    yield ""


def _fenced(text: str) -> str:
    """Turn indented commands of a description into fences, and escape the rest."""
    blocks = re.split(r"((?:^ {4}.*\n?|^\n(?= {4}))+)", text, flags=re.MULTILINE)
    blocks[::2] = (escape(block) for block in blocks[::2])
    blocks[1::2] = (f"```sh\n{inspect.cleandoc(block)}\n```\n" for block in blocks[1::2])
    return "".join(blocks)
