"""Reports of tables as Markdown, sentences and CSV (see benchmarks/table_report.py)."""

import csv
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.table_report import Report
from benchmarks.table_rows import COMPARISON
from jaxtal.data import json_files
from jaxtal.data.files import open_regular
from jaxtal.errors import UserError

_START, _END = "<!-- tables -->", "<!-- /tables -->"
_MOST_WITH_SD = 8  # of a table with more columns only the averages have their standard deviations


def markdown(content: Report) -> str:
    """A table under its heading: the paper's row under ours; then what is to be said of it."""
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
    protocols, steps, seeds = (
        ", ".join(str(value) for value in sorted({m[name] for m in members if name in m}))
        for name in ("protocol", "step", "seed")
    )
    text = (
        f"mAP, per cent, at the last step ({steps}); data `{content['data']}`, scale "
        f"`{content['scale']}`, protocol `{protocols}`, seeds {seeds}: mean ± standard deviation, "
        "95 % interval of the mean, number of seeds; at the right the best step on the test videos."
    )
    if content["table"] == COMPARISON.key:
        return text
    return f"{text} The paper's numbers are of {content['published_on']}, best on test."


def _named(column: str) -> str:
    return "F1 at 0.5" if column == "F1" else column


def _header(content: Report) -> list[str]:
    judged = ", ".join(map(_named, content["judged"]))
    by_seed = [f"{judged} by seed"] if content["table"] == COMPARISON.key else []
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
        return [row["name"], f"failed: {'; '.join(row['failed'])}", *[""] * (len(columns) + 3)]
    spread = [c for c in columns if len(columns) <= _MOST_WITH_SD or ":" in c]
    cells = [_number(row["mean"][c]) + _sd(row, c) * (c in spread) for c in columns]
    best = ", ".join(_number(row["best_on_test"][c]) for c in judged)
    cells += [", ".join(_interval(row, c) for c in judged), str(row["n"]), best]
    if content["table"] == COMPARISON.key:
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
    """The rows of other methods, folded."""
    rows = (
        [row["name"], row["supervision"], *map(_number, row["paper"])] for row in content["others"]
    )
    header = ["as printed in the paper", "supervision", *map(_named, content["columns"])]
    summary = f"<details><summary>Other methods, {content['published_on']}</summary>"
    return [summary, "\n".join(_table(header, rows)), "</details>"]


def sentences(content: Report) -> list[str]:
    """What a report's orders come to: a sentence for those that hold, and one for each other.

    Of the methods under one protocol: whether the last one is better than the others. And for each
    row of which some members failed: why.
    """
    lines = [
        f"`{row['name']}`: of {len(row['members'])} seeds {row['n']}; {'; '.join(row['failed'])}"
        for row in content["rows"]
        if row["failed"] and row["n"]
    ]
    if content["table"] == COMPARISON.key:
        return lines + _of_the_last(content["rows"], content["judged"][0])
    for column in content["judged"]:
        pairs = [pair for pair in content["order"] if pair["column"] == column and pair["n"]]
        held = [pair for pair in pairs if pair["difference"] > 0]
        if held:
            lines.append(_holding(held, len(pairs)))
        lines += [_not_holding(pair) for pair in pairs if pair not in held]
    return lines


def _holding(pairs: Sequence[Mapping], count: int) -> str:
    """One sentence on all pairs whose difference has the paper's sign."""
    clear = [pair for pair in pairs if pair["n"] > 1 and pair["interval_95"][0] > 0]
    rest = [pair for pair in pairs if pair not in clear]
    parts = [
        f"{how} {', '.join(map(_order, several))}"
        for how, several in (("clearly", clear), ("on average", rest))
        if several
    ]
    return (
        f"{_named(pairs[0]['column'])}: the paper's order holds here for {len(pairs)} of {count} "
        f"pairs, {'; '.join(parts)}."
    )


def _order(pair: Mapping) -> str:
    first, second = pair["rows"]
    return f"`{first}` > `{second}` ({_difference(pair)})"


def _not_holding(pair: Mapping) -> str:
    (first, second), (one, other), (mine, theirs) = pair["rows"], pair["paper"], pair["here"]
    reverse = pair["n"] > 1 and pair["interval_95"][1] < 0
    told = "the reverse holds" if reverse else "cannot be told apart"
    return (
        f"{_named(pair['column'])}: the paper's order `{first}` > `{second}` ({one:.1f} > "
        f"{other:.1f}) does not hold here: {mine:.1f} vs {theirs:.1f}, difference "
        f"{_difference(pair)} ({told})."
    )


def _difference(pair: Mapping) -> str:
    if pair["n"] < 2:
        return f"{pair['difference']:.1f}, one seed"
    low, high = pair["interval_95"]
    return f"{pair['difference']:.1f} [{low:.1f}, {high:.1f}]"


def _of_the_last(rows: Sequence[Mapping], column: str) -> list[str]:
    """How the last row's mean lies to the others' intervals and means."""
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


_CSV = (
    "data", "table", "row", "source", "column", "mean", "sd", "low", "high", "n", "best_on_test",
    "by_seed",
)  # fmt: skip


def to_csv(content: Report) -> str:
    """A line for each row and column: ours ("here"), an "ensemble", the "paper", other methods.

    Per cent; `low` and `high` are the 95 % interval's ends, `by_seed` the members' numbers.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, _CSV, restval="", lineterminator="\n")
    writer.writeheader()
    about = {name: content[name] for name in ("data", "table")}
    writer.writerows(about | line for line in _csv_lines(content))
    return file.getvalue()


def _csv_lines(content: Report) -> Iterator[dict]:
    for row in content["rows"]:
        for column in content["columns"]:
            where = {"row": row["name"], "column": column}
            if row["n"]:
                low, high = row["interval_95"][column]
                values = (m["values"][column] for m in row["members"] if "values" in m)
                yield where | {
                    "source": "here", "mean": row["mean"][column], "sd": row["sd"][column],
                    "low": low, "high": high, "n": row["n"],
                    "best_on_test": row["best_on_test"].get(column, ""),
                    "by_seed": " ".join(map(str, values)),
                }  # fmt: skip
            if ensemble := row.get("ensemble"):
                yield where | {"source": "ensemble", "mean": ensemble["values"][column], "n": 1}
            if row["paper"]:
                yield where | {"source": "paper", "mean": row["paper"][column]}
    for other in content["others"]:
        for column, number in zip(content["columns"], other["paper"], strict=True):
            where = {"row": other["name"], "column": column, "source": other["supervision"]}
            yield where | {"mean": number}


def replace_block(path: Path, block: str) -> None:
    """Put a text between the markers of a Markdown file, in place of what is there.

    Raises:
        UserError: the file cannot be read or written, or has not each marker once.
    """
    with open_regular(path) as file:
        text = file.read().decode()
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end or _START in rest or _END in after:
        raise UserError(f"{path}: wanted one {_START} and after it one {_END}; add these lines")
    json_files.write(path, f"{before}{start}\n\n{block}\n{end}{after}")
