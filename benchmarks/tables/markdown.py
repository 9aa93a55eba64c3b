"""Reports of tables as Markdown and sentences (see benchmarks/tables/report.py)."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.tables.report import Report
from benchmarks.tables.rows import OWN
from jaxtal.data.io import json_files
from jaxtal.data.io.files import open_regular
from jaxtal.errors import JaxtalError

_START, _END = "<!-- tables -->", "<!-- /tables -->"
_MOST_WITH_SD = 8  # of a table with more columns only the averages have their standard deviations


def markdown(content: Report) -> str:
    """Format a table under its heading, the paper's row under ours, and sentences on it."""
    parts = [
        f"### {content['heading']}",
        _about(content),
        "\n".join(_table(_header(content), _rows(content))),
        *(["\n".join(f"- {line}" for line in said)] if (said := sentences(content)) else []),
        *(_others(content) if content["others"] else []),
        f"    {_command(content['command'])}",
    ]
    return "\n\n".join(parts) + "\n"


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "benchmarks.tables", *arguments])


def _about(content: Report) -> str:
    members = [m for row in content["rows"] for m in row["members"]]
    protocols, steps, seeds, selected = (
        ", ".join(str(value) for value in sorted({m[name] for m in members if name in m}))
        for name in ("protocol", "step", "seed", "selected_by")
    )
    text = (
        f"mAP, per cent, at the last step ({steps}); data `{content['data']}`, scale "
        f"`{content['scale']}`, protocol `{protocols}`, seeds {seeds}: mean ± standard deviation, "
        "95 % interval of the mean, number of seeds; at the right the step with the best "
        f"{selected} on the test videos."
    )
    if content["table"] in OWN:
        return text
    return f"{text} The paper's numbers are of {content['published_on']}, best on test."


def _named(column: str) -> str:
    return "F1 at 0.5" if column == "F1" else column


def _header(content: Report) -> list[str]:
    judged = ", ".join(map(_named, content["judged"]))
    by_seed = [f"{judged} by seed"] if content["table"] in OWN else []
    columns = map(_named, content["columns"])
    return ["", "", *columns, f"95 %, {judged}", "n", f"{judged}, best on test", *by_seed]


def _rows(content: Report) -> Iterator[list[str]]:
    for row in content["rows"]:
        yield _here(content, row)
        if ensemble := row.get("ensemble"):
            name = f"{row['name']}, ensemble of {ensemble['members']}"
            values = [f"{ensemble['values'][column]:.1f}" for column in content["columns"]]
            yield [name, "here", *values, "", "1", "", ""]
        if row["paper"]:
            yield ["", "paper", *(_number(row["paper"][c]) for c in content["columns"]), "", "", ""]


def _here(content: Report, row: Mapping) -> list[str]:
    columns, judged = content["columns"], content["judged"]
    if not row["n"]:
        why = " ".join("; ".join(row["failed"]).replace("|", "/").split())
        return [row["name"], f"failed: {why}", *[""] * (len(columns) + 3)]
    spread = [c for c in columns if len(columns) <= _MOST_WITH_SD or ":" in c]
    cells = [_number(row["mean"][c]) + _sd(row, c) * (c in spread) for c in columns]
    best = ", ".join(_number(row["best_on_test"][c]) for c in judged)
    cells += [", ".join(_interval(row, c) for c in judged), str(row["n"]), best]
    if content["table"] in OWN:
        values = [m.get("values", {}).get(judged[0]) for m in row["members"]]
        cells.append(", ".join(map(_number, values)))
    return [row["name"], "here", *cells]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _sd(row: Mapping, column: str) -> str:
    return "" if row["n"] < 2 else f" ± {row['sd'][column]:.1f}"


def _interval(row: Mapping, column: str) -> str:
    if row["n"] < 2:
        return ""
    low, high = row["interval_95"][column]
    return f"{low:.1f} to {high:.1f}"


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|---|---" + "|---:" * (len(header) - 2) + "|"
    for row in rows:
        yield f"| {' | '.join([*row, *[''] * (len(header) - len(row))])} |"


def _others(content: Report) -> list[str]:
    """Format the rows of other methods, folded."""
    rows = (
        [row["name"], row["supervision"], *map(_number, row["paper"])] for row in content["others"]
    )
    header = ["as printed in the paper", "supervision", *map(_named, content["columns"])]
    summary = f"<details><summary>Other methods, {content['published_on']}</summary>"
    return [summary, "\n".join(_table(header, rows)), "</details>"]


