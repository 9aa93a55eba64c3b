"""Reports made from given numbers."""

import json

from benchmarks.tables import report, train
from benchmarks.tables import rows as table_rows
from benchmarks.tables.published import TABLES
from jaxtal.data.io import json_files

DEMO = table_rows.setting_of("demo", "config", {})
NOTHING = train.Found({}, {})


def result(seed: int, value: float) -> dict:
    """A member's result in which every number is `value` percent."""
    numbers = {
        "map": {f"{i / 20:g}": value / 100 for i in range(1, 20)},
        "average": dict.fromkeys(("0.1:0.5", "0.1:0.7", "0.1:0.9", "0.5:0.95"), value / 100),
        "f1": value / 100,
    }
    best = {
        "selected_by": "0.1:0.7",
        **numbers,
        "average": {name: v + 0.01 for name, v in numbers["average"].items()},
    }
    return {"seed": seed, "step": 7, "protocol": "co2", **numbers, "best_on_test": best}


def report_of(key: str, values: dict, failed=(), setting=DEMO, ensembles=None) -> dict:
    """A report in which the rows' members have the given values; None stands for diverged."""
    rows = table_rows.rows_of(key, setting)
    found, reasons = train.Found({}, ensembles or {}), {}
    count = max(map(len, values.values()))
    for row in rows:
        members = train.with_seeds(row.config, count)
        for member, value in zip(members, values.get(row.name, ()), strict=row.name in values):
            found.members[train.identity(member)] = (
                {"seed": member.seed, "step": 7, "diverged": 5} if value is None
                else result(member.seed, value)
            )  # fmt: skip
        if row.name in failed:
            reasons |= {train.identity(member): "out of luck" for member in members}
    about = {"data": "demo", "preset": "", "scale": "config", "command": ["--table", key]}
    table = TABLES.get(key) or table_rows.OWN[key]
    content = report.report(table, rows, count, found, reasons, about)
    return json.loads(json_files.to_text(content))


LADDER = {
    "mil": [30, 31, 32], "mil+oppo": [35, 35, 38], "mil+oppo+ml": [34, 36, 37],
    "mil+oppo+ml+cas": [40, 42, 41], "mil+oppo+cas+norm": [48, 49, 50], "all": [45, 44, 46],
}  # fmt: skip
