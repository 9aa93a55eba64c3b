"""Tables of results: rows from result.json, grouped so that a table holds comparable rows."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtal import reprs
from jaxtal.data.io import json_files
from jaxtal.errors import DataError, JaxtalError, short_repr
from jaxtal.evaluation import protocols

_FORM = "result.json as a run writes it; repeat the run's command to write it"
NAN = float("nan")


class Number(NamedTuple):
    """A fraction, or a mean with its spread over a population; missing values are NaN."""

    mean: float
    sd: float = NAN
    low: float = NAN
    high: float = NAN


class Scores(NamedTuple):
    """A model's numbers under a protocol, by column title.

    Attributes:
        protocol: name of the protocol.
        last: numbers of the last step.
        best: numbers of the best step, see `Row.best_title`; {} for an ensemble.
    """

    protocol: str
    last: dict[str, Number]
    best: dict[str, Number]

    @property
    def several(self) -> bool:
        """True if the numbers are means with a spread."""
        return any(not math.isnan(number.sd) for number in self.last.values())


class Row(NamedTuple):
    """One model, or the mean of several.

    Attributes:
        name: name of the work directory, and of the part of it.
        method: name of the method.
        models: number of models behind the numbers.
        step: the last step.
        best_title: the videos on which the best step was selected, and those of its numbers.
        best_step: the best step; None for several models or an ensemble.
        own: numbers under the run's own protocol.
        official: numbers under the data set's official protocol.
    """

    name: str
    method: str
    models: int
    step: int
    best_title: str
    best_step: int | None
    own: Scores
    official: Scores


class Result(NamedTuple):
    """Content of result.json.

    Attributes:
        data: name of the data set.
        official: name of its official protocol.
        member: the first member of a population that did not diverge; None for a single run.
        ensemble: True if all remaining members form an ensemble.
        rows: rows of the tables.
        diverged: members without a result.
        metrics_lines: number of lines of metrics.jsonl at the end of the run.
    """

    data: str
    official: str
    member: int | None
    ensemble: bool
    rows: list[Row]
    diverged: list[int]
    metrics_lines: int


def read(folder: Path, name: str) -> Result:
    """Read the result of the run in a work directory.

    Args:
        folder: the work directory.
        name: name of the run in the tables.

    Returns:
        The rows of the tables, the members of a population, and the official protocol.

    Raises:
        DataError: result.json does not exist, because the run has not finished, or is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        raise DataError(
            f"{path}: no such file, so the run there has not finished; run the same command again "
            "to finish it, or with mode=eval to evaluate its newest checkpoint in evaluations/"
        )
    content = json_files.load(path, _FORM)
    with naming(path, _FORM):
        return parse(content, name)


@contextlib.contextmanager
def naming(path: Path | str, form: str) -> Iterator[None]:
    """Convert parsing errors of a file to DataError.

    Args:
        path: the file, for the message.
        form: the expected form and the remedy, for the message.

    Raises:
        DataError: the block raised a JaxtalError or a Python error of malformed content.
    """
    try:
        yield
    except JaxtalError as error:
        raise DataError(f"{path}: {error}; wanted {form}") from None
    except KeyError as error:
        raise DataError(f"{path}: no {error}; wanted {form}") from None
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {short_repr(str(error))}; wanted {form}") from None


def parse(content: Mapping[str, Any], name: str) -> Result:
    """Parse the content of a result.json.

    Args:
        content: the parsed JSON.
        name: name of the run in the tables.

    Returns:
        The rows of the tables, the members of a population, and the official protocol.

    Raises:
        LookupError, AttributeError, TypeError, ValueError: the content is malformed; `naming`
            converts these errors.
    """
    members = content["members"] if "population" in content else [content]
    kept = [index for index, member in enumerate(members) if "map" in member]
    if not kept:
        raise DataError("a run without mAP, as no test video is annotated")
    like = members[kept[0]]
    rows = []
    for group in content.get("groups", [content]):
        values = group.get("values", {}) if "groups" in content else {}
        called = name + "".join(f", {field} {value:g}" for field, value in values.items())
        count = group["members"] if "groups" in content else len(kept)
        if "mean" in group or "map" in group:
            rows.append(_row(called, content, count, group, like))
        if "ensemble" in group:
            ensemble = group["ensemble"]
            called, count = f"{called}, ensemble", ensemble["members"]
            rows.append(_row(called, content, count, ensemble, ensemble))
    member = kept[0] if "population" in content else None
    diverged = [index for index in range(len(members)) if index not in kept]
    official = protocols.get(str(like["official"]["protocol"])).name
    ensemble = "ensemble" in content
    return Result(
        str(content["data"]),
        official,
        member,
        ensemble,
        rows,
        diverged,
        int(content.get("metrics_lines", 0)),
    )


