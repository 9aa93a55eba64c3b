"""The architecture page and its diagram have the rooms of the import contract."""

import re
import tomllib
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "develop" / "architecture.md").read_text(encoding="utf-8")
DIAGRAM = ROOT / "docs" / "images" / "architecture.svg"


@pytest.fixture(scope="module")
def layers() -> list[str]:
    """The layers of pyproject.toml from top to bottom; modules of one layer are separate."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (contract,) = (c for c in tool["importlinter"]["contracts"] if c["type"] == "layers")
    return [name for layer in contract["layers"] for name in layer.split(" | ")]


def test_the_table_has_the_layers_in_order(layers):
    table = PAGE.partition("## Rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"\w+", row)] == layers


def test_the_diagram_has_the_layers_in_order(layers):
    texts = [e for e in ElementTree.parse(DIAGRAM).iter() if e.get("class") == "room"]
    texts.sort(key=lambda element: float(element.get("y", "nan")))
    assert [name for e in texts for name in re.findall(r"\w+", e.text or "")] == layers
    assert "../images/architecture.svg" in PAGE


def test_every_object_named_as_an_entry_point_exists():
    table = PAGE.partition("## Rooms")[2].partition("\n## ")[0]
    named = re.findall(r"\]\[(jaxtal[\w.]*)\]", table)
    assert len(named) > 20
    for path in named:
        module, _, name = path.rpartition(".")
        file = ROOT.joinpath(*module.split("."))
        source = next(f for f in (file.with_suffix(".py"), file / "__init__.py") if f.exists())
        assert re.search(rf"^(def|class) {name}\b", source.read_text(encoding="utf-8"), re.M), path
