"""Train table rows with several seeds, as populations of one or several rows.

The seeds of a row form a population, and rows that differ only in fields of `config.vary` share
one. Finished members are found in the work directories by their configs: tables share rows, and
seeds can be added later.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from benchmarks.tables.rows import Row, branch_of
from jaxtal.cli import logs
from jaxtal.config import complete
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError
from jaxtal.training import population, trainer

# Fields that do not change the numbers of the tables.
_ONLY_SHOWN = ("evaluation.plot_videos", "evaluation.save_activations", "profile")


def identity(config: ConfigDict) -> str:
    """Return a hash of a config; a config read from its JSON file has the same one."""
    fields = flatten_dict(config.to_dict(), sep=".", keep_empty_nodes=True)
    kept = {name: value for name, value in fields.items() if name not in _ONLY_SHOWN}
    if kept.get("train.epochs"):
        del kept["train.steps"]  # they follow from the epochs and the data
    text = json.dumps(json_files.finite(kept), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def with_seeds(config: ConfigDict, count: int) -> list[ConfigDict]:
    """Return the configs of `count` single runs that differ in their seeds only."""
    config = config.copy_and_resolve_references()
    config.population = count
    return population.members_of(config)


@dataclasses.dataclass
class Found:
    """Results of finished runs.

    Attributes:
        members: results as in result.json, by `identity` of the single run's config; a diverged
            member has no numbers.
        ensembles: results of ensembles by the identities of their members; None if too few
            members are left.
    """

    members: dict[str, dict[str, Any]]
    ensembles: dict[frozenset[str], dict[str, Any] | None]

    def missing(self, members: Sequence[ConfigDict], ensemble: bool) -> list[ConfigDict]:
        """Return the configs that are still to be trained.

        Args:
            members: configs of single runs.
            ensemble: return all members unless their ensemble has been trained.
        """
        names = [identity(member) for member in members]
        if ensemble and len(names) > 1:
            return [] if frozenset(names) in self.ensembles else list(members)
        return [m for m, name in zip(members, names, strict=True) if name not in self.members]


def find(workdir: Path) -> Found:
    """Read the results of the finished runs in the subfolders of `workdir`."""
    found = Found({}, {})
    for file in sorted(workdir.glob("*/result.json")):
        result = json_files.load(file, "the result of a run")
        saved = json_files.load(file.with_name("config.json"), "a run's config")
        config = ConfigDict(complete(saved))
        if result["step"] != config.train.steps:
            continue  # the run is being continued to more steps
        members = population.members_of(config)
        names = [identity(member) for member in members]
        found.members |= dict(zip(names, result.get("members", [result]), strict=True))
        grouped = population.groups(members, config)
        for (_, numbers), group in zip(grouped, result.get("groups", [result]), strict=True):
            if len(numbers) > 1:
                found.ensembles[frozenset(names[i] for i in numbers)] = group.get("ensemble")
    return found


@dataclasses.dataclass(frozen=True)
class Job:
    """Population to train.

    Attributes:
        config: config of the population.
        members: configs of the equivalent single runs.
        rows: labels of the rows that use it.
    """

    config: ConfigDict
    members: list[ConfigDict]
    rows: list[str]

    def folder(self, workdir: Path) -> Path:
        """Return its work directory in `workdir`: an existing one, or one named after a row."""
        name = identity(self.config)
        begun = next(workdir.glob(f"*_{name}"), None)
        return begun or workdir / f"{re.sub(r'[^a-zA-Z0-9]+', '_', self.rows[0])}_{name}"


def plan(rows: Iterable[Row], seeds: int, most: int, found: Found) -> list[Job]:
    """Return the populations that are still to be trained, in the order of the rows.

    Args:
        rows: rows of all tables.
        seeds: members of each row; they stay together.
        most: maximum number of members of a population of several rows.
        found: results of finished runs.
    """
    equal: dict[str, list[Row]] = {}
    for row in rows:
        equal.setdefault(identity(row.config), []).append(row)
    groups: dict[str, list[tuple[str, list[ConfigDict]]]] = {}
    for same in equal.values():
        config = same[0].config
        ensemble = any(row.ensemble for row in same)
        if missing := found.missing(with_seeds(config, seeds), ensemble):
            label = " = ".join(row.label for row in same)
            groups.setdefault(identity(_without_numbers(config)), []).append((label, missing))
    return [_job(part) for group in groups.values() for part in _parts(group, most)]


def varied_fields(config: ConfigDict) -> list[str]:
    """Return the fields besides the seed in which a population's members may differ."""
    weights = [f"loss.weights.{name}" for name in config.loss.weights]
    return ["optimizer.learning_rate", "optimizer.weight_decay", *weights]


def _without_numbers(config: ConfigDict) -> ConfigDict:
    """Return the config with 0 in the varied fields; equal for members of one population."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(dict.fromkeys(varied_fields(config), 0.0))
    return config


def _parts(group: list[tuple[str, list]], most: int) -> Iterator[list[tuple[str, list]]]:
    """Divide rows into parts of at most `most` members, or of a single row."""
    part: list[tuple[str, list]] = []
    for row in group:
        if part and sum(len(members) for _, members in [*part, row]) > most:
            yield part
            part = []
        part.append(row)
    yield part


def _job(rows: list[tuple[str, list[ConfigDict]]]) -> Job:
    members = [member for _, own in rows for member in own]
    config = members[0].copy_and_resolve_references()
    config.population = len(members)
    varied = {
        field: [_value(member, field) for member in members]
        for field in ("seed", *varied_fields(config))
    }
    config.vary = " ".join(
        f"{field}={','.join(map(repr, values))}"
        for field, values in varied.items()
        if len(set(values)) > 1 or (field == "seed" and len(members) > 1)
    )
    return Job(config, members, [label for label, _ in rows])


def _value(config: ConfigDict, field: str) -> float:
    branch, last = branch_of(config, field)
    return branch[last]


def run(jobs: Sequence[Job], workdir: Path) -> dict[str, str]:
    """Train populations one after the other and print a line of progress for each.

    The output of a run goes to log.txt in its work directory.

    Args:
        jobs: populations.
        workdir: parent of the work directories.

    Returns:
        Reasons of failures, by `identity` of the single run's config.
    """
    failed: dict[str, str] = {}
    began = time.perf_counter()
    for number, job in enumerate(jobs, 1):
        names, result = "; ".join(job.rows), f"{len(job.members)} models"
        try:
            _train(job.config, job.folder(workdir))
        except JaxtalError as error:
            result = f"failed: {error}"
            failed |= dict.fromkeys(map(identity, job.members), str(error))
        minutes = (time.perf_counter() - began) / 60
        left = minutes / number * (len(jobs) - number)
        where = f"{number} of {len(jobs)}, {minutes:.0f} min, about {left:.0f} min left"
        print(f"{names}: {result} ({where})", file=sys.stderr, flush=True)
    return failed


def _train(config: ConfigDict, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = open(folder / "log.txt", "a")  # noqa: SIM115
    except OSError as error:
        raise JaxtalError(
            f"{folder}: cannot be written ({error.strerror}); give another --workdir"
        ) from None
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        logs.install()
        trainer.train_and_evaluate(config, folder)
    jax.clear_caches()  # the next population has other programs
