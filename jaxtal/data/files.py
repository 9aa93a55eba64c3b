"""Writing files so that they appear at once or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtal.errors import UserError


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[Any]:
    """An open file that takes the place of `path` when the block has ended without an error.

    What is no regular file (a device, a pipe) is written to, and a link's target is replaced.

    Raises:
        UserError: it cannot be written.
    """
    try:
        target = path.resolve()
        whole = target.is_file() or not target.exists()
        temporary = target.with_name(f".{target.name}.tmp") if whole else target
        try:
            with open(temporary, mode) as file:
                yield file
                file.flush()
                if whole:
                    os.fsync(file.fileno())
            if whole:
                os.replace(temporary, target)
        except BaseException:
            if whole:
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
