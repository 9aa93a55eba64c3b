r"""Look at data sets and convert them between the field's layouts.

    python -m jaxtal.datasets inspect PATH
    python -m jaxtal.datasets convert PATH --to basnet OUT

PATH is a folder in any of the layouts, or a JSON file of annotations. The layout is recognized, or
given by --layout; where the time grid of the features is not what is assumed, --fps, --stride and
--window say so and it is recorded. `inspect` prints what is there and what is wrong, and draws one
figure. `convert` keeps every bit of features and segments, needs the memory of a few videos, goes
on where it was interrupted, and leaves SHA256SUMS, which `sha256sum -c` and `inspect` check.

Layouts: wtalc, hamnet, basnet, acmnet, actionformer, opentad, activitynet (annotations alone); tfds
(see python -m jaxtal.prepare) can be converted from.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from jaxtal import command_line, data_flags
from jaxtal.data import conversion, inspection, layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError, warn
from jaxtal.visualization import console

_TO = flags.DEFINE_string("to", None, f"Layout to convert to: {', '.join(conversion.LAYOUTS)}.")
flags.adopt_module_key_flags(data_flags)
_QUICK = flags.DEFINE_bool("quick", False, "inspect: do not read features and checksums.")
_OUTPUT = flags.DEFINE_string("output", None, "inspect: JSON file for every number.")
_FIGURE = flags.DEFINE_string(
    "figure", None, "inspect: picture (.png, .pdf, .svg); default inspect_<name>.png, '' for none."
)


def inspect(path: Path) -> None:
    """Print what is in a data set and what is wrong, and draw it."""
    source = _read(path)
    report = inspection.inspect(source, not _QUICK.value, _counting("reading"))
    changed = None if _QUICK.value else inspection.changed_files(source.path)
    if changed is not None:
        found = {"count": len(changed), "first": changed[:5]}
        report["defects"]["files that differ from SHA256SUMS"] = found
    if _OUTPUT.value:
        json_files.write(Path(_OUTPUT.value), json_files.to_text(report))
    console.print_inspection(report)
    if _FIGURE.value != "":
        from jaxtal.visualization import plots  # here, because Matplotlib takes longer than reading

        figure = Path(_FIGURE.value or f"inspect_{source.dataset.name}.png")
        try:
            plots.save(plots.draw_dataset(source.dataset, report), figure)
        except (OSError, ValueError) as error:
            raise JaxtalError(f"--figure {figure}: cannot be written ({error})") from None
        console.say(f"a picture is in {figure}")


def to_layout(path: Path, folder: Path) -> None:
    """Write a data set into another folder in another layout."""
    layout = command_line.required(_TO)
    source = _read(path)
    written = conversion.convert(
        source,
        layout,
        folder,
        skip_damaged=data_flags.SKIP_DAMAGED.value,
        how_to_skip="--skip_damaged",
        progress=_counting("converting"),
    )
    count = len(written.train) + len(written.test)
    what = (
        "annotations and features" if source.features and layout != "activitynet" else "annotations"
    )
    console.say(f"{what} of {count} videos are in {folder} ({source.layout} to {layout})")
    if layout != "activitynet" and written.grid != (assumed := conversion.assumed(layout, written)):
        warn(
            f"the time grid that is recorded is {_words(written.grid)}; other programs that read "
            f"the layout {layout!r} assume {_words(assumed)}"
        )


def _words(grid: TimeGrid) -> str:
    return f"{grid.fps:g} fps, stride {grid.stride:g}, window {grid.window:g}"


def _read(path: Path):
    return layouts.read(path, **data_flags.reading(), features=None)


def _counting(what: str):
    return lambda total, done: console.progress_bar(what, total, done)


_COMMANDS: dict[str, tuple[Callable[..., None], list[str]]] = {
    "inspect": (inspect, ["PATH"]),
    "convert": (to_layout, ["PATH", "OUT"]),
}


def _run(arguments: list[str]) -> int:
    try:
        _, command, *paths = [*arguments, "", ""][: max(len(arguments), 2)]
        if command not in _COMMANDS:
            raise JaxtalError(
                f"{command!r} is no command; wanted inspect PATH, or convert PATH OUT"
            )
        function, names = _COMMANDS[command]
        if len(paths) != len(names):
            raise JaxtalError(f"{command} wants {' and '.join(names)}; got {len(paths)} paths")
        command_line.check_outputs([_OUTPUT, _FIGURE], [])
        function(*map(Path, paths))
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_with_paths)
