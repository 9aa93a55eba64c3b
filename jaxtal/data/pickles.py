"""What the readers of strangers' pickles share: refusing what is no data, and saying so."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jaxtal.errors import UserError


class RefusedError(ValueError):
    """A file holds something that is not data; the message completes "it contains ..."."""


@contextlib.contextmanager
def blaming(path: Path, kind: str, wanted: str) -> Iterator[None]:
    """Whatever parsing a stranger's file raises, the file is at fault: a UserError.

    Args:
        path: the file.
        kind: what it should be, as in "not a complete ... file".
        wanted: what it should hold.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except RefusedError as error:
        raise UserError(
            f"{path}: refused, because it contains {_short(error)}; wanted {wanted}. Nothing in it "
            "was executed"
        ) from None
    except Exception as error:
        raise UserError(
            f"{path}: not a complete {kind} file ({type(error).__name__}: {_short(error)}); copy "
            "or download it again"
        ) from None


def _short(error: Exception) -> str:
    """What an error says, which may be the file's own words, as part of a line."""
    return " ".join(str(error).split())[:160]
