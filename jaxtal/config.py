"""Config fields whose values leave nothing sensible to do are refused before anything is done."""

import functools
import math
from collections.abc import Collection, Mapping

from jaxtal.errors import ConfigError


def _get(config, field: str):
    try:
        return functools.reduce(getattr, field.split("."), config)
    except AttributeError:
        raise ConfigError(
            f"the config has no field {field}; add it (the method's THUMOS14 config lists all)"
        ) from None


def at_least(config, minimums: Mapping[str, float]) -> None:
    """Raise ConfigError unless every field `a.b` of `minimums` is finite and at least its value."""
    for field, minimum in minimums.items():
        value = _get(config, field)
        if not minimum <= value < math.inf:
            raise ConfigError(f"config.{field} is {value}; it must be at least {minimum}")


def finite(config, limits: Mapping[str, float]) -> None:
    """Raise ConfigError unless every field `a.b` of `limits` is None or within +-its value."""
    for field, limit in limits.items():
        value = _get(config, field)
        if value is not None and not abs(value) <= limit:
            raise ConfigError(f"config.{field} is {value}; it must be a number within +-{limit:g}")


def at_most(config, maximums: Mapping[str, float]) -> None:
    """Raise ConfigError unless every field `a.b` of `maximums` is at most its value."""
    for field, maximum in maximums.items():
        if not (value := _get(config, field)) <= maximum:
            raise ConfigError(f"config.{field} is {value}; it must be at most {maximum}")


def below(config, limits: Mapping[str, float]) -> None:
    """Raise ConfigError unless every field `a.b` of `limits` is less than its value."""
    for field, limit in limits.items():
        if not (value := _get(config, field)) < limit:
            raise ConfigError(f"config.{field} is {value}; it must be below {limit}")


def one_of(config, options: Mapping[str, Collection[str]]) -> None:
    """Raise ConfigError unless every field `a.b` of `options` has one of the values named there."""
    for field, known in options.items():
        if (value := _get(config, field)) not in known:
            raise ConfigError(f"config.{field} is {value!r}; it must be one of {', '.join(known)}")
