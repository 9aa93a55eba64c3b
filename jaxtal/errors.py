"""What is said to the person at the keyboard when something is wrong."""

import sys


class UserError(Exception):
    """Something that the user can mend; the command line prints it as one line and exits with 2.

    The message says what is wrong and where, what was found and what was wanted, and how to fix it.
    """


class NotFiniteError(UserError):
    """A model's outputs are not finite: its training has diverged."""


def warn(message: str) -> None:
    """A line on stderr."""
    print(f"warning: {message}", file=sys.stderr)
