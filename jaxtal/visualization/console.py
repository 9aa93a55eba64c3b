"""Terminal output: progress bar, tables, timings."""

import contextlib
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import rich
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jaxtal import reprs
from jaxtal.data.dataset import in_words
from jaxtal.data.reading import subsets_in_words
from jaxtal.evaluation.selection import average_name


@contextlib.contextmanager
def progress(start: int, steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show a progress bar over training steps.

    Args:
        start: the first step.
        steps: total number of steps.

    Yields:
        A function of the present step and {loss term: value} that updates the bar.
    """
    with _bar("training", TextColumn("{task.fields[terms]}", markup=False)) as bar:
        task = bar.add_task("training", total=steps, completed=start, terms="")

        def show(step: int, metrics: dict[str, float]) -> None:
            bar.update(task, completed=step)
            if metrics:
                terms = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
                bar.update(task, terms=terms)

        yield show


@contextlib.contextmanager
def progress_bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """Show a progress bar over items that are processed sequentially.

    Args:
        what: label of the bar.
        total: number of items.
        done: number of items that are already processed.

    Yields:
        A function without arguments that advances the bar by one item.
    """
    with _bar(what) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield functools.partial(bar.advance, task)


def _bar(what: str, *columns: ProgressColumn) -> Progress:
    bar = BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA")
    shown = TextColumn(what, markup=False), *bar, TimeRemainingColumn(), *columns
    return Progress(*shown, refresh_per_second=4)


def print_message(message: str) -> None:
    """Print a line above the progress bar.

    Args:
        message: plain text, without markup.
    """
    rich.get_console().print(message, markup=False, highlight=False, emoji=False)


def print_run(result: dict, workdir: Path) -> None:
    """Print the results of a finished run, or of every member of a population.

    Args:
        result: the content of result.json.
        workdir: the folder of the results, to be printed.
    """
    paths = reprs.evaluation_paths(result.get("mean", result))
    if not paths or ("mean" in result and () not in paths.values()):
        _print_without_map(result, workdir)
        return
    show = print_population if isinstance(result.get("members"), list) else print_result
    show(result, workdir)


def _print_without_map(result: dict, workdir: Path) -> None:
    """Print that a run has no mAP of test videos, and the place of its files."""
    _console().print(
        f"{result['method']} on {result['data']}, step {result['step']}: no mAP, as no test video "
        f"is annotated; {_seconds(result)}; all files are in {workdir}"
    )


def print_result(result: dict, workdir: Path) -> None:
    """Print the mAP table of a finished run in percent, a row per t-IoU and average.

    Args:
        result: the content of result.json.
        workdir: the folder of the results, to be printed.
    """
    columns: dict[str, dict] = {}
    for title, path in reprs.evaluation_paths(result).items():
        found = reprs.at(result, path)
        columns[f"{title}, {found['step']}\n{found['protocol']}"] = found
    first = next(iter(columns.values()))
    if official := result.get("official"):
        title = next(iter(columns)).partition("\n")[0]
        columns[f"{title}\n{official['protocol']}"] = official
    table = Table("t-IoU", title=f"{result['method']} on {result['data']}: mAP, percent")
    for name in columns:
        table.add_column(name, justify="right")
    for kind, label in (("map", ""), ("average", "average ")):
        for key in first[kind]:
            row = [column[kind].get(key, float("nan")) for column in columns.values()]
            table.add_row(label + key, *(f"{100 * value:.1f}" for value in row))
        table.add_section()
    _console().print(table)
    named = "of the test videos " * ("best_on_validation" in result and "map" in result)
    _console().print(
        f"video-level classification mAP {named}{100 * first['classification_map']:.1f}; "
        f"F1 at t-IoU 0.5 {100 * first['f1']:.1f}; {_seconds(result)}; "
        f"all files are in {workdir}"
    )


def print_population(result: dict, workdir: Path) -> None:
    """Print a row per member and a mean per group of members with equal values, in percent.

    Args:
        result: the content of a population's result.json.
        workdir: the folder of the results, to be printed.
    """
    averages = list(result["mean"]["average"])
    chosen = average_name(result["mean"])
    about = f"{result['method']} on {result['data']}: mAP at step {result['step']}, percent"
    table = Table("member", title=f"{about} ({result['protocol']})")
    title, best = [*reprs.evaluation_paths(result["mean"]).items()][-1]
    for name in [*averages, f"{chosen}, {title}", "video-level"]:
        table.add_column(name, justify="right")
    for index, member in enumerate(result["members"]):
        name = f"{index}: seed {member['seed']}{_values(member['values'])}"
        if "diverged" in member:
            table.add_row(name, f"diverged before step {member['diverged']}")
            continue
        numbers = [member["average"][key] for key in averages]
        numbers += [reprs.at(member, best)["average"][chosen], member["classification_map"]]
        table.add_row(name, *(f"{100 * number:.1f}" for number in numbers))
    table.add_section()
    for group in result.get("groups", [result]):
        if "mean" in group:
            _add_means(table, group, averages, (*best, "average", chosen))
        if "ensemble" in group:
            ensemble = group["ensemble"]
            name = f"ensemble of {ensemble['members']}{_values(group.get('values', {}))}"
            numbers = [f"{100 * ensemble['average'][key]:.1f}" for key in averages]
            video_level = f"{100 * ensemble['classification_map']:.1f}"
            table.add_row(name, *numbers, "", video_level)
    _wide().print(table)
    _console().print(f"{_seconds(result)}; all files are in {workdir}")


def _add_means(table: Table, group: dict, averages: list[str], best: tuple[str, ...]) -> None:
    """Add a row of mean ± sd and one of the 95 % interval; for a single member only the mean."""
    paths: list[tuple[str, ...]] = [("average", key) for key in averages]
    paths += [best, ("classification_map",)]

    def at(tree, path):
        return reprs.at(group[tree], path)

    several = not math.isnan(at("sd", paths[0]))
    name = f"mean{' ± sd' * several}{_values(group.get('values', {}))}"
    cells = [f"{100 * at('mean', path):.1f}" for path in paths]
    if not several:
        table.add_row(name, *cells)
        return
    spreads = (f" ± {100 * at('sd', path):.1f}" for path in paths)
    table.add_row(name, *map("".join, zip(cells, spreads, strict=True)))
    intervals = ([100 * end for end in at("interval_95", path)] for path in paths)
    table.add_row("95 % interval", *(f"{low:.1f} to {high:.1f}" for low, high in intervals))


def _values(values: dict[str, float]) -> str:
    return "".join(f", {field} {value:g}" for field, value in values.items())


def _seconds(result: dict) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())


def _console(width: int | None = None) -> Console:
    """Return a console that prints names as they are, also "[red]" and ":fire:"."""
    return Console(markup=False, emoji=False, width=width)


def _wide() -> Console:
    """Return a console that does not truncate tables if the output is not a terminal."""
    return _console(None if sys.stdout and sys.stdout.isatty() else 200)


def print_model(summary: dict, snippets: int, batch_size: int) -> None:
    """Print the layers of a network with their parameters, and its floating-point operations.

    Args:
        summary: the fields of `jaxtal.training.model_summary.ModelSummary`.
        snippets: of the video that the forward pass is counted for, and of those of a batch.
        batch_size: videos in a batch.
    """
    table = Table("layer")
    table.add_column("parameters", justify="right")
    for name, count in summary["parameters"].items():
        table.add_row(name, f"{count:,}")
    table.add_section()
    table.add_row("all", f"{sum(summary['parameters'].values()):,}")
    if summary["state"]:
        table.add_row("state, not trained", f"{summary['state']:,}")
    console = _wide()
    widths = " + ".join(f"{width:,}" for width in summary["widths"])
    console.print(f"{summary['num_classes']} classes, {widths} features per snippet")
    console.print(table)
    console.print(f"a video of {snippets} snippets: {summary['forward_flops'] / 1e9:,.3g} GFLOP")
    console.print(
        f"a training step of {batch_size} such videos: {summary['step_flops'] / 1e9:,.3g} GFLOP"
    )


def print_search(found: dict, top: int, path: Path) -> None:
    """Print the best combinations of a grid search, in percent.

    Args:
        found: as returned by `jaxtal.training.search.search`.
        top: largest number of rows.
        path: the file with all of them, to be printed.
    """
    rows = found["rows"]
    title = f"{found['protocol']}, step {found['step']}, {found['judged_by']} videos"
    table = Table(*rows[0]["values"], title=title)
    for name in (f"mAP {found['metric']}", "by seed"):
        table.add_column(name, justify="right")
    for row in rows[:top]:
        spread = "" if row["sd"] != row["sd"] else f" ± {100 * row['sd']:.1f}"
        by_seed = ", ".join(f"{100 * value:.1f}" for value in row["by_seed"])
        table.add_row(*row["values"].values(), f"{100 * row['mean']:.1f}{spread}", by_seed)
    _wide().print(table)
    print_message(f"{len(rows)} combinations; all are in {path}")


def print_evaluations(rows: dict[str, dict]) -> None:
    """Print a row of mAP per protocol, in percent.

    Args:
        rows: {protocol: `Evaluation.report`}.
    """
    thresholds = sorted({key for row in rows.values() for key in row["map"]}, key=float)
    averages = list(dict.fromkeys(key for row in rows.values() for key in row["average"]))
    table = Table("protocol", title="mAP by t-IoU, percent")
    for name in [*thresholds, *averages, "instances", "detections"]:
        table.add_column(name, justify="right")
    for name, row in rows.items():
        values = [row["map"].get(key) for key in thresholds]
        values += [row["average"].get(key) for key in averages]
        counts = [str(row["counts"][key]) for key in ("instances", "detections")]
        table.add_row(name, *("" if v is None else f"{100 * v:.1f}" for v in values), *counts)
    table.caption = _coverage([row["counts"] for row in rows.values()])
    _wide().print(table)


def _coverage(counts: list[dict]) -> str | None:
    """Return the caption of a table whose detections are for only a part of the test videos."""
    names = ("test_videos_with_detections", "test_videos")
    numbers = dict.fromkeys(tuple(row[name] for name in names) for row in counts)
    parts = [f"{some} of {most} test videos" for some, most in numbers if some < most]
    return f"detections for {', '.join(parts)}" if parts else None


def print_errors(name: str, row: dict) -> None:
    """Print kinds of error, recall by length and top false positives under one protocol.

    Args:
        name: name of the protocol.
        row: a report of `evaluate_files`, with "errors" and "top_false_positives".
    """
    errors = row["errors"]
    at = f"{name}, t-IoU {errors['t-IoU']:g}"
    best = ("1G", "3G", "10G")
    kinds = Table("kind of detection", "all", *best, "mAP gain", title=f"errors: {at}")
    for kind, numbers in errors["kinds"].items():
        counts = [numbers["detections"], *(numbers["among_best"][key] for key in best)]
        gain = numbers["gain"]
        kinds.add_row(kind, *map(str, counts), "" if gain != gain else f"{100 * gain:+.1f}")
    lengths = Table("instances", "seconds", "number", "found", "recall", title=f"recall: {at}")
    for length, numbers in errors["recall_by_length"].items():
        low, high = numbers["seconds"]
        seconds = f"{low:g} to {high:g}" if high else f"above {low:g}"
        recall = "" if not numbers["instances"] else f"{100 * numbers['recall']:.1f}"
        counts = [str(numbers[key]) for key in ("instances", "found")]
        lengths.add_row(length, seconds, *counts, recall)
    for table in (kinds, lengths):
        for column in table.columns[1:]:
            column.justify = "right"
        _wide().print(table)
    if row["top_false_positives"]:
        _wide().print(_false_positives(row["top_false_positives"], at))


def print_equal_recall(rows: list[dict], threshold: float) -> None:
    """Print the false positives of two sets of detections at equal recall.

    Args:
        rows: as returned by `equal_recall.compare`.
        threshold: t-IoU threshold.
    """
    title = f"false positives at equal recall: t-IoU {threshold:g}"
    table = Table("recall", "found", "false positives", "against", "change", title=title)
    for row in rows:
        counts = [row[key] for key in ("found", "false_positives", "false_positives_against")]
        change = "" if row["change"] != row["change"] else f"{100 * row['change']:+.0f} %"
        table.add_row(f"{100 * row['recall']:.1f}", *map(str, counts), change)
    for column in table.columns:
        column.justify = "right"
    _wide().print(table)


def _false_positives(rows: list[dict], at: str) -> Table:
    table = Table(
        "score",
        "video",
        "class",
        "seconds",
        "kind",
        "t-IoU with",
        title=f"top false positives: {at}",
    )
    for row in rows:
        against = row["instance"]
        held = "" if against is None else f" {against['label']} {_span(against['segment'])}"
        table.add_row(
            f"{row['score']:.4g}", row["video"], row["label"],
            _span(row["segment"]), row["kind"], f"{row['t-IoU']:.2f}{held}",
        )  # fmt: skip
    return table


def _span(segment: list[float]) -> str:
    return f"{segment[0]:.1f} to {segment[1]:.1f}"


_MOST_CLASSES = 1000  # rows of a table, which takes a millisecond a row


def print_inspection(report: dict) -> None:
    """Print the contents and the defects of a data set.

    Args:
        report: as `inspection.inspect` returns it.
    """
    data, console = report["data"], _wide()
    own = data["videos_with_their_own_fps"]
    console.print(
        Text.assemble((data["name"], "bold"), f", layout {data['layout']}: {data['path']}")
    )
    console.print(
        f"time grid: {data['fps']:g} fps{f' ({own} videos have their own)' * bool(own)}, stride "
        f"{data['stride']:g}, window {data['window']:g} frames, "
        + ("stated" if data["grid_is_stated"] else "assumed, as the layout's programs do")
    )
    if features := report["features"]:
        types = ", ".join(features["types"])
        console.print(
            f"features: {features['snippets']:,} snippets of {features['videos']:,} videos, "
            f"{in_words(features['streams'])} {types}"
        )
    if unused := subsets_in_words(report["unused"]):
        console.print(f"unused videos: {unused}", highlight=False)
    for note in report["notes"]:
        console.print(f"note: {note}")
    table = Table("subset", "", "0 %", "5 %", "25 %", "50 %", "75 %", "95 %", "100 %")
    for name, subset in report["subsets"].items():
        counts = f"{subset['videos']:,} videos, {subset['instances']:,} instances"
        table.add_row(name, f"{counts}, {subset['hours']:.1f} h", end_section=False)
        for what, values in subset["quantiles"].items():
            table.add_row("", what, *(f"{value:.4g}" for value in values or ()))
    console.print(table)
    subsets = list(report["subsets"])
    table = Table("class", *(f"{s}: {w}" for s in subsets for w in ("videos", "inst.")))
    for name, counts in itertools.islice(report["classes"].items(), _MOST_CLASSES):
        values = [counts[s][w] for s in subsets for w in ("videos", "instances")]
        table.add_row(name, *(f"{value:,}" for value in values))
    if (more := len(report["classes"]) - _MOST_CLASSES) > 0:
        table.add_row(f"... and {more:,} more")
    console.print(table)
    for finding in report["findings"]:
        console.print(f"{finding['severity']}: {_finding(finding)}", highlight=False)
    if not report["findings"]:
        examined = report["features"] and report["features"]["videos"]
        console.print("no defects found" + ("" if examined else "; features were not examined"))


def _finding(finding: dict) -> str:
    """Return the message of a finding, with examples where it has none of them."""
    message, first = finding["message"], finding["first"]
    return message if not first or first[0] in message else f"{message} ({'; '.join(first[:3])})"
