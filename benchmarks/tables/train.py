"""Training the rows of tables: every row with several seeds, rows together where that is possible.

A row's seeds are a population, and so are rows that differ in nothing but numbers that
`config.vary` allows. What is trained already is found in the work directories by what it is, every
member by its config: tables share rows, and seeds can be added later.
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

# Fields without a part in what is trained and found, so far as they are no numbers of the tables.
_ONLY_SHOWN = ("evaluation.plot_videos", "evaluation.save_activations", "profile")


def identity(config: ConfigDict) -> str:
    """Return a short text, the same for equal configs, also of one read from its JSON file."""
    fields = flatten_dict(config.to_dict(), sep=".", keep_empty_nodes=True)
    told = {name: value for name, value in fields.items() if name not in _ONLY_SHOWN}
    text = json.dumps(json_files.finite(told), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def with_seeds(config: ConfigDict, count: int) -> list[ConfigDict]:
    """Return the configs of `count` single runs that differ in their seeds."""
    config = config.copy_and_resolve_references()
    config.population = count
    return population.members_of(config)


@dataclasses.dataclass
class Found:
    """The runs that have been trained.

    Attributes:
        members: results by `identity` of the single run's config, as in result.json; of one that
            has diverged there are no numbers.
        ensembles: results of several members together, by their identities; None where too few
            of them are left.
    """

    members: dict[str, dict[str, Any]]
    ensembles: dict[frozenset[str], dict[str, Any] | None]

    def missing(self, members: Sequence[ConfigDict], ensemble: bool) -> list[ConfigDict]:
        """Return those to be trained; all if their `ensemble` is wanted and was not trained."""
        names = [identity(member) for member in members]
        if ensemble and len(names) > 1:
            return [] if frozenset(names) in self.ensembles else list(members)
        return [m for m, name in zip(members, names, strict=True) if name not in self.members]


def find(workdir: Path) -> Found:
    """Read the results of the finished runs in the folders of `workdir`."""
    found = Found({}, {})
    for file in sorted(workdir.glob("*/result.json")):
        result = json_files.load(file, "the result of a run")
        saved = json_files.load(file.with_name("config.json"), "a run's config")
        config = ConfigDict(complete(saved))
        if result["step"] != config.train.steps:
            continue  # somebody is training it further
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
    """A population to train.

    Attributes:
        config: its config.
        members: the configs of the single runs that its members equal.
        rows: labels of the tables' rows that it is for.
    """

    config: ConfigDict
    members: list[ConfigDict]
    rows: list[str]

    def folder(self, workdir: Path) -> Path:
        """Return its work directory, begun already or new and named after its first row."""
        name = identity(self.config)
        begun = next(workdir.glob(f"*_{name}"), None)
        return begun or workdir / f"{re.sub(r'[^a-zA-Z0-9]+', '_', self.rows[0])}_{name}"


def plan(rows: Iterable[Row], seeds: int, most: int, found: Found) -> list[Job]:
    """Return the populations that are still to be trained, in the order of the rows.

    Args:
        seeds: members of each row, which stay together.
        most: members of a population of several rows.
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
    """Return what configs that can be members of one population have in common."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(dict.fromkeys(varied_fields(config), 0.0))
    return config


def _parts(group: list[tuple[str, list]], most: int) -> Iterator[list[tuple[str, list]]]:
    """Divide its rows into parts that have at most `most` members, or are a single row."""
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
    """Train them one after the other, with a line for each; what a run prints goes to log.txt.

    Returns:
        What could not be trained: the reason by `identity` of the single run's config.
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
        where = f"{number} of {len(jobs)}, {minutes:.0f} min, about {left:.0f} left"
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
    jax.clear_caches()  # the next one's programs are others
