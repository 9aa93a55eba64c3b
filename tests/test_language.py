"""Plain English: how docstrings begin, and verbs that only persons can do.

Reference: the rules in CONTRIBUTING.md, "Style".
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

_SOURCES = ("jaxtal", "configs", "benchmarks", "launch", "docs", "examples", "tests")
_CLAUSES = re.compile(r"(What|Whether|Which|Of|As|Where|Who|Whoever|Whatever|How|That|Those)\b")
_PERSONS = re.compile(
    r"\b(tell|tells|told|telling|say|says|said|saying|ask|asks|asked|asking"
    r"|hear|hears|heard|hearing|leave|leaves|leaving)\b",
    re.IGNORECASE,
)
_TREES = re.compile(r"\b(py)?tree('s)? leaves\b|\bleaves of (a|the) (py)?tree\b", re.IGNORECASE)
_REPOSITORY_ONLY = re.compile(
    r"(METHODS|QUIRKS)( [0-9]|\.md| section)|FIXTURES\.md|DATA\.md|\.\./shared"
)

_PYTHON = sorted(path for folder in _SOURCES for path in (ROOT / folder).rglob("*.py"))
_MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *(path for f in _SOURCES for path in (ROOT / f).rglob("*.md"))]
)
_OTHERS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / "pyproject.toml", ROOT / "mkdocs.yml"])


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """All literals: docstrings, messages, descriptions of flags."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _persons(texts: Iterator[tuple[int, str]]) -> list[str]:
    found = []
    for line, text in texts:
        for offset, part in enumerate(_TREES.sub("", text).splitlines()):
            if _PERSONS.search(part):
                found.append(f"{line + offset}: {part.strip()}")
    return found


def test_the_rules_find_what_they_forbid():
    assert _CLAUSES.match("What a run leaves.")
    assert not _CLAUSES.match("Asset of a run.")
    assert _persons(iter([(3, "one line\nthe program told it")])) == ["4: the program told it"]
    assert not _persons(iter([(1, "Return the tree leaves of an essay.")]))


@pytest.mark.parametrize("folder", _SOURCES)
def test_docstrings_begin_with_a_verb_or_a_noun(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in _PYTHON
        if path.is_relative_to(ROOT / folder)
        for line, text in _docstrings(ast.parse(path.read_text()))
        if _CLAUSES.match(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", _SOURCES)
def test_programs_are_no_persons(folder):
    found = []
    for path in _PYTHON:
        if path.is_relative_to(ROOT / folder) and path != Path(__file__):
            source = path.read_text()
            texts = [*_comments(source), *_strings(ast.parse(source))]
            found += [f"{path.relative_to(ROOT)}:{fault}" for fault in _persons(iter(texts))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", [*_MARKDOWN, *_OTHERS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_programs_are_no_persons_in_the_documents(path):
    assert not _persons(iter([(1, path.read_text())]))


def test_nothing_refers_to_documents_outside_the_repository():
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*_PYTHON, *_MARKDOWN, *_OTHERS]
        if path != Path(__file__)
        for match in _REPOSITORY_ONLY.finditer(path.read_text())
    ]
    assert not found, "\n".join(found)
