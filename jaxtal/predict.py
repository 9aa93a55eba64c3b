r"""Detections in videos that nobody annotated, from a trained model and features.

    python -m jaxtal.predict --workdir runs/co2net_demo --features FOLDER --output detections.json
    python -m jaxtal.predict --exported model.jaxtal --features VIDEO.npy --output detections.json \
        --plots pictures

Features are a .npy file (T, 2D) of one video, RGB columns before flow; a folder of such files, the
video's name being the file's; a folder with rgb/ and flow/, (T, D) each; or a data set in one of
the known layouts, of which all videos are predicted, training and test. They are read batch by
batch, so that a folder may be as large as it likes.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from absl import app, flags, logging

from jaxtal import command_line
from jaxtal.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run, the model.")
_EXPORTED = flags.DEFINE_string("exported", None, "Instead: a file that jaxtal.export wrote.")
_MEMBER = flags.DEFINE_integer("member", None, "Which member of a population, counted from 0.")
_FEATURES = flags.DEFINE_string("features", None, "A .npy file, a folder, or a data set.")
_OUTPUT = flags.DEFINE_string("output", "detections.json", "JSON file in ActivityNet form.")
_PLOTS = flags.DEFINE_string("plots", None, "Folder for a picture of each video.")
_PLOT_VIDEOS = flags.DEFINE_integer("plot_videos", 20, "How many videos are drawn at most.", 0)
_FPS = flags.DEFINE_float(
    "fps", 0, "Frames per second of the videos; default: what the data set says, or the model."
)
_STRIDE = flags.DEFINE_float("stride", 0, "Frames from one snippet to the next; default likewise.")
_WINDOW = flags.DEFINE_float(
    "window", 0, "Frames that a snippet is computed from; default likewise."
)
_SKIP_DAMAGED = flags.DEFINE_bool(
    "skip_damaged", False, "Leave out, with a warning, videos whose features cannot be used."
)
_COMPILED = flags.DEFINE_string(
    "compiled",
    None,
    "Folder for compiled programs; default: jaxtal/ in the user's cache folder, or "
    "JAX_COMPILATION_CACHE_DIR; '' keeps none.",
)


def predict(
    predictor,
    features: Path,
    output: Path,
    times: tuple[float, float, float] = (0, 0, 0),
    plots: Path | None = None,
    plot_videos: int = 20,
    skip_damaged: bool = False,
) -> None:
    """Write the detections in all videos of `features`.

    Args:
        predictor: a `jaxtal.predictor.Predictor`.
        features: see above.
        output: the JSON file.
        times: fps, stride and window of the features; 0 for what the data set or the model says.
        plots: folder for pictures.
        plot_videos: how many of the first videos, as `features` lists them, are drawn.
        skip_damaged: leave out what cannot be used.

    Raises:
        UserError: nothing has been written then but pictures.
    """
    from jaxtal import console
    from jaxtal.data import detections, json_files

    start = time.perf_counter()
    videos, grid, whose = _videos(predictor, features, times, skip_damaged)
    console.say(
        f"{predictor.method}, {len(predictor.classes)} classes, on {len(videos)} videos of "
        f"{grid.fps:g} fps, stride {grid.stride:g}, window {grid.window:g} ({whose})"
    )
    draw = _drawing(predictor, plots, {video.name for video in videos[:plot_videos]})
    with console.counting("predicting", len(videos)) as advance:

        def watch(found) -> None:
            draw(found)
            advance()

        names, found = predictor.predict(videos, grid, skip_damaged, watch)
    json_files.write(output, detections.to_json(found, names, predictor.classes))
    console.say(
        f"{len(found)} detections in {len(names)} videos are in {output}; "
        f"{time.perf_counter() - start:.1f} s"
    )


def _videos(predictor, path: Path, times, skip_damaged: bool):
    """Videos with features, their time grid, and whose that is."""
    from jaxtal.data import layouts, unannotated

    reads: list[Callable]
    if layouts.recognise(path):
        source = layouts.read(path, fps=times[0], stride=times[1], window=times[2])
        missing = {*source.declared_missing}
        wanted = [video for video in source.videos if video.name not in missing]
        reads = [partial(_annotated, source, video) for video in wanted]
        grid = source.dataset.grid
        whose = "the data set's" if source.states_grid else f"assumed for {source.layout}"
    else:
        reads = [partial(unannotated.stored, *files) for files in unannotated.find(path)]
        grid, whose = predictor.grid.replaced(*times), "the training data's"
    return _usable(path, reads, skip_damaged), grid, "given" if any(times) else whose


def _usable(path: Path, reads: list[Callable], skip_damaged: bool) -> list:
    from jaxtal.predictor import unless_damaged

    found = [unless_damaged(read, skip_damaged) for read in reads]
    videos = [video for video in found if video is not None]
    if not videos:
        raise UserError(f"{path}: no video that can be used; the warnings above say why")
    return videos


def _annotated(source, video):
    """An annotated video's features; read once for their length, which no annotation says."""
    from jaxtal.data.unannotated import Stored

    def read():
        return source.read(video).features

    return Stored(video.name, read().shape, read, f"{source.path}, video {video.name}", video.fps)


def _drawing(predictor, folder: Path | None, names: set[str]) -> Callable:
    """A function that draws what was found in a video, if it is among `names`."""
    if folder is None:
        return lambda found: None
    from jaxtal import plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--plots={folder}: cannot be created ({error.strerror})") from None

    def draw(found) -> None:
        if found.video.name in names and found.outputs:
            figure = plots.draw_found(found, predictor.recipe, predictor.classes)
            plots.save(figure, folder / f"{found.video.name}.png")

    return draw


def _load():
    """The predictor that the flags name."""
    if bool(_WORKDIR.value) == bool(_EXPORTED.value):
        raise UserError("give either --workdir, of a run, or --exported, a file of jaxtal.export")
    if _WORKDIR.value:
        from jaxtal import restored

        return restored.load(Path(_WORKDIR.value), _MEMBER.value)
    if _MEMBER.value is not None:
        raise UserError("--member is for --workdir; an exported file holds one model")
    from jaxtal import exported  # and neither flax nor the methods' modules

    return exported.load(Path(command_line.required(_EXPORTED)))


def _run(_: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # orbax tells a page for every checkpoint
    try:
        features = Path(command_line.required(_FEATURES))
        output = Path(command_line.required(_OUTPUT))
        command_line.check_outputs([_OUTPUT], [features, Path(_EXPORTED.value or features)])
        command_line.keep_compiled(_COMPILED.value)
        plots = Path(_PLOTS.value) if _PLOTS.value else None
        times = _FPS.value, _STRIDE.value, _WINDOW.value
        skip = _SKIP_DAMAGED.value
        predict(_load(), features, output, times, plots, _PLOT_VIDEOS.value, skip)
    except UserError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
