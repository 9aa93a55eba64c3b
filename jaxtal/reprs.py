"""Small tables for `repr` and for notebooks, without dependencies."""

import functools
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def evaluation_paths(result: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the places of the evaluations in a result.json, or in the means of a population.

    Args:
        result: An object of result.json.

    Returns:
        {title: keys that lead to the evaluation}, first the last step if it has an mAP, then the
        best one.
    """
    paths: dict[str, tuple[str, ...]] = {}
    if "map" in result:
        paths["test, last step" if "best_on_validation" in result else "last step"] = ()
    if "test" in result.get("best_on_validation", ()):
        paths["test, best step on validation"] = ("best_on_validation", "test")
    best = {"best_on_validation": "validation, best step", "best_on_test": "best on test"}
    return paths | {title: (key,) for key, title in best.items() if key in result}


def at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at the end of a path of keys.

    Args:
        tree: Nested mappings.
        path: The keys.
    """
    return functools.reduce(lambda branch, key: branch[key], path, tree)


def plain(title: str, header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text, with the first column left-aligned and the others right-aligned.

    Args:
        title: Line above the table.
        header: Names of the columns.
        rows: Cells of the table.

    Returns:
        Lines separated by newlines, without a trailing one.
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([title, *lines])


def as_html(title: str, header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as HTML, with all text escaped, because names in it are untrusted.

    Args:
        title: Caption of the table.
        header: Names of the columns.
        rows: Cells of the table.
    """
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def per_cent(value: float) -> str:
    """Return a fraction as text in percent with one decimal; "" for NaN (not measured)."""
    return "" if value != value else f"{100 * value:.1f}"
