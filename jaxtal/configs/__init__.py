"""The shipped config files, which are in the folder configs/ of a checkout.

That folder is installed as this package, in the place of this file. In a checkout, which need not
be installed, this file is found, and makes the folder beside `jaxtal` the package's own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    class ConfigFile(Protocol):
        """A module of this package."""

        def get_config(self, preset: str = ...) -> ConfigDict:
            """Return the config; few files have presets."""

    # Type checkers do not follow `__path__`: for them every module of the package is like this.
    def __getattr__(name: str) -> ConfigFile: ...


__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
