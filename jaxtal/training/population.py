"""Populations: M models trained at once that differ in their seeds and numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtal.errors import ConfigError
from jaxtal.evaluation.detection_map import selection_metric, selection_metric_name
from jaxtal.training.train_state import Hyperparams, hyperparams_from_config


def members_of(config) -> list:
    """The configs of single runs that the members of `config.population` equal.

    Member i has the seed `config.seed` + i and, of every field that `config.vary` names, its i-th
    value: "optimizer.learning_rate=1e-4,5e-4 loss.weights.mutual=0,1" for a population of two.

    Raises:
        ConfigError: `config.vary` cannot be read, names another kind of field or has not M values.
    """
    varied = _parse(config)
    members = []
    for index in range(config.population):
        member = config.copy_and_resolve_references()
        member.population, member.vary = 1, ""
        member.seed = config.seed + index
        for field, values in varied.items():
            _set(member, field, values[index])
        members.append(member)
    return members


def _set(member, field: str, value) -> None:
    try:
        member.update_from_flattened_dict({field: value})
    except TypeError:
        raise ConfigError(
            f"config.vary: {field} is a whole number in this config, so it cannot be {value}; make "
            "it a float there"
        ) from None


def _parse(config) -> dict[str, list]:
    """Field -> M numbers."""
    varied: dict[str, list] = {}
    for entry in config.vary.split():
        field, equals, text = entry.partition("=")
        where = f"config.vary: {entry!r}"
        if not equals:
            raise ConfigError(f"{where} is not FIELD=VALUE,VALUE,...; separate fields by spaces")
        if field not in _fields(config):
            raise ConfigError(
                f"{where}: members cannot differ in {field!r}, only in "
                f"{', '.join(_fields(config))}; train other differences in runs of their own"
            )
        if field in varied:
            raise ConfigError(f"{where}: {field} is there twice; name every field once")
        kind = int if field == "seed" else float
        try:
            varied[field] = [kind(value) for value in text.split(",")]
        except ValueError:
            raise ConfigError(f"{where}: the values must be numbers, like 0,0.5,1e-3") from None
        if len(varied[field]) != config.population:
            raise ConfigError(
                f"{where} has {len(varied[field])} values, but config.population is "
                f"{config.population}; give one for each member"
            )
    return varied


def _fields(config) -> list[str]:
    """What `Hyperparams` holds, by the names that the fields have in a config."""
    weights = [f"loss.weights.{name}" for name in config.loss.weights]
    return ["seed", "optimizer.learning_rate", "optimizer.weight_decay", *weights]


def hypers(members: Sequence) -> Hyperparams:
    """The members' hyper-parameters, each [M]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(hyperparams_from_config, members))


def values_of(member, config) -> dict[str, float]:
    """The numbers besides the seed in which a member's config differs from `config`'s others."""
    varied = [entry.partition("=")[0] for entry in config.vary.split()]
    flat = member.to_dict()
    return {field: _look_up(flat, field) for field in varied if field != "seed"}


def _look_up(tree: Any, field: str) -> float:
    for name in field.split("."):
        tree = tree[name]
    return tree


def summary(results: Sequence) -> dict[str, Any]:
    """A line on an evaluation: the single result, or means over the members and their criteria.

    Args:
        results: the members', None for one that has diverged; one at least is there.
    """
    if len(results) == 1:
        return results[0]
    kept = [result for result in results if result is not None]
    about = {name: kept[0][name] for name in ("step", "protocol")}
    criteria = [None if result is None else selection_metric(result) for result in results]
    return {
        **about,
        **statistics(kept)["mean"],
        "members": {selection_metric_name(kept[0]): criteria},
    }


def groups(members: Sequence, config) -> list[tuple[dict[str, float], list[int]]]:
    """Which members differ in nothing but the seed: (`values_of` them, their numbers) each."""
    values = [values_of(member, config) for member in members]
    distinct = [value for index, value in enumerate(values) if value not in values[:index]]
    return [(value, [i for i, other in enumerate(values) if other == value]) for value in distinct]


def result(members: Sequence[dict], grouped: Sequence, ensembles: Sequence) -> dict[str, Any]:
    """What result.json holds of a population.

    Args:
        members: results with "seed" and "values"; of one that has diverged there are no numbers.
        grouped: as of `groups`.
        ensembles: of each group the result of its members' mean outputs, or None.

    Returns:
        "population", the number of members; step and protocol; `statistics` over all of them
        ("mean", "sd", "interval_95") and, where they differ in more than the seed, over each
        group of equal values ("groups"); "ensemble", in the group's place; "members".
    """
    kept = [member for member in members if "map" in member]
    parts = [
        {
            "values": values,
            **statistics([members[index] for index in numbers if "map" in members[index]]),
            **({} if ensemble is None else {"ensemble": ensemble}),
        }
        for (values, numbers), ensemble in zip(grouped, ensembles, strict=True)
    ]
    alone = {name: value for name, value in parts[0].items() if name == "ensemble"}
    return {
        "population": len(members),
        **{name: kept[0][name] for name in ("step", "protocol")},
        "diverged": [index for index, member in enumerate(members) if "diverged" in member],
        **{name: value for name, value in statistics(kept).items() if name != "members"},
        **({"groups": parts} if len(parts) > 1 else alone),
        "members": list(members),
    }


NUMBERS = ("map", "average", "classification_map", "f1", "official", "best_on_test")


def statistics(results: Sequence[Mapping]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and 95 % interval of members' results.

    Args:
        results: the members' results; their numbers are those under `NUMBERS`, at any depth.

    Returns:
        {"members": n, "mean": tree, "sd": tree, "interval_95": tree of [low, high]}: Student's
        interval of the mean, whose ends, like the sd, are NaN for a single member.
    """
    kept = [{name: result[name] for name in NUMBERS if name in result} for result in results]
    if not kept:
        return {"members": 0}
    samples = jax.tree.map(lambda *values: np.array(values, float), *map(_numbers, kept))

    def over(function):
        return jax.tree.map(function, samples)

    return {
        "members": len(kept),
        "mean": over(lambda x: float(x.mean())),
        "sd": over(lambda x: float(x.std(ddof=1)) if len(x) > 1 else float("nan")),
        "interval_95": over(_interval),
    }


def _numbers(tree: Any) -> Any:
    """Only the fractions of a result: no counts, no names, no step."""
    return {
        key: _numbers(value) if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if isinstance(value, float | Mapping) and key != "counts"
    }


def _interval(x: np.ndarray) -> list[float]:
    if len(x) < 2:
        return [float("nan")] * 2
    half = student_quantile(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
    return [float(x.mean() - half), float(x.mean() + half)]


def student_quantile(probability: float, degrees: int) -> float:
    """Compute the quantile of Student's t distribution for a whole number of degrees of freedom.

    With t = sqrt(degrees) tan(angle), the probability between -t and t is a finite sum of positive
    terms (Abramowitz and Stegun, 26.7.3 and 26.7.4), exact but for rounding. It is inverted by
    bisection, down to neighboring floats.

    Args:
        probability: from 0.5 up to but not including 1.
        degrees: of freedom, 1 or more.
    """
    between = 2 * probability - 1
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _between(middle, degrees) < between else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _between(angle: float, degrees: int) -> float:
    """The probability of Student's t between -t and t, see `student_quantile`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
