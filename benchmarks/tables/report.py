"""Reports: the papers' tables with measured results, in percent.

A report is a table as plain data, the content of its JSON file. It has means, intervals, and for
each pair of rows whether the paper's ordering holds. Markdown and the figure are made from it.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables.published import TABLES, Published
from benchmarks.tables.rows import OWN, Row
from benchmarks.tables.train import Found, identity, with_seeds
from jaxtal.data.io import json_files
from jaxtal.training import population

Report = dict[str, Any]


def report(
    table: Published,
    rows: Sequence[Row],
    seeds: int,
    found: Found,
    failed: Mapping[str, str],
    about: Mapping[str, Any],
) -> Report:
    """Return a table with its results.

    Args:
        table: the paper's table.
        rows: rows of the table.
        seeds: number of members of each row.
        found: results of all members that did not fail.
        failed: reasons of failed members, by `identity` of their config.
        about: further fields of the report: "data", "preset", "scale", "command".

    Returns:
        "table", "heading", "published_on", `about`, "columns", "judged", "base", "rows" (see
        `_measured`; with a base also "difference", see `_compared`), "others" (rows of other
        methods, as printed), "order" (see `orders`).
    """
    measured = [_measured(table, row, seeds, found, failed) for row in rows]
    of_base = {row["name"]: row for row in measured if row["n"]}.get(table.base)
    for row in measured:
        if of_base and row["n"] and row is not of_base:
            row["difference"] = _difference(row, of_base, table.judged[0])
    return {
        "table": table.key,
        "heading": table.heading,
        "published_on": table.published_on,
        **about,
        "columns": list(table.columns),
        "judged": list(table.judged),
        "base": table.base,
        "rows": measured,
        "others": [
            {"supervision": supervision, "name": name, "paper": list(numbers)}
            for supervision, name, numbers in table.others
        ],
        "order": [order for column in table.judged for order in orders(measured, column)],
    }


def _measured(
    table: Published, row: Row, seeds: int, found: Found, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Return a row: the paper's numbers, the members' numbers and their statistics.

    Returns:
        "name", "overrides"; "refused", why no such model exists, or ""; "paper", the printed
        numbers by column; "members", each with "seed", "step", "protocol", "values" by column, and
        "best_on_test" by column, at the step with the best "selected_by" on the test videos, or
        with "failed", the reason; "n", the number of members that did not fail; "mean", "sd" and
        "interval_95" by column, and the mean "best_on_test" by column; "failed", the reasons;
        "ensemble", if the table has it.
    """
    configs = [] if row.refused else with_seeds(row.config, seeds)
    members = [_member(table, config, found, failed) for config in configs]
    content = {
        "name": row.name,
        "overrides": dict(row.overrides),
        "refused": row.refused,
        "paper": dict(zip(table.columns, table.rows[row.name], strict=False)),
        "members": members,
        **_statistics(members, "values"),
        "best_on_test": _statistics(members, "best_on_test").get("mean", {}),
        "failed": sorted({member["failed"] for member in members if "failed" in member}),
    }
    ensemble = found.ensembles.get(frozenset(map(identity, configs)))
    if row.ensemble and ensemble:
        content["ensemble"] = {
            "members": ensemble["members"],
            "values": {column: at(ensemble, column) for column in table.columns},
        }
    return content


def _member(table: Published, config, found: Found, failed: Mapping[str, str]) -> dict[str, Any]:
    name, seed = identity(config), {"seed": config.seed}
    if name in failed:
        return {**seed, "failed": failed[name]}
    result = found.members[name]
    if "diverged" in result:
        return {**seed, "failed": f"seed {config.seed} diverged before step {result['diverged']}"}
    return {
        **seed,
        "step": result["step"],
        "protocol": result["protocol"],
        "values": {column: at(result, column) for column in table.columns},
        "best_on_test": {column: at(result["best_on_test"], column) for column in table.columns},
        "selected_by": result["best_on_test"]["selected_by"],
    }


def at(result: Mapping[str, Any], column: str) -> float:
    """Return a column's number in percent.

    Args:
        result: summary of an evaluation (see `Evaluation.summary`).
        column: column of the table.
    """
    if column == "F1":
        return 100 * result["f1"]
    return 100 * result["average" if ":" in column else "map"][column]


def _statistics(members: Iterable[Mapping], key: str) -> dict[str, Any]:
    """Return "n" and, by column if n is not 0, "mean", "sd" and "interval_95"."""
    found = population.statistics([{"map": m[key]} for m in members if key in m])
    return {"n": found.pop("members"), **{name: tree["map"] for name, tree in found.items()}}


def orders(rows: Sequence[Mapping], column: str) -> list[dict[str, Any]]:
    """Compare the paper's ordering of the rows with the measured one.

    Neighbors in the paper's ordering are compared, and the full method (the last row) with each
    other row. Pairs with equal numbers in the paper are omitted.

    Args:
        rows: rows of a report.
        column: column to compare.

    Returns:
        For each pair "column"; "rows", the names, the paper's better one first; their numbers
        "paper" and "here"; "difference", first minus second, and its "interval_95" (Student's t).
        Measured numbers are over the "n" seeds that both rows have.
    """
    known = [row for row in rows if row["n"] and not math.isnan(row["paper"].get(column, math.nan))]
    ranked = sorted(known, key=lambda row: -row["paper"][column])
    return [
        _compared(first, second, column)
        for (i, first), (j, second) in itertools.combinations(enumerate(ranked), 2)
        if (j == i + 1 or rows[-1] is first or rows[-1] is second)
        and first["paper"][column] > second["paper"][column]
    ]


def _compared(first: Mapping, second: Mapping, column: str) -> dict[str, Any]:
    return {
        "column": column,
        "rows": [first["name"], second["name"]],
        "paper": [first["paper"][column], second["paper"][column]],
        **_difference(first, second, column),
    }


def _difference(first: Mapping, second: Mapping, column: str) -> dict[str, Any]:
    """Compare two rows over the "n" seeds that both have, see `orders`."""
    own, other = (
        {m["seed"]: m["values"][column] for m in row["members"] if "values" in m}
        for row in (first, second)
    )
    shared = [seed for seed in own if seed in other]
    differences = [{"d": {column: own[seed] - other[seed]}} for seed in shared]
    numbers = _statistics(differences, "d")
    return {
        "here": [sum(v[seed] for seed in shared) / max(1, len(shared)) for v in (own, other)],
        "n": numbers["n"],
        "difference": numbers.get("mean", {}).get(column, math.nan),
        "interval_95": numbers.get("interval_95", {}).get(column, [math.nan, math.nan]),
    }


def write(content: Report, folder: Path) -> Path:
    """Write a report as JSON into `folder` and return the file's path."""
    name = [content["data"], content["preset"], content["table"].replace("/", "_")]
    path = folder / f"{'_'.join(filter(None, name))}.json"
    json_files.write(path, json_files.to_text(content))
    return path


def read(path: Path) -> Report:
    """Read a report from a JSON file; None stands for NaN."""
    content = json_files.load(path, "a table that benchmarks.tables wrote")
    content["rows"] = [{"refused": ""} | row for row in content["rows"]]
    return {"preset": "", "base": ""} | content  # tables of earlier versions lack these


def read_all(folder: Path) -> list[Report]:
    """Read all reports in a folder: own tables first, and the demo first within a table."""
    reports = [read(path) for path in folder.glob("*.json")]
    order = [*OWN, *TABLES]
    return sorted(
        reports,
        key=lambda c: (order.index(c["table"]), c["preset"], c["data"] != "demo", c["data"]),
    )
