"""The page on every equation: its options exist, its commands too, and every table is there.

The strict build of the site checks its links (tests/docs/test_site.py).
"""

import re

import pytest

from benchmarks.tables import rows
from benchmarks.tables.published import TABLES
from jaxtal import cli, methods
from jaxtal.config import get_config
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "methods" / "papers.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"\{ #papers-(\w+) \}\n(.*?)(?=\n## |\Z)", PAGE, re.DOTALL))
OPTION = re.compile(r"`((?:model|loss|train|data|optimizer|localization)\.[\w.]+)(?:=([^`]+))?`")


@pytest.mark.parametrize("method", SECTIONS)
def test_every_option_exists_and_every_reading_is_allowed(method):
    options = OPTION.findall(SECTIONS[method])
    assert len(options) > 12
    for field, value in options:
        config = get_config(f"{method}_thumos", overrides={field: value} if value else {})
        branch, last = rows.branch_of(config, field)
        assert last in branch, field
        methods.get(method).validate_config(config)


@pytest.mark.parametrize("method", SECTIONS)
def test_the_preset_has_the_print_where_the_default_differs(method):
    """Each such row names options, one of which differs between default and preset."""
    default, paper = get_config(f"{method}_thumos"), get_config(f"{method}_thumos:paper")
    for line in SECTIONS[method].splitlines():
        if "| default differs" in line and (options := OPTION.findall(line)):
            values = [[rows.branch_of(c, field) for field, _ in options] for c in (default, paper)]
            one, other = ([branch[last] for branch, last in found] for found in values)
            assert one != other, line


def test_every_table_has_a_command():
    found = re.findall(r"`python -m benchmarks\.tables --table (\S+)`", PAGE)
    assert sorted(found) == sorted(TABLES)
    for key in TABLES:
        assert f"#table-{key.replace('/', '-')}-demo" in PAGE


def test_every_equation_has_a_row():
    for method, count in {"co2net": 10, "d2net": 11, "twostream": 9}.items():
        numbers = set()
        for text in re.findall(r"^\| eq\. ([\d and]+)", SECTIONS[method], re.MULTILINE):
            numbers |= {int(number) for number in text.split(" and ")}
        assert numbers == set(range(1, count + 1)), method


def test_commands_exist():
    for words in re.findall(r"`jaxtal ([a-z]+(?: [a-z]+)*)", PAGE):
        assert words in cli.COMMANDS, words
