"""The site builds without a warning, and its generated pages agree with the program."""

import html
import re
import subprocess
import sys

import pytest

from docs.generate import PAGES, config_reference
from jaxtal.cli import COMMANDS
from jaxtal.config import config_names, describe_config
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; links, anchors and references are checked by the build."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_builds_strictly(site):
    written = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "generate"]
    assert len([*site.rglob("index.html")]) == len(written) + len(PAGES)


def test_no_page_loads_from_another_host(site):
    """The site is readable without a network: no font, script or image of others."""
    loads = re.compile(r'<(?:script|img|link)\b[^>]*?\b(?:src|href)="?(?:https?:)?//[^">]*')
    for page in site.rglob("*.html"):
        assert not loads.search(page.read_text()), page


def test_equations_are_drawn(site):
    """No formula remains text, and none is drawn with brackets of many lines' height."""
    heights = []
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'class="arithmatex"' not in text, page
        heights += [
            float(height) for height in re.findall(r'style="width:\S+?em;height:(.*?)em', text)
        ]
    assert len(heights) > 400
    assert max(heights) < 6


def _rows(section: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of the tables in a part of the page of config fields, by field."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", section, re.MULTILINE)
    return {field: tuple(re.split(r" (?<!\\)\| ", rest)) for field, rest in rows}


def test_every_config_field_is_in_the_reference():
    """With its type, default, unit and meaning, read from the configs by another way."""
    page = config_reference.page()
    sections = dict(
        re.findall(r"^## .* \{ #config-(\w+) \}$((?:\n(?!## ).*)*)", page, re.MULTILINE)
    )
    shared = _rows(sections["all"])
    for name in config_names():
        method = name.partition("_")[0]
        own = _rows(sections[method])
        for field in describe_config(name):
            if field.field == "method":
                continue
            row = shared.get(field.field) or own[field.field]
            kind, default, unit, meaning = row
            assert len(html.unescape(meaning)) > 5, field.field
            assert kind.split(" ")[0] in ("float", type(field.value).__name__), field.field
            bracket = re.match(r"\[(.*?)\]", field.comment)
            assert bracket is None or unit, field.field
            if name.endswith("_thumos") and field.field in own and len(own[field.field]) == 4:
                assert default == f"`{field.value!r}`", field.field


def test_values_that_differ_are_in_the_reference():
    page = config_reference.page()
    for name in config_names():
        method = name.partition("_")[0]
        if name == f"{method}_thumos":
            continue
        section = page.partition(f"`{name}` differs from `{method}_thumos` in:")[2]
        rows = dict(re.findall(r"^\| `([\w.]+)` \| `(.*)` \|$", section.partition("\n##")[0], re.M))
        base = {field.field: field.value for field in describe_config(f"{method}_thumos")}
        for field in describe_config(name):
            if field.value != base[field.field]:
                assert rows[field.field] == repr(field.value), (name, field.field)


def test_every_command_and_flag_is_in_the_reference():
    page = PAGES["reference/commands.md"]()
    for name, command in COMMANDS.items():
        section = page.partition(f"## `jaxtal {name}` ")[2].partition("\n## ")[0]
        assert section, name
        for flag in command.parser().flags:
            assert f"| `--{flag}` |" in section, (name, flag)
