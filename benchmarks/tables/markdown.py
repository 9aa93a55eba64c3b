"""Markdown of reports and of the papers' tables (see benchmarks/tables/report.py)."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.tables.published import Published
from benchmarks.tables.report import Report
from benchmarks.tables.rows import OWN

LEGEND = (
    "Numbers are mAP in percent at the last step: mean ± standard deviation over the seeds, then "
    "the 95 % interval of the mean (Student's t) and n, the number of seeds. Rows marked *best on "
    "test* are means at the step with the highest average on the test videos, the published "
    "programs' rule; rows marked *paper* are printed numbers, chosen in this way. An ordering of "
    "the paper is confirmed or reversed if the 95 % interval of the difference, paired by seed, "
    "excludes 0; otherwise it is inconclusive."
)
_MOST_WITH_SD = 8  # tables with more columns have standard deviations of the averages only


def markdown(content: Report) -> str:
    """Format a report as a section: its command, settings, rows, and the compared orderings.

    Args:
        content: report as read from its JSON file.

    Returns:
        Markdown that ends with a newline; the heading has the id of `anchor`.
    """
    preset = f", preset `{content['preset']}`" * bool(content["preset"])
    parts = [
        f"## {content['heading']} ({content['data']}{preset}) {{ #{anchor(content)} }}",
        f"```bash\n{_command(content['command'])}\n```",
        _settings(content),
        table(_header(content), _rows(content), left=2),
        *(["\n".join(f"- {line}" for line in found)] if (found := sentences(content)) else []),
    ]
    if content["others"]:
        place = f"published.md#published-{content['table'].replace('/', '-')}"
        parts.append(f"[Rows of other methods, as printed]({place})")
    return "\n\n".join(parts) + "\n"


def anchor(content: Report) -> str:
    """Return the id of a report's section, for example "table-co2net-3-demo"."""
    name = ["table", content["table"].replace("/", "-"), content["data"], content["preset"]]
    return "-".join(filter(None, name))


