"""Small tables for `repr` and for notebooks, without dependencies."""

import html
from collections.abc import Iterable, Sequence


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
