"""Generated pages of results have every row, and hand-written numbers agree with the raw rows."""

import re

import numpy as np
import pytest
from scipy import stats

from benchmarks.tables import markdown, report
from benchmarks.tables.published import TABLES
from docs.generate import PAGES, measurements, results
from tests.conftest import ROOT

DOCS = ROOT / "docs"
INDEX = (DOCS / "results" / "index.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports() -> list[report.Report]:
    return report.read_all(results.FOLDER)


def test_generated_pages_have_no_file():
    for path in PAGES:
        assert not (DOCS / path).exists(), path


def test_the_tables_page_has_every_report(reports):
    page = results.tables()
    for content in reports:
        assert f"{{ #{markdown.anchor(content)} }}" in page
        assert f"](#{markdown.anchor(content)})" in page
    assert len({markdown.anchor(content) for content in reports}) == len(reports)


def test_the_published_page_has_every_table():
    page = results.published()
    for key, table in TABLES.items():
        assert f"## {table.heading} {{ #published-{key.replace('/', '-')} }}" in page


def test_every_placeholder_of_the_measurements_is_rendered():
    page = measurements.page()
    assert "<!-- table" not in page
    files = set(re.findall(r"Rows: `benchmarks/results/(\S+)`", page))
    assert files == {path.name for path in measurements.FOLDER.glob("*.json*")}


def test_the_performance_page_has_the_measured_steps():
    page = (DOCS / "performance" / "index.md").read_text(encoding="utf-8")
    assert measurements.headline(measurements.rows_of("cpu_train_step.json")) in page


@pytest.mark.parametrize(
    ("value", "text"), [(12.34, "12.3 s"), (1.234, "1.23 s"), (0.1234, "123 ms"), (6e-5, "0.06 ms")]
)
def test_durations(value, text):
    assert measurements.seconds(value) == text


def test_the_summary_has_the_numbers_of_the_reports(reports):
    found = {c["data"]: c for c in reports if c["table"] == "methods"}
    for number, row in enumerate(found["demo"]["rows"]):
        (line,) = re.findall(rf"^\| {row['name']} \|(.*)\|$", INDEX, re.MULTILINE)
        cells = [cell.strip(" *") for cell in line.split("|")]
        wanted = []
        for data in ("demo", "audio"):
            own = found[data]["rows"][number]
            wanted += [
                f"{own['mean']['0.1:0.7']:.1f} ± {own['sd']['0.1:0.7']:.1f}",
                f"{own['best_on_test']['0.1:0.7']:.1f}",
                f"{own['ensemble']['values']['0.1:0.7']:.1f}",
            ]
        assert cells == wanted


def test_the_summary_counts_the_orderings_of_the_reports(reports):
    wanted = {}
    for content in reports:
        for sentence in markdown.sentences(content):
            counts = re.search(
                r"(\d+) orderings of the paper: (\d+) \w+, (\d+) \w+, (\d+)", sentence
            )
            if counts:
                wanted.setdefault(markdown.anchor(content), []).append([*map(int, counts.groups())])
    found = {}
    for anchor, cells in re.findall(
        r"^\| \[.*?\]\(tables\.md#(\S+)\) \|(.*)\|$", INDEX, re.MULTILINE
    ):
        found.setdefault(anchor, []).append([*map(int, cells.split("|"))])
    assert found == wanted
    total = [
        sum(column) for column in zip(*(row for own in found.values() for row in own), strict=True)
    ]
    assert f"| sum | {' | '.join(map(str, total))} |" in INDEX


def test_the_page_of_d2net_has_the_numbers_of_its_preset(reports):
    """The table on what makes the paper's own words train."""
    found = {
        c["data"]: {row["name"]: row for row in c["rows"]}
        for c in reports
        if c["table"] == "d2net/paper"
    }
    names = [
        "default", "paper", "paper without denoising", "paper, denoising from step 300",
        "paper, alpha 0.02", "paper, 1 / s at most 10", "paper, bounded gradient",
    ]  # fmt: skip
    page = (DOCS / "methods" / "d2net.md").read_text(encoding="utf-8")
    section = page.partition("{ #d2net-paper }")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| .* \| (\S+ ± \S+) \| (\S+ ± \S+) \|$", section, re.MULTILINE)
    for name, cells in zip(names, lines, strict=True):
        own = (found[data][name] for data in ("demo", "audio"))
        wanted = [f"{row['mean']['0.1:0.7']:.1f} ± {row['sd']['0.1:0.7']:.1f}" for row in own]
        assert [*cells] == wanted, name


def test_the_page_of_the_baselines_has_the_numbers_of_the_methods(reports):
    """Means, and differences paired by seed with their 95 % intervals, from the raw rows."""
    page = (DOCS / "methods" / "baselines.md").read_text(encoding="utf-8")
    found = {
        c["data"]: {row["name"]: row for row in c["rows"]}
        for c in reports
        if c["table"] == "methods"
    }
    for name in found["demo"]:
        own = (found[data][name] for data in ("demo", "audio"))
        cells = [f"{row['mean']['0.1:0.7']:.1f} ± {row['sd']['0.1:0.7']:.1f}" for row in own]
        assert f"| {name} | {' | '.join(cells)} |" in page
    for first in ("CO2-Net", "D2-Net", "two-stream"):
        for second in ("W-TALC", "BaS-Net", "ACM-Net"):
            cells = []
            for data in ("demo", "audio"):
                one, other = (
                    np.array([m["values"]["0.1:0.7"] for m in found[data][name]["members"]])
                    for name in (first, second)
                )
                gain = one - other
                half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
                low, high = gain.mean() - half, gain.mean() + half
                cells.append(f"{gain.mean():.1f} [{low:.1f}, {high:.1f}]")
            assert f"| {first} against {second} | {' | '.join(cells)} |" in page
