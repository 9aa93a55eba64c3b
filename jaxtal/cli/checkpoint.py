"""The flag --checkpoint, which selects a checkpoint of a work directory."""

import argparse

from jaxtal.cli import flags


def convert(text: str) -> int | str:
    """Convert "last", "best" or a step."""
    if text in ("last", "best"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"={text}: wanted last, best, or the step of a checkpoint")


def add_flag(parser: flags.Parser, default: str | None = "last") -> None:
    """Define --checkpoint; without a default it is None if it is not given."""
    parser.add_flag(
        "checkpoint",
        "Checkpoint to read from --workdir: last, the newest one; best, that of the highest mAP "
        "during training, on the validation videos if there are any, else on the test videos; or "
        "its step.",
        type=convert,
        default=default,
    )