def sentences(content: Report) -> list[str]:
    """Summarize a report's orders; and for each row of which some members failed: why.

    Of our own tables: whether the last row is better than the others.
    """
    lines = [
        f"`{row['name']}`: of {len(row['members'])} seeds {row['n']}; {'; '.join(row['failed'])}"
        for row in content["rows"]
        if row["failed"] and row["n"]
    ]
    if content["table"] in OWN:
        return lines + _of_the_last(content["rows"], content["judged"][0])
    for column in content["judged"]:
        pairs = [pair for pair in content["order"] if pair["column"] == column and pair["n"]]
        lines += _on_the_order(_named(column), pairs)
    return lines


def _on_the_order(column: str, pairs: Sequence[Mapping]) -> Iterator[str]:
    """Yield how many of the paper's orders hold, then which, then each that is reversed."""
    parts: dict[str, list[Mapping]] = {"holds": [], "reversed": [], "open": []}
    for pair in pairs:
        low, high = pair["interval_95"] if pair["n"] > 1 else (-1, 1)
        parts["holds" if low > 0 else "reversed" if high < 0 else "open"].append(pair)
    counts = {name: len(part) for name, part in parts.items()}
    if pairs:
        yield (
            f"{column}: of {len(pairs)} orders of the paper {counts['holds']} "
            f"{'holds' if counts['holds'] == 1 else 'hold'} here, {counts['reversed']} "
            f"{'is' if counts['reversed'] == 1 else 'are'} reversed and {counts['open']} cannot be "
            "told apart (differences paired by seed, each with its own 95 % interval)."
        )
    if parts["holds"]:
        yield f"{column}, holds: {', '.join(map(_order, parts['holds']))}."
    for pair in parts["reversed"]:
        (first, second), (one, other), (mine, theirs) = (
            pair[name] for name in ("rows", "paper", "here")
        )
        yield (
            f"{column}: the paper's order `{first}` > `{second}` ({one:.1f} > {other:.1f}) does "
            f"not hold here but the reverse: {mine:.1f} and {theirs:.1f}, difference "
            f"{_difference(pair)}."
        )
    if parts["open"]:
        yield f"{column}, cannot be told apart: {', '.join(map(_order, parts['open']))}."


def _order(pair: Mapping) -> str:
    first, second = pair["rows"]
    return f"`{first}` > `{second}` ({_difference(pair)})"


def _difference(pair: Mapping) -> str:
    if pair["n"] < 2:
        return f"{pair['difference']:.1f}, one seed"
    low, high = pair["interval_95"]
    return f"{pair['difference']:.1f} [{low:.1f}, {high:.1f}]"


def _of_the_last(rows: Sequence[Mapping], column: str) -> list[str]:
    """Say how the last row's mean lies to the others' intervals and means."""
    *singles, last = (row for row in rows if row["n"])
    if last is not rows[-1] or not singles:
        return []
    mean = last["mean"][column]
    said = []
    for row in singles:
        if row["n"] > 1:
            low, high = row["interval_95"][column]
            where = "above" if mean > high else "below" if mean < low else "inside"
            said.append(f"{where} the 95 % interval of {row['name']} ({low:.1f} to {high:.1f})")
    best = max(singles, key=lambda row: row["mean"][column])
    gap = mean - best["mean"][column]
    said.append(
        f"{abs(gap):.1f} {'above' if gap > 0 else 'below'} the best single mean "
        f"({best['name']}, {best['mean'][column]:.1f})"
    )
    return [f"{column}: the mean of {last['name']}, {mean:.1f}, is {', '.join(said)}."]


def around_block(path: Path) -> tuple[str, str]:
    """Return what a Markdown file has before and after the block between the markers.

    Raises:
        JaxtalError: the file cannot be read, or has not each marker once.
    """
    with open_regular(path) as file:
        text = file.read().decode()
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end or _START in rest or _END in after:
        raise JaxtalError(f"{path}: wanted one {_START} and after it one {_END}; add these lines")
    return before, after


def replace_block(path: Path, block: str) -> None:
    """Put a text between the markers of a Markdown file, in place of what is there.

    Raises:
        JaxtalError: as `around_block`, or the file cannot be written.
    """
    before, after = around_block(path)
    json_files.write(path, f"{before}{_START}\n\n{block}\n{_END}{after}")
