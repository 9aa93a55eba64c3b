"""The methods by name. A new one adds a module with a METHOD and its line here."""

from jaxtal.errors import UserError
from jaxtal.methods import co2net, d2net
from jaxtal.methods.method import Method

METHODS: dict[str, Method] = {method.name: method for method in (co2net.METHOD, d2net.METHOD)}


def get(name: str) -> Method:
    """The method called `name`; UserError if there is none."""
    if name not in METHODS:
        raise UserError(f"config.method is {name!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[name]
