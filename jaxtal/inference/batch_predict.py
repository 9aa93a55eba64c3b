"""Predict the videos of a folder, write their detections to a file, and draw some of them."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtal.data import inputs
from jaxtal.data.dataset import TimeGrid
from jaxtal.errors import DataError
from jaxtal.inference.model import Model, VideoPrediction, skip_if_damaged

_LOG = logging.getLogger(__name__)

# (what is done, how many) -> a context that yields advance(): a progress bar.
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def no_progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


def predict(
    model: Model,
    features: str | os.PathLike[str],
    output: str | os.PathLike[str],
    times: tuple[float, float, float] = (0, 0, 0),
    plots: str | os.PathLike[str] | None = None,
    plot_videos: int = 20,
    skip_damaged: bool = False,
    layout: str = "",
    name: str = "",
    progress: Progress = no_progress,
) -> None:
    """Write the detections in all videos of `features`.

    Args:
        model: as `load_model` returns it.
        features: a file, a folder or a data set, see `inputs.in_path`.
        output: the JSON file.
        times: fps, stride and window of the features; 0 for what the data set or the model says.
        plots: folder for pictures.
        plot_videos: how many of the first videos, as `features` lists them, are drawn.
        skip_damaged: leave out what cannot be used.
        layout: of a data set; "" for the one that is recognized, if any.
        name: of a data set; "" for what its files say.
        progress: makes a context that shows the progress, see `console.progress_bar`.

    Raises:
        DataError: nothing has been written then but pictures.
    """
    start = time.perf_counter()
    features, output = Path(features), Path(output)
    reads, grid, origin = inputs.in_path(features, model.time_grid, times, layout, name)
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
    found = [skip_if_damaged(read, skip_damaged) for read in reads]
    videos = [video for video in found if video is not None]
    if not videos:
        raise DataError(f"{path}: no video that can be used; the warnings above say why")
    return videos


def _drawing(
    model: Model, where: str | os.PathLike[str] | None, names: set[str]
) -> Callable[[VideoPrediction], None]:
    """Return a function that draws what was found in a video, if it is among `names`."""
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
