"""The methods by name.

A new one in this package adds a module with a METHOD and its name here; one outside of it calls
`register`, e.g. in its config file's imports.
"""

from jaxtal.errors import ConfigError
from jaxtal.methods import co2net, d2net, hybrid, twostream
from jaxtal.methods.base import Method

__all__ = ["METHODS", "Method", "get", "names", "register"]

METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Let `config.method` name it; ConfigError if the name is another's."""
    if METHODS.setdefault(method.name, method) is not method:
        raise ConfigError(f"there are two methods called {method.name!r}; give one another name")


for _module in (co2net, d2net, twostream, hybrid):
    register(_module.METHOD)


def names() -> list[str]:
    """Return the names of all registered methods."""
    return list(METHODS)


def get(name: str) -> Method:
    """The method called `name`; ConfigError if there is none."""
    if name not in METHODS:
        raise ConfigError(f"config.method is {name!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[name]
