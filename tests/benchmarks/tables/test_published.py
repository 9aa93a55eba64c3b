"""The papers' tables agree with what they print twice: averages, and rows of several tables.

A digit that was mistyped shows as an average that is not the mean of its columns, as a row that
differs from the same row of another table, or as a mAP that rises with the threshold.
"""

import itertools
import math
import re
from collections import defaultdict

import pytest

from benchmarks.tables.published import PAPERS, TABLES, Published

# Averages that are not the mean of their columns, as the papers have them.
MISPRINTED = {
    ("co2net/1", "S-CNN (2016)"), ("co2net/1", "STAR (2019)"), ("co2net/1", "PreTrimNet (2020)"),
    ("co2net/1", "HAM-Net (2021)"), ("twostream/1", "PreTrimNet"),
}  # fmt: skip

# Rows of the same name that the papers print with different numbers, from other features or
# versions of a method: the columns that differ.
DIFFERENT = {
    ("THUMOS14", "ssn"): {"0.1", "0.2", "0.3", "0.4", "0.5"},
    ("THUMOS14", "p-gcn"): {"0.2"},
    ("THUMOS14", "ham-net"): {"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"},
    ("ActivityNet 1.2", "3c-net"): {"0.5", "0.5:0.95"},
}

# Rows that are the paper's full method under another name.
FULL_METHOD = {
    "co2net/3": "all", "co2net/4": "MSE", "co2net/5": "Global/Local", "co2net/6": "CCM",
    "d2net/3": "L_Dis + L_D", "d2net/4": "pDMI",
    "twostream/3": "fg+bg+ct+gui+smt", "twostream/4": "fg+bg+ct+gui+smt",
}  # fmt: skip


def all_rows(table: Published) -> list[tuple[str, dict[str, float]]]:
    """Return (name, {column: number}) of the table's rows, without the cells that have none."""
    rows = [*table.rows.items(), *((name, numbers) for _, name, numbers in table.others)]
    return [
        (name, {c: x for c, x in zip(table.columns, numbers, strict=True) if not math.isnan(x)})
        for name, numbers in rows
    ]


@pytest.mark.parametrize("key", TABLES)
def test_averages_are_means(key):
    """An average equals the mean of its columns to rounding, where all of them are printed."""
    table = TABLES[key]
    compared = 0
    step = 0.05 if table.activitynet else 0.1
    for name, row in all_rows(table):
        for column in (column for column in row if ":" in column):
            low, high = map(float, column.split(":"))
            parts = [f"{low + i * step:g}" for i in range(round((high - low) / step) + 1)]
            if (key, name) not in MISPRINTED and set(parts) <= set(row):
                # The one of JS in CO2-Net's Table 4, 44.557, is printed as 44.5.
                mean = sum(row[part] for part in parts) / len(parts)
                assert row[column] == pytest.approx(mean, abs=0.06), name
                compared += 1
    complete = {"co2net/1", "co2net/4", "twostream/1", *(f"twostream/{n}" for n in range(2, 7))}
    assert (compared > 0) == (key in complete)


@pytest.mark.parametrize("key", TABLES)
def test_numbers_are_of_one_decimal_and_fall_with_the_threshold(key):
    for name, row in all_rows(TABLES[key]):
        assert all(0 < x < 100 and round(x, 1) == x for x in row.values()), name
        columns = sorted((c for c in row if ":" not in c and c != "F1"), key=float)
        assert all(row[a] >= row[b] for a, b in itertools.pairwise(columns)), name


def test_rows_of_several_tables_are_equal():
    rows = defaultdict(list)
    for table in TABLES.values():
        for name, row in all_rows(table):
            plain = re.sub(r" \(\d{4}\)", "", name).lower().replace("basnet", "bas-net")
            rows[table.published_on, plain].append(row)
    compared = 0
    for key, versions in rows.items():
        for one, other in itertools.combinations(versions, 2):
            both = set(one) & set(other)
            different = {column for column in both if one[column] != other[column]}
            assert different <= DIFFERENT.get(key, set()), key
            compared += len(both - different)
    assert compared > 150


def test_the_papers_own_rows_are_equal():
    """The full method of the ablations has the numbers of the comparison with other methods."""
    for key, name in FULL_METHOD.items():
        table = TABLES[key]
        assert list(table.rows)[-1] == name
        first = TABLES[f"{table.method}/{2 if table.activitynet else 1}"]
        full = dict(zip(first.columns, list(first.rows.values())[-1], strict=True))
        row = dict(zip(table.columns, table.rows[name], strict=True))
        shared = set(row) & set(full)
        assert shared
        assert {column: row[column] for column in shared} == {c: full[c] for c in shared}, key
    for ablation, branches in (("twostream/3", "twostream/5"), ("twostream/4", "twostream/6")):
        assert TABLES[branches].rows["both"] == TABLES[ablation].rows["fg+bg+ct"]


def test_all_tables_are_there():
    """Tables by number, and how many other methods each lists."""
    assert set(TABLES) == {
        f"{method}/{number + 1}"
        for method, count in zip(PAPERS, (6, 4, 6), strict=True)
        for number in range(count)
    }
    others = {key: len(table.others) for key, table in TABLES.items() if table.others}
    assert others == {
        "co2net/1": 18, "co2net/2": 12, "d2net/1": 19, "d2net/2": 9,
        "twostream/1": 26, "twostream/2": 18,
    }  # fmt: skip
