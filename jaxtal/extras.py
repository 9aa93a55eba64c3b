"""Optional packages, installed by extras: `pip install 'jaxtal[report]'`."""

import contextlib
from collections.abc import Iterator

from jaxtal.errors import JaxtalError


@contextlib.contextmanager
def required(extra: str, purpose: str) -> Iterator[None]:
    """Name the extra to install if the block imports an optional package that is missing.

    Args:
        extra: Name of the extra in pyproject.toml.
        purpose: Subject of the message: the feature that needs the package.

    Raises:
        JaxtalError: The package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "jaxtal":  # a defect of jaxtal, not a missing package
            raise
        raise JaxtalError(
            f"{purpose} needs the package {package}, which is not installed; "
            f"pip install 'jaxtal[{extra}]'"
        ) from None