def published(source: Published) -> str:
    """Format a paper's table as a section: its own rows in bold, then those of other methods.

    Args:
        source: table as printed.
    """
    own = ([f"**{name}**", "Weakly", *map(_number, cells)] for name, cells in source.rows.items())
    others = ([name, kind, *map(_number, cells)] for kind, name, cells in source.others)
    header = ["Method", "Supervision", *map(_named, source.columns)]
    return (
        f"## {source.heading} {{ #published-{source.key.replace('/', '-')} }}\n\n"
        f"{source.published_on}, percent.\n\n{table(header, [*own, *others], left=2)}\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Format a Markdown table; missing cells at the end of a row are empty.

    Args:
        header: headings of the columns.
        rows: cells of each row.
        left: number of columns that are aligned on the left.
    """
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join(f"| {' | '.join([*row, *[''] * (len(header) - len(row))])} |" for row in lines)


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "benchmarks.tables", *arguments])


def _settings(content: Report) -> str:
    members = [m for row in content["rows"] for m in row["members"]]
    protocols, steps, seeds, selected = (
        ", ".join(str(value) for value in sorted({m[name] for m in members if name in m}))
        for name in ("protocol", "step", "seed", "selected_by")
    )
    text = (
        f"Data `{content['data']}`, scale `{content['scale']}`, protocol `{protocols}`, last step "
        f"{steps}, seeds {seeds}, best on test by {selected}."
    )
    if content["table"] in OWN:
        return text
    return f"{text} The paper's numbers are of {content['published_on']}."


def _named(column: str) -> str:
    return "F1 at 0.5" if column == "F1" else column


def _header(content: Report) -> list[str]:
    judged = ", ".join(map(_named, content["judged"]))
    by_seed = [f"{judged} by seed"] if content["table"] in OWN else []
    columns = map(_named, content["columns"])
    against = [f"{judged} minus `{content['base']}`"] if content["base"] else []
    return ["Row", "Source", *columns, f"95 %, {judged}", "n", *against, *by_seed]


def _rows(content: Report) -> Iterator[list[str]]:
    for row in content["rows"]:
        yield _here(content, row)
        if ensemble := row.get("ensemble"):
            name = f"{row['name']}, ensemble of {ensemble['members']}"
            values = [f"{ensemble['values'][column]:.1f}" for column in content["columns"]]
            yield [name, "here", *values, "", "1"]
        of_others = {"best on test": row["best_on_test"], "paper": row["paper"]}
        for source, numbers in of_others.items():
            if numbers:
                yield ["", source, *(_number(numbers.get(c)) for c in content["columns"])]


def _here(content: Report, row: Mapping) -> list[str]:
    columns, judged = content["columns"], content["judged"]
    if not row["n"]:
        why = " ".join((row["refused"] or "; ".join(row["failed"])).replace("|", "/").split())
        return [row["name"], f"{'not defined' if row['refused'] else 'failed'}: {why}"]
    spread = [c for c in columns if len(columns) <= _MOST_WITH_SD or ":" in c]
    cells = [_number(row["mean"][c]) + _sd(row, c) * (c in spread) for c in columns]
    cells += [", ".join(_interval(row, c) for c in judged), str(row["n"])]
    if content["base"]:
        cells.append(_difference(row["difference"]) if "difference" in row else "")
    if content["table"] in OWN:
        values = [m.get("values", {}).get(judged[0]) for m in row["members"]]
        cells.append(", ".join(map(_number, values)))
    return [row["name"], "here", *cells]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _sd(row: Mapping, column: str) -> str:
    return "" if row["n"] < 2 else f" ± {row['sd'][column]:.1f}"


def _interval(row: Mapping, column: str) -> str:
    if row["n"] < 2:
        return ""
    low, high = row["interval_95"][column]
    return f"{low:.1f} to {high:.1f}"


def sentences(content: Report) -> list[str]:
    """Summarize a report in sentences.

    They list the reasons of failed members, and the paper's orderings that are confirmed, reversed
    or inconclusive. For a table of no paper they compare the last row with the others.

    Args:
        content: report as read from its JSON file.
    """
    lines = [
        f"`{row['name']}`: {row['n']} of {len(row['members'])} seeds; {'; '.join(row['failed'])}"
        for row in content["rows"]
        if row["failed"] and row["n"]
    ]
    if content["base"]:
        return lines + _against_the_base(content)
    if content["table"] in OWN:
        return lines + _of_the_last(content["rows"], content["judged"][0])
    for column in content["judged"]:
        pairs = [pair for pair in content["order"] if pair["column"] == column and pair["n"]]
        lines += _on_the_order(_named(column), pairs)
    return lines


def _on_the_order(column: str, pairs: Sequence[Mapping]) -> Iterator[str]:
    """Yield the counts of the paper's orderings, then the orderings of each kind."""
    parts: dict[str, list[Mapping]] = {"confirmed": [], "reversed": [], "inconclusive": []}
    for pair in pairs:
        low, high = pair["interval_95"] if pair["n"] > 1 else (-1, 1)
        kind = "confirmed" if low > 0 else "reversed" if high < 0 else "inconclusive"
        parts[kind].append(pair)
    if pairs:
        counts = ", ".join(f"{len(part)} {kind}" for kind, part in parts.items())
        yield f"{column}, {len(pairs)} orderings of the paper: {counts}."
    if parts["confirmed"]:
        yield f"{column}, confirmed: {', '.join(map(_order, parts['confirmed']))}."
    for pair in parts["reversed"]:
        (first, second), (one, other), (mine, theirs) = (
            pair[name] for name in ("rows", "paper", "here")
        )
        yield (
            f"{column}, reversed: `{first}` > `{second}` in the paper ({one:.1f} > {other:.1f}); "
            f"here {mine:.1f} and {theirs:.1f}, difference {_difference(pair)}."
        )
    if parts["inconclusive"]:
        yield f"{column}, inconclusive: {', '.join(map(_order, parts['inconclusive']))}."


def _order(pair: Mapping) -> str:
    first, second = pair["rows"]
    return f"`{first}` > `{second}` ({_difference(pair)})"


def _difference(pair: Mapping) -> str:
    if pair["n"] < 2:
        return f"{pair['difference']:.1f}, one seed"
    low, high = pair["interval_95"]
    return f"{pair['difference']:.1f} [{low:.1f}, {high:.1f}]"


def _against_the_base(content: Report) -> list[str]:
    """Name the rows that are better or worse than the base."""
    rows = [row for row in content["rows"] if row.get("difference", {}).get("n", 0) > 1]
    better = [row for row in rows if row["difference"]["interval_95"][0] > 0]
    worse = [row for row in rows if row["difference"]["interval_95"][1] < 0]
    lines = []
    for word, found in (("better", better), ("worse", worse)):
        each = [f"`{row['name']}` ({_difference(row['difference'])})" for row in found]
        where = f"{content['judged'][0]}, {word} than `{content['base']}`"
        if each:
            lines.append(f"{where} (95 %, paired by seed): {', '.join(each)}.")
    return lines


def _of_the_last(rows: Sequence[Mapping], column: str) -> list[str]:
    """Compare the last row's mean with the intervals and the best mean of the others."""
    *singles, last = (row for row in rows if row["n"])
    if last is not rows[-1] or not singles:
        return []
    mean = last["mean"][column]
    compared = []
    for row in singles:
        if row["n"] > 1:
            low, high = row["interval_95"][column]
            where = "above" if mean > high else "below" if mean < low else "inside"
            compared.append(f"{where} the 95 % interval of {row['name']} ({low:.1f} to {high:.1f})")
    best = max(singles, key=lambda row: row["mean"][column])
    gap = mean - best["mean"][column]
    compared.append(
        f"{abs(gap):.1f} {'above' if gap > 0 else 'below'} the best single mean "
        f"({best['name']}, {best['mean'][column]:.1f})"
    )
    return [f"{column}: the mean of {last['name']}, {mean:.1f}, is {', '.join(compared)}."]