def _row(name: str, content: Mapping, count: int, entry: Mapping, like: Mapping) -> Row:
    """Return the row of a result, or of statistics, whose protocols are those of `like`."""
    titles = [*reprs.evaluation_paths(entry.get("mean", entry)).items()][1:2]
    title, best = titles[0] if titles else ("", ())
    own, official = (
        Scores(
            str(named["protocol"]),
            _numbers(entry, *path),
            _numbers(entry, *best, *path) if best else {},
        )
        for named, path in ((like, ()), (like["official"], ("official",)))
    )
    best_step = reprs.at(entry, best)["step"] if best and "mean" not in entry else None
    method, step = str(content["method"]), int(content["step"])
    return Row(name, method, int(count), step, title, best_step, own, official)


def _numbers(entry: Mapping, *path: str) -> dict[str, Number]:
    """Return {column: number} below a path of a result, or of means with their spread."""
    spread = ("mean", "sd", "interval_95")
    trees = [entry[name] for name in spread] if "mean" in entry else [entry]
    parts = [_columns(reprs.at(tree, path)) for tree in trees]
    return {column: _number(*(part[column] for part in parts)) for column in parts[0]}


def _columns(part: Mapping) -> dict[str, Any]:
    """Return the numbers of a result by column title."""
    others = {"classification_map": "video-level", "f1": "F1"}
    return {
        **part["map"],
        **{f"mean {key}": value for key, value in part["average"].items()},
        **{title: part[key] for key, title in others.items() if key in part},
    }


def _number(mean: Any, sd: Any = None, interval: Sequence = (None, None)) -> Number:
    """Convert JSON values to a `Number`; null is NaN."""
    return Number(*(NAN if value is None else float(value) for value in (mean, sd, *interval)))


class Table(NamedTuple):
    """Rows that can be compared with each other.

    Attributes:
        protocol: name of the protocol of all numbers.
        official: True if it is the data set's official protocol, False if the runs chose it.
        columns: titles of the columns.
        rows: (row, its scores under this protocol).
        highest: {column: highest number of a last step}.
    """

    protocol: str
    official: bool
    columns: list[str]
    rows: list[tuple[Row, Scores]]
    highest: dict[str, float]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Make a table per protocol, and a table of all rows under the official protocol.

    The latter is omitted if all rows have it as their own.

    Args:
        rows: rows on the same ground truth.

    Returns:
        The tables, in the order in which the protocols occur.
    """
    own: dict[str, list[tuple[Row, Scores]]] = {}
    for row in rows:
        own.setdefault(row.own.protocol, []).append((row, row.own))
    made = [_table(name, False, part) for name, part in own.items()]
    if any(row.own.protocol != row.official.protocol for row in rows):
        of_all = [(row, row.official) for row in rows]
        made.append(_table(rows[0].official.protocol, True, of_all))
    return made


def _table(protocol: str, official: bool, rows: list[tuple[Row, Scores]]) -> Table:
    columns = dict.fromkeys(column for _, scores in rows for column in scores.last)
    highest = {
        column: max((s.last.get(column, _NOTHING).mean for _, s in rows), key=_or_lowest)
        for column in columns
    }
    return Table(protocol, official, list(columns), rows, highest)


_NOTHING = Number(NAN)


def _or_lowest(value: float) -> float:
    return float("-inf") if math.isnan(value) else value
