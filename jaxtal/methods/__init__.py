"""Registry of the methods.

A new method in this package adds a module with a `METHOD` and is listed here. A method outside of
the package calls `register`, for example in its config file.
"""

from jaxtal.errors import ConfigError
from jaxtal.methods import acmnet, basnet, co2net, d2net, hybrid, twostream, wtalc
from jaxtal.methods.base import Method

__all__ = ["METHODS", "Method", "get", "names", "register"]

METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Add a method to the registry, so that `config.method` can name it.

    Args:
        method: the method; registering the same object again has no effect.

    Raises:
        ConfigError: another method has the same name.
    """
    if METHODS.setdefault(method.name, method) is not method:
        raise ConfigError(f"there are two methods called {method.name!r}; give one another name")


for _module in (co2net, d2net, twostream, hybrid, wtalc, basnet, acmnet):
    register(_module.METHOD)


def names() -> list[str]:
    """Return the names of all registered methods."""
    return list(METHODS)


def get(name: str) -> Method:
    """Return a registered method.

    Args:
        name: as in `config.method`.

    Raises:
        ConfigError: no method has this name.
    """
    if name not in METHODS:
        raise ConfigError(f"config.method is {name!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[name]
