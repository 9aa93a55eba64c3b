"""Grid search over loss weights, optimizer and localization with one training.

Fields that members of a population may differ in are trained at once, with every seed. The fields
of the localization need no training: the outputs of each member are localized again.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.config import find_field, override
from jaxtal.data.dataset import Dataset
from jaxtal.data.io import json_files
from jaxtal.errors import ConfigError, DataError, warn
from jaxtal.evaluation.selection import selection_metric, selection_metric_name
from jaxtal.methods import base
from jaxtal.training import population, trainer
from jaxtal.training.results import evaluate_member
from jaxtal.training.setup import Setup
from jaxtal.training.trainer import Progress, no_progress

Grid = Mapping[str, Sequence[str]]
_LOCALIZATION = "localization."
NAME = "search.json"


class _Part(NamedTuple):
    """Members' outputs for the videos that the search is judged by."""

    setup: Setup
    name: str
    step: int
    outputs: list[list[dict]]
    diverged: list[Any]


def search(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    grid: Grid,
    seeds: int = 1,
    *,
    dataset: Dataset | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train and evaluate all combinations of values; resume if the training was interrupted.

    They are judged by the validation videos. Without any, by the test videos, with a warning.

    Args:
        config: the whole config of a run with one model.
        workdir: folder of the population that is trained; search.json is written to it.
        grid: the values of each field, as text: loss weights, learning rate, weight decay, and
            fields of the localization.
        seeds: models of each combination, with the seeds from `config.seed` on.
        dataset: data set with all features, in place of the one that `config.data` names.
        progress: returns a context that shows the progress of the training.

    Returns:
        The content of search.json: {"judged_by": "validation" or "test", "metric": its name,
        "protocol", "step", "seeds", "rows": [{"values": {field: text}, "by_seed": [...], "mean",
        "sd"}, ...]}, the best mean first; numbers are fractions, NaN for a diverged model.

    Raises:
        ConfigError: a field cannot be searched, or a value is invalid.
        DataError: the data set has no ground truth to judge by, or cannot be read.
        Interrupted: SIGTERM was received; the same call resumes.
    """
    trained, localized = (
        {field: texts for field, texts in grid.items() if field.startswith(_LOCALIZATION) == wanted}
        for wanted in (False, True)
    )
    settings = [_setting(config, values) for values in _combinations(localized)]
    with trainer.opened(as_population(config, trained, seeds), workdir, dataset=dataset) as run:
        _check_judge(run.setup)
        run.train(progress)
        run.evaluate_and_write_results()
        name = run.setup.judged
        part = _Part(run.setup, name, run.step, run.outputs(name), run.progress["diverged"])
    rows = []
    for place, values in enumerate(_combinations(trained)):
        for setting, changed in zip(settings, _combinations(localized), strict=True):
            members = range(place * seeds, (place + 1) * seeds)
            rows.append(_row({**values, **changed}, [_judge(part, m, setting) for m in members]))
    rows.sort(key=lambda row: -np.nan_to_num(row["mean"], nan=-1))
    found = {**_about(part, config), "seeds": seeds, "rows": rows}
    json_files.write(Path(workdir) / NAME, json_files.to_text(found))
    return found


def _about(part: _Part, config: ConfigDict) -> dict[str, Any]:
    """Return by which videos and which number the combinations are compared."""
    kept = next(member for member, step in enumerate(part.diverged) if step is None)
    result = _judge(part, kept, config) or {}
    return {
        "judged_by": part.name,
        "metric": selection_metric_name(result),
        "protocol": result["protocol"],
        "step": part.step,
    }


def as_population(config: ConfigDict, trained: Grid, seeds: int) -> ConfigDict:
    """Return the config of the population with every combination and seed.

    Args:
        config: the whole config of a run with one model.
        trained: the values of each field that needs training.
        seeds: models of each combination.

    Raises:
        ConfigError: the config already is a population's, or a field must not vary.
    """
    if config.population != 1 or config.vary:
        raise ConfigError(
            f"config.population is {config.population} and config.vary {config.vary!r}: a search "
            "makes its own population; remove both, and give seeds=... and grid=..."
        )
    if "seed" in trained:
        raise ConfigError(
            "grid=...: the seed is no field of a grid; give seeds=... and config.seed"
        )
    combinations = [*_combinations(trained)]
    whole = config.copy_and_resolve_references()
    whole.population = len(combinations) * seeds
    columns = {
        field: [values[field] for values in combinations for _ in range(seeds)] for field in trained
    }
    numbers = [str(config.seed + index) for index in range(seeds)] * len(combinations)
    if whole.population > 1:
        columns["seed"] = numbers
    whole.vary = " ".join(f"{field}={','.join(values)}" for field, values in columns.items())
    population.members_of(whole)  # raises ConfigError
    return whole


def parse_grid(text: str, config: ConfigDict) -> dict[str, list[str]]:
    """Parse "FIELD=VALUE,VALUE FIELD=VALUE".

    Args:
        text: the fields with their values.
        config: a config that has the fields.

    Raises:
        ConfigError: the text is malformed, or the config has no such field.
    """
    grid: dict[str, list[str]] = {}
    for entry in text.split():
        field, equals, values = entry.partition("=")
        if not equals or not all(values.split(",")) or field in grid:
            raise ConfigError(
                f"grid=...: {entry!r} is not FIELD=VALUE,VALUE, or the field is given twice; "
                "separate fields by spaces"
            )
        parent, name = find_field(config, field)
        if isinstance(parent[name], tuple):
            raise ConfigError(
                f"grid=...: config.{field} is a tuple, which cannot be searched; give it once with "
                "config.localization, in a search for each value"
            )
        grid[field] = values.split(",")
    if not grid:
        raise ConfigError("grid=...: no fields; give FIELD=VALUE,VALUE, separated by spaces")
    return grid


def _combinations(grid: Grid) -> list[dict[str, str]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _setting(config: ConfigDict, values: Mapping[str, str]) -> ConfigDict:
    """Return the config with other values of the localization, validated."""
    changed = config.copy_and_resolve_references()
    for field, text in values.items():
        override(changed, field, text)
    methods.get(config.method).validate_config(changed)
    base.check_localization(changed)
    return changed


def _check_judge(setup: Setup) -> None:
    """Raise DataError without videos to judge by, and warn if these are the test videos."""
    if not setup.judged:
        raise DataError(f"{setup.dataset.name}: no ground truth, so nothing can be compared")
    if setup.judged == "test":
        warn(
            "no validation videos: the combinations are compared by the test videos, so that the "
            "best result is too good by construction; name a subset with "
            "config.data.validation_subset"
        )


def _judge(part: _Part, member: int, setting: ConfigDict) -> dict[str, Any] | None:
    """Evaluate a member with another localization; None for a diverged one."""
    if part.diverged[member] is not None:
        return None
    setup = _localizing(part.setup, setting)
    return evaluate_member(setup, part.name, part.step, part.outputs[member]).result


def _localizing(setup: Setup, setting: ConfigDict) -> Setup:
    """Return the setup with the localization of another config."""
    config = setup.config.copy_and_resolve_references()
    config.localization = setting.localization
    return setup._replace(config=config)


def _row(values: dict[str, str], results: list[dict[str, Any] | None]) -> dict[str, Any]:
    by_seed = [float("nan") if one is None else selection_metric(one) for one in results]
    spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan")
    return {"values": values, "by_seed": by_seed, "mean": float(np.mean(by_seed)), "sd": spread}
