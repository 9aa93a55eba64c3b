"""The papers' tables are as printed."""

import math
import re

import pytest

from benchmarks.tables.published import PAPERS, TABLES

# Averages that are not the mean of their columns, as the papers have them.
MISPRINTED = {
    ("co2net/1", "S-CNN (2016)"), ("co2net/1", "STAR (2019)"), ("co2net/1", "PreTrimNet (2020)"),
    ("co2net/1", "HAM-Net (2021)"), ("twostream/1", "PreTrimNet"),
}  # fmt: skip


@pytest.fixture(scope="module")
def methods_text(shared) -> tuple[str, str]:
    """METHODS, sections 6 and 7."""
    text = (shared / "METHODS.md").read_text()
    return re.findall(r"^## [67] .*?(?=^## )", text, re.MULTILINE | re.DOTALL)


def number(cell: str) -> float:
    return math.nan if cell.strip() == "-" else float(cell)


def same(got, wanted) -> bool:
    return list(map(repr, got)) == list(map(repr, wanted))


@pytest.mark.parametrize("key", [key for key, table in TABLES.items() if table.others])
def test_other_methods_are_transcribed(key, methods_text):
    paper = PAPERS[TABLES[key].method]
    part = re.search(rf"^{paper} Table {key[-1]},.*?\n\n(.*?)\n\n", methods_text[1], re.M | re.S)[1]
    wanted = []
    for line in part.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if paper == "D2-Net":  # + is strong supervision
            name, plus, _ = cells[0].partition(" +")
            cells[:1] = ["Fully" if plus else "Weakly", name]
        wanted.append((*cells[:2], tuple(map(number, cells[2:]))))
    assert len(TABLES[key].others) == len(wanted) > 8
    assert same(TABLES[key].others, wanted)


def in_rows(text: str) -> dict[str, list[float]]:
    """Rows of Markdown tables."""
    rows = re.findall(r"^\| ([^|]+?) \|((?: [\d.]+ \|)+)$", text, re.MULTILINE)
    return {name: [float(cell) for cell in cells.split("|")[:-1]] for name, cells in rows}


def in_line(text: str, start: str) -> dict[str, list[float]]:
    """What follows `start` in a line, things like `Add 39.9 · a/b 1.0 2.0.`"""
    line = text.partition(start)[2].partition("\n")[0]
    line = re.split(r"\.? \(|\. ", line.replace("AVG (0.5:0.05:0.95)", "AVG"))[0].rstrip(".")
    found = (re.fullmatch(r"(.+?):? ((?:\d+\.\d ?)+)", piece) for piece in line.split(" · "))
    return {match[1]: [*map(float, match[2].split())] for match in found}


def test_own_rows_are_transcribed(methods_text):
    co2, d2, two = re.split(r"^### .*\n", methods_text[0], flags=re.MULTILINE)[1:]
    thumos, anet = (
        {re.sub("^structure.*: ", "", name): numbers for name, numbers in in_rows(part).items()}
        for part in two.split("ActivityNet 1.3 (Tables 2, 4, 6):")
    )
    full = "full (fg+bg+ct+gui+smt)"

    def one(name: str, cells: dict[str, list[float]]) -> dict[str, list[float]]:
        return {name: [value for values in cells.values() for value in values]}

    def of_loss_terms(rows: dict, whole: str) -> dict[str, list[float]]:
        terms = ["fg", "fg+bg", "fg+bg+ct", "fg+bg+ct+gui"]
        return {name: rows[name] for name in terms} | {"fg+bg+ct+gui+smt": rows[whole]}

    def of_branches(rows: dict) -> dict[str, list[float]]:
        alone = {name: rows[name] for name in ("attention only", "MIL only")}
        return alone | {"both": rows["fg+bg+ct"]}

    metrics = in_rows(co2)
    wanted = {
        "co2net/1": {"CO2-Net": metrics.pop("CO2-Net")},
        "co2net/2": one("CO2-Net", in_line(co2, "ActivityNet 1.2 (Table 2): ")),
        "co2net/3": in_line(co2, "(Table 3, avg 0.1:0.7): "),
        "co2net/4": metrics,
        "co2net/5": in_line(co2, "AVG): "),
        "co2net/6": in_line(co2, "(Table 6, avg 0.1:0.7): "),
        "d2net/1": one("D2-Net", in_line(d2, "THUMOS14 (Table 1): ")),
        "d2net/2": one("D2-Net", in_line(d2, "ActivityNet 1.2 (Table 2): ")),
        "d2net/3": in_rows(d2),
        "d2net/4": in_line(d2, "mAP@0.5): "),
        "twostream/1": {"two-stream": thumos[full]},
        "twostream/2": {"two-stream": anet["full"]},
        "twostream/3": of_loss_terms(thumos, full),
        "twostream/4": of_loss_terms(anet, "full"),
        "twostream/5": of_branches(thumos),
        "twostream/6": of_branches(anet),
    }
    got = {
        key: {name: list(numbers) for name, numbers in table.rows.items()}
        for key, table in TABLES.items()
    }
    assert got == wanted
    assert [list(rows) for rows in got.values()] == [list(rows) for rows in wanted.values()]


@pytest.mark.parametrize("key", TABLES)
def test_averages_are_means(key):
    """To rounding, where all their columns are printed."""
    table = TABLES[key]
    compared = 0
    for name, numbers in [*table.rows.items(), *((name, n) for _, name, n in table.others)]:
        row = dict(zip(table.columns, numbers, strict=True))
        step = 0.05 if table.activitynet else 0.1
        for column in (column for column in row if ":" in column):
            low, high = map(float, column.split(":"))
            parts = [f"{low + i * step:g}" for i in range(round((high - low) / step) + 1)]
            values = [row.get(part, math.nan) for part in [*parts, column]]
            if (key, name) not in MISPRINTED and not any(map(math.isnan, values)):
                # The one of JS in CO2-Net's Table 4, 44.557, is printed as 44.5.
                assert values[-1] == pytest.approx(sum(values[:-1]) / len(parts), abs=0.06), name
                compared += 1
    whole = {"co2net/1", "co2net/4", "twostream/1", *(f"twostream/{n}" for n in range(2, 7))}
    assert (compared > 0) == (key in whole)
