"""Optional packages, which come with an extra: `pip install 'jaxtal[report]'`."""

import contextlib
from collections.abc import Iterator

from jaxtal.errors import JaxtalError


@contextlib.contextmanager
def required(extra: str, purpose: str) -> Iterator[None]:
    """Name the extra if a package is missing that the block imports.

    Args:
        extra: that the package comes with, as pyproject.toml names it.
        purpose: what it is needed for, to begin the message.

    Raises:
        JaxtalError: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "jaxtal":  # not missing, but wrong
            raise
        raise JaxtalError(
            f"{purpose} needs the package {package}, which is not installed; "
            f"pip install 'jaxtal[{extra}]'"
        ) from None
