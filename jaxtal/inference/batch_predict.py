"""Prediction of a folder of videos: detections to a file, and figures."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtal.data import inputs
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.errors import DataError
from jaxtal.inference.model import Model, VideoPrediction, read_usable

_LOG = logging.getLogger(__name__)

# (description, total) -> a context that yields advance(): a progress bar.
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def no_progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Make a progress context that prints nothing."""
    yield lambda: None


def predict(
    model: Model,
    features: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ReadingOptions = NOTHING_STATED,
    plots: str | os.PathLike[str] | None = None,
    plot_videos: int = 20,
    skip_damaged: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Detect actions in all videos of a path and write the detections to a JSON file.

    Args:
        model: A trained model, as returned by `load_model`.
        features: A file VIDEO.npy, a folder of such files, or a data set, see `inputs.in_path`.
        output: JSON file to write, in ActivityNet form, times in seconds.
        options: Statements of the user about the features; defaults are those of the data set or
            the model.
        plots: Folder for one figure per video; None for no figures.
        plot_videos: Number of videos to plot, the first ones in the order of `features`.
        skip_damaged: Skip videos that cannot be used, with a warning, instead of raising.
        progress: Function that makes a progress context, see `console.progress_bar`.

    Raises:
        DataError: Features are missing or invalid, or a file cannot be written. Figures may have
            been written, detections have not.
    """
    start = time.perf_counter()
    features, output = Path(features), Path(output)
    reads, grid, origin = inputs.in_path(features, model.time_grid, options)
    videos = _usable(features, reads, skip_damaged)
    _log_videos(model, videos, grid, origin)
    draw = _drawing(model, plots, {video.name for video in videos[:plot_videos]})
    with progress("predicting", len(videos)) as advance:

        def callback(found: VideoPrediction) -> None:
            draw(found)
            advance()

        detections = model.predict(
            videos, time_grid=grid, skip_damaged=skip_damaged, callback=callback
        )
    detections.to_json(output)
    _LOG.info(
        "%d detections in %d videos are in %s; %.1f s",
        len(detections),
        len(detections.videos),
        output,
        time.perf_counter() - start,
    )


def _log_videos(model: Model, videos: list, grid: TimeGrid, origin: str) -> None:
    own = sum(video.fps is not None for video in videos)
    _LOG.info(
        "%s, %d classes, on %d videos of %g fps%s, stride %g, window %g (%s)",
        model.method,
        len(model.classes),
        len(videos),
        grid.fps,
        f" ({own} videos have their own)" if own else "",
        grid.stride,
        grid.window,
        origin,
    )


def _usable(path: Path, reads: list[Callable], skip_damaged: bool) -> list:
    videos = [video for video in read_usable(reads, skip_damaged) if video is not None]
    if not videos:
        raise DataError(f"{path}: no usable video; see the warnings above")
    return videos


def _drawing(
    model: Model, where: str | os.PathLike[str] | None, names: set[str]
) -> Callable[[VideoPrediction], None]:
    """Return a function that plots the prediction of a video, if `names` contains it."""
    if where is None:
        return lambda found: None
    folder = Path(where)
    from jaxtal.visualization.plots import draw_found, save

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"plots={folder}: cannot be created ({error.strerror})") from None

    def draw(found: VideoPrediction) -> None:
        if found.video.name in names and found.outputs:
            figure = draw_found(found, model.score_spec, model.classes)
            save(figure, folder / f"{found.video.name}.png")

    return draw
