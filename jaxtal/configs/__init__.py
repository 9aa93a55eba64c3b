"""The shipped config files, which are in the folder configs/ of a checkout.

An installation replaces this package by that folder. In a checkout, installed or not, this file
redirects the package to the folder configs/ beside `jaxtal`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    class ConfigFile(Protocol):
        """A module of this package."""

        def get_config(self, preset: str = ...) -> ConfigDict:
            """Return the config; only some files accept a preset."""

    # Type checkers do not follow `__path__`: they treat every module of the package like this.
    def __getattr__(name: str) -> ConfigFile: ...


__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
