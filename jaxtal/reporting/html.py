"""HTML page of a report: tables and figures; the page's script draws the videos."""

import base64
import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from jaxtal.data.io.files import atomic_write
from jaxtal.evaluation.selection import average_name
from jaxtal.extras import required
from jaxtal.reporting import video_browser
from jaxtal.reporting.runs import ERRORS_AT, METRICS, Group, Model, Run, groups
from jaxtal.reporting.tables import Table, naming, tables
from jaxtal.visualization import plots

# Colors that remain distinct under color blindness (Okabe and Ito 2008), in the order of
# Matplotlib's default colors, so that the meaning of each color is the same.
_COLORS = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#8c6d31", "#44337a", "#7f7f7f",
    "#c7b700", "#56b4e9",
)  # fmt: skip
_STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=_COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "jaxtal",  # the same bytes for the same numbers
}


class Picture(NamedTuple):
    """A figure: its title, and a data URI that holds it as SVG in base64."""

    title: str
    address: str


class Classes(NamedTuple):
    """Average precision by class on one ground truth.

    Attributes:
        protocol: name of the protocol.
        average: range of t-IoU thresholds over which AP is averaged.
        models: names of the models.
        rows: (class, number of instances, AP of every model), by descending mean AP.
    """

    protocol: str
    average: str
    models: list[str]
    rows: list[tuple[str, int, list[float]]]


class Section(NamedTuple):
    """Tables of runs on the same ground truth."""

    title: str
    tables: list[Table]
    classes: Classes | None


def write(path: Path, runs: Sequence[Run], videos: int = 500) -> int:
    """Write the report of some runs atomically.

    Args:
        path: the HTML file.
        runs: as `runs.read` returns them.
        videos: maximum number of test videos per data set.

    Returns:
        Size of the file in bytes.

    Raises:
        DataError: the file cannot be written, or metrics of a run cannot be drawn.
    """
    # A folder's name may be invalid Unicode: replace such characters by character references.
    encoded = render(runs, videos).encode(errors="xmlcharrefreplace")
    with atomic_write(path, "wb") as file:
        file.write(encoded)
    return len(encoded)


def render(runs: Sequence[Run], videos: int = 500) -> str:
    """Return the page as text.

    Args:
        runs: as `runs.read` returns them.
        videos: maximum number of test videos per data set.

    Returns:
        The HTML text.

    Raises:
        DataError: metrics of a run cannot be drawn.
    """
    with required("report", "the report"):
        import jinja2
        from markupsafe import Markup
    loader = jinja2.PackageLoader("jaxtal.reporting")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["per_cent"] = _per_cent
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    script, style = (
        Markup(loader.get_source(environment, name)[0]) for name in ("report.js", "report.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = groups(runs)
    return environment.get_template("report.html").render(
        runs=runs,
        sections=[_section(group) for group in made],
        training=[_training(run) for run in runs if run.metrics],
        errors=[_errors(model) for group in made for model in group.models],
        errors_at=ERRORS_AT,
        browser=video_browser.content(made, videos),
        most=video_browser.DETECTIONS,
        script=script,
        style=style,
        # No other script runs and nothing is fetched, even if a name in the page is hostile.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'",
    )


def _per_cent(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:.1f}"


def _section(group: Group) -> Section:
    rows = [row for run in group.runs for row in run.result.rows]
    return Section(group.title, tables(rows), _classes(group) if group.models else None)


def _classes(group: Group) -> Classes:
    assert group.truth is not None
    classes = group.truth.classes
    reports = [model.evaluation.report(classes)["per_class"] for model in group.models]
    summary = group.models[0].evaluation.summary()
    average = average_name(summary)
    rows = [
        (name, about["instances"], [report[name]["average"][average] for report in reports])
        for name, about in reports[0].items()
    ]
    rows.sort(key=lambda row: -float(np.mean(row[2])))
    return Classes(summary["protocol"], average, [model.name for model in group.models], rows)


def _training(run: Run) -> Picture:
    with naming(f"{run.name}, metrics.jsonl", METRICS):
        return _picture(run.name, functools.partial(plots.draw_training, run.metrics))


def _errors(model: Model) -> Picture:
    draw = functools.partial(plots.draw_errors, model.evaluation, model.diagnosis)
    return _picture(model.name, draw)


def _picture(title: str, draw: Callable[[], Figure]) -> Picture:
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = draw()
        figure.savefig(file, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(file.getvalue()).decode()
    return Picture(title, f"data:image/svg+xml;base64,{encoded}")
