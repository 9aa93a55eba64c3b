"""Populations: M models that are trained together and differ in seeds and hyperparameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.errors import ConfigError
from jaxtal.evaluation.selection import selection_metric, selection_metric_name
from jaxtal.training.train_state import Hyperparams, hyperparams_from_config


def members_of(config: ConfigDict) -> list[ConfigDict]:
    """Return the config of each member of a population, as for a run of its own.

    Member i has the seed `config.seed` + i and the i-th value of every field in `config.vary`, e.g.
    "optimizer.learning_rate=1e-4,5e-4 loss.weights.mutual=0,1" for a population of two.

    Args:
        config: the whole config of the run.

    Returns:
        M configs with `population` 1 and an empty `vary`.

    Raises:
        ConfigError: `config.vary` cannot be parsed, names a field that must not vary, or does not
            have M values.
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


def _set(member: ConfigDict, field: str, value: float) -> None:
    try:
        member.update_from_flattened_dict({field: value})
    except TypeError:
        raise ConfigError(
            f"config.vary: {field} is an integer in this config, so it cannot be {value}; make "
            "it a float there"
        ) from None


def _parse(config: ConfigDict) -> dict[str, list]:
    """Parse `config.vary` into {field: M values}."""
    varied: dict[str, list] = {}
    for entry in config.vary.split():
        field, equals, text = entry.partition("=")
        where = f"config.vary: {entry!r}"
        if not equals:
            raise ConfigError(f"{where} is not FIELD=VALUE,VALUE,...; separate fields by spaces")
        if field not in _fields(config):
            raise ConfigError(
                f"{where}: members cannot differ in {field!r}, only in "
                f"{', '.join(_fields(config))}; train other differences in separate runs"
            )
        if field in varied:
            raise ConfigError(f"{where}: {field} is given twice; give every field once")
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


def _fields(config: ConfigDict) -> list[str]:
    """Return the config fields that correspond to the fields of `Hyperparams`."""
    weights = [f"loss.weights.{name}" for name in config.loss.weights]
    return ["seed", "optimizer.learning_rate", "optimizer.weight_decay", *weights]


def hypers(members: Sequence[ConfigDict]) -> Hyperparams:
    """Stack the hyperparameters of the members' configs into arrays [M].

    Args:
        members: configs of the members, as returned by `members_of`.

    Returns:
        Hyperparameters with arrays [M].
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(hyperparams_from_config, members))


def values_of(member: ConfigDict, config: ConfigDict) -> dict[str, float]:
    """Return a member's values of the varied fields, without the seed.

    Args:
        member: config of the member.
        config: the whole config of the run.

    Returns:
        {field: value} for the fields in `config.vary`.
    """
    varied = [entry.partition("=")[0] for entry in config.vary.split()]
    flat = member.to_dict()
    return {field: _look_up(flat, field) for field in varied if field != "seed"}


def _look_up(tree: Any, field: str) -> float:
    for name in field.split("."):
        tree = tree[name]
    return tree


def summary(results: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Summarize an evaluation of all members for metrics.jsonl.

    Args:
        results: one per member, None for a diverged one; at least one is not None.

    Returns:
        The result of a single run; for a population the means over the members that have not
        diverged, with the selection metric of each member under "members".
    """
    kept = [result for result in results if result is not None]
    if len(results) == 1:
        return kept[0]
    about = {name: kept[0][name] for name in ("step", "protocol")}
    criteria = [None if result is None else selection_metric(result) for result in results]
    return {
        **about,
        **statistics(kept)["mean"],
        "members": {selection_metric_name(kept[0]): criteria},
    }


def groups(
    members: Sequence[ConfigDict], config: ConfigDict
) -> list[tuple[dict[str, float], list[int]]]:
    """Group the members that differ in nothing but the seed.

    Args:
        members: configs of the members, as returned by `members_of`.
        config: the whole config of the run.

    Returns:
        For each group its values, as returned by `values_of`, and the indices of its members.
    """
    values = [values_of(member, config) for member in members]
    distinct = [value for index, value in enumerate(values) if value not in values[:index]]
    return [(value, [i for i, other in enumerate(values) if other == value]) for value in distinct]


def result(
    members: Sequence[dict[str, Any]],
    grouped: Sequence[tuple[dict[str, float], list[int]]],
    ensembles: Sequence[dict[str, Any] | None],
) -> dict[str, Any]:
    """Build the content of result.json for a population.

    Args:
        members: results of the members, with "seed" and "values"; the result of a diverged member
            has no mAP.
        grouped: groups of members, as returned by `groups`.
        ensembles: for each group the result of its members' mean outputs, or None.

    Returns:
        "population", the number of members; step and protocol; "diverged", indices; `statistics`
        over all members ("mean", "sd", "interval_95"); if they differ in more than the seed, the
        same for each group under "groups", with its "ensemble"; otherwise "ensemble"; "members".
    """
    kept = [member for member in members if "diverged" not in member]
    parts = [
        {
            "values": values,
            **statistics([members[index] for index in numbers if "diverged" not in members[index]]),
            **({} if ensemble is None else {"ensemble": ensemble}),
        }
        for (values, numbers), ensemble in zip(grouped, ensembles, strict=True)
    ]
    alone = {name: value for name, value in parts[0].items() if name == "ensemble"}
    return {
        "population": len(members),
        **{name: kept[0][name] for name in ("step", "protocol") if name in kept[0]},
        "diverged": [index for index, member in enumerate(members) if "diverged" in member],
        **{name: value for name, value in statistics(kept).items() if name != "members"},
        **({"groups": parts} if len(parts) > 1 else alone),
        "members": list(members),
    }


NUMBERS = (
    "map",
    "average",
    "classification_map",
    "f1",
    "official",
    "best_on_test",
    "best_on_validation",
)


def statistics(results: Sequence[Mapping]) -> dict[str, Any]:
    """Compute the mean, standard deviation (n - 1) and 95 % confidence interval of results.

    Args:
        results: results of the members; only their entries in `NUMBERS` are used.

    Returns:
        {"members": n, "mean": tree, "sd": tree, "interval_95": tree of [low, high]}. The interval
        is Student's interval of the mean; it and the sd are NaN for a single member.
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
    """Return the fractions of a result, without counts, names and step."""
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
    """Compute a quantile of Student's t distribution with integer degrees of freedom.

    With t = sqrt(degrees) tan(angle), the probability between -t and t is a finite sum of positive
    terms (Abramowitz and Stegun, 26.7.3 and 26.7.4), exact up to rounding. It is inverted by
    bisection, down to adjacent floats.

    Args:
        probability: in [0.5, 1).
        degrees: degrees of freedom, at least 1.

    Returns:
        The t with this cumulative probability.
    """
    between = 2 * probability - 1
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _between(middle, degrees) < between else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _between(angle: float, degrees: int) -> float:
    """Return the probability between -t and t, see `student_quantile`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
