"""The console command `jaxtal`: library calls from arguments, one-line errors, exit codes.

Importing a module of this package defines no flag. None of the modules imports JAX, NumPy or
Matplotlib before a command runs, so that --help prints at once.
"""

import contextlib
import faulthandler
import functools
import sys
from collections.abc import Sequence

from jaxtal.cli import (
    configs,
    convert_checkpoint,
    data,
    evaluate,
    export,
    figure,
    flags,
    localize,
    predict,
    report,
    runtime,
    search,
    streams,
    summary,
    train,
)
from jaxtal.cli.command import Command
from jaxtal.data.io import files
from jaxtal.errors import JaxtalError
from jaxtal.parallel import preemption

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        train.COMMAND,
        predict.COMMAND,
        localize.COMMAND,
        evaluate.COMMAND,
        export.COMMAND,
        report.COMMAND,
        *data.COMMANDS,
        convert_checkpoint.COMMAND,
        configs.COMMAND,
        summary.COMMAND,
        search.COMMAND,
        figure.TIMELINES,
    )
}

GROUPS = ("data", "figure")  # first words of commands of two words


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of `jaxtal`.

    Args:
        argv: The command's name and its arguments. None for those of the process, whose signals and
            standard streams are then handled, too.

    Returns:
        The exit code: 0 success, 2 user error (see the last line of stderr), 75 interrupted (the
        same command resumes), 130 stopped by Ctrl-C.
    """
    if argv is not None:
        return _main([*argv])
    streams.install()
    preemption.install_handlers(files.remove_temporaries)
    code = streams.end(_main(sys.argv[1:]))
    preemption.stop_watching()
    return code


def _main(arguments: list[str]) -> int:
    """Run the command that the arguments name, or print help; return the exit code."""
    if arguments and arguments[0] in ("--version", "-version"):
        return _print_version()
    words = _words(arguments)
    name = " ".join(words)
    if name not in COMMANDS and (not words or name in GROUPS) and flags.help_requested(arguments):
        return _print_help(name)
    if name not in COMMANDS:
        return runtime.fail(f"{_wrong_command(words, name)} (jaxtal --help lists the commands)")
    return _run(COMMANDS[name], arguments[len(words) :])


def _words(arguments: Sequence[str]) -> list[str]:
    """Return the words that name the command: two after a group, else one."""
    words: list[str] = []
    for argument in arguments[:2]:
        if argument.startswith("-") or (words and words[0] not in GROUPS):
            break
        words.append(argument.replace("_", "-"))
    return words


def _wrong_command(words: Sequence[str], name: str) -> str:
    """Return the message about a missing or unknown command name."""
    if words and words[0] in GROUPS:
        known = [other for other in COMMANDS if other.startswith(f"{words[0]} ")]
    else:
        known = [*dict.fromkeys(other.partition(" ")[0] for other in COMMANDS)]
    if not words or name in GROUPS:
        return f"a command is missing; wanted one of {', '.join(known)}"
    return f"{name!r} is not a command; wanted one of {', '.join(known)}{flags.near(name, known)}"


def _run(command: Command, arguments: Sequence[str]) -> int:
    """Parse the arguments of a command and run it."""
    from jaxtal.cli import logs

    if command.resumes:
        preemption.make_resumable()
    parser = command.parser()
    try:
        if flags.help_requested(arguments):
            streams.check(required=True)
            print(flags.help_text(parser, arguments), end="")
            return 0
        logs.install(functools.partial(flags.as_flags, parser=parser))
        args = flags.parse(parser, arguments)
    except JaxtalError as error:
        return runtime.fail_with(error, parser, f" ({parser.prog} --help lists the options)")
    except OSError as error:
        return runtime.fail_with_system(error)
    streams.check(required=command.prints)
    with contextlib.suppress(OSError, RuntimeError):  # stderr may have no file descriptor
        faulthandler.enable()
    return runtime.reporting_errors(command.run, args)


def _print_version() -> int:
    from jaxtal import __version__

    streams.check(required=True)
    print(f"jaxtal {__version__}")
    return 0


def _print_help(group: str) -> int:
    """Print the commands, or those of a group, with their summaries."""
    streams.check(required=True)
    print(f"usage: jaxtal {group} COMMAND [--flag=value ...]".replace("  ", " "))
    if not group:
        print("\nWeakly supervised temporal action localization on JAX.")
    print("\ncommands:")
    for name, command in COMMANDS.items():
        if name.startswith(group):
            print(f"  {name:<20}{command.summary}")
    print("\n`jaxtal COMMAND --help` describes a command and its flags; `jaxtal --version`.")
    return 0
