"""The three papers' tables as printed (published.toml)."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAPERS = {"co2net": "CO2-Net", "d2net": "D2-Net", "twostream": "Two-stream"}
FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Published:
    """Table of a paper, in percent; NaN where the paper prints no number.

    Attributes:
        key: method and number of the table, "co2net/3".
        title: subject of the table.
        columns: a t-IoU ("0.5"), an average over t-IoUs ("0.1:0.7"), or "F1" at t-IoU 0.5.
        rows: numbers of the paper's own rows, in the order of `columns`, by name; the last row is
            the full method.
        judged: columns in which rows are compared with each other.
        others: rows of other methods, (supervision, name, numbers); † marks additional data or
            labels.
        base: the row of a table of no paper that the others are compared with; "": none.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    judged: tuple[str, ...]
    others: tuple[tuple[str, str, tuple[float, ...]], ...] = ()
    base: str = ""

    @property
    def method(self) -> str:
        """Method of the paper, a value of `config.method`."""
        return self.key.partition("/")[0]

    @property
    def heading(self) -> str:
        """Heading of the table."""
        method, _, number = self.key.partition("/")
        if method not in PAPERS or not number.isdigit():
            return self.title
        return f"{PAPERS[method]}, Table {number}: {self.title}"

    @property
    def activitynet(self) -> bool:
        """Return True for a table of ActivityNet, False for one of THUMOS14."""
        return "0.5:0.95" in self.columns

    @property
    def published_on(self) -> str:
        """Data set of the paper's numbers."""
        if not self.activitynet:
            return "THUMOS14"
        return "ActivityNet 1.3" if self.method == "twostream" else "ActivityNet 1.2"


def _numbers(text: str, count: int) -> dict[str, tuple[float, ...]]:
    """Parse lines of a name and `count` numbers; "-" stands for a missing one."""
    split = (line.rsplit(maxsplit=count) for line in text.strip().splitlines())
    return {
        name: tuple(math.nan if cell == "-" else float(cell) for cell in cells)
        for name, *cells in split
    }


def _table(key: str, content: Mapping[str, Any]) -> Published:
    """Parse a table of the file."""
    columns = tuple(content["columns"].split())
    others = tuple(
        (supervision, name, numbers)
        for supervision, text in content.get("others", {}).items()
        for name, numbers in _numbers(text, len(columns)).items()
    )
    judged = tuple(content.get("judged", columns[-1]).split())
    rows = _numbers(content["rows"], len(columns))
    return Published(key, content["title"], columns, rows, judged, others)


TABLES = {
    key: _table(key, content)
    for key, content in tomllib.loads((FOLDER / "published.toml").read_text("utf-8")).items()
}
