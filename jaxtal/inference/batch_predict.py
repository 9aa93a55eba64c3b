"""Predicting a folder: what `python -m jaxtal.predict` does."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jaxtal.data import detections, layouts
from jaxtal.data.io import feature_files, json_files
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.errors import DataError
from jaxtal.inference.model import skip_if_damaged
from jaxtal.visualization import console


def predict(
    predictor,
    features: Path,
    output: Path,
    times: tuple[float, float, float] = (0, 0, 0),
    plots: Path | None = None,
    plot_videos: int = 20,
    skip_damaged: bool = False,
    layout: str = "",
    name: str = "",
) -> None:
    """Write the detections in all videos of `features`.

    Args:
        predictor: a `jaxtal.inference.model.Model`.
        features: a file, a folder or a data set, see `jaxtal/predict.py`.
        output: the JSON file.
        times: fps, stride and window of the features; 0 for what the data set or the model says.
        plots: folder for pictures.
        plot_videos: how many of the first videos, as `features` lists them, are drawn.
        skip_damaged: leave out what cannot be used.
        layout: of a data set; "" for the one that is recognized, if any.
        name: of a data set; "" for what its files say.

    Raises:
        DataError: nothing has been written then but pictures.
    """
    start = time.perf_counter()
    reads, grid, whose = _videos(predictor, features, times, layout, name)
    videos = _usable(features, reads, skip_damaged)
    own = sum(video.fps is not None for video in videos)
    console.say(
        f"{predictor.method}, {len(predictor.classes)} classes, on {len(videos)} videos of "
        f"{grid.fps:g} fps{f' ({own} videos have their own)' * bool(own)}, stride "
        f"{grid.stride:g}, window {grid.window:g} ({whose})"
    )
    draw = _drawing(predictor, plots, {video.name for video in videos[:plot_videos]})
    with console.progress_bar("predicting", len(videos)) as advance:

        def watch(found) -> None:
            draw(found)
            advance()

        names, found = predictor.predict(videos, grid, skip_damaged, watch)
    json_files.write(output, detections.to_json(found, names, predictor.classes))
    console.say(
        f"{len(found)} detections in {len(names)} videos are in {output}; "
        f"{time.perf_counter() - start:.1f} s"
    )


def _videos(predictor, path: Path, times, layout: str, name: str):
    """Functions that return the videos with features, their time grid, and whose that is."""
    reads: list[Callable]
    if layout or layouts.detect(path):
        source = layouts.read(path, layout, name, *times)
        missing = {*source.declared_missing}
        wanted = [video for video in source.videos if video.name not in missing]
        reads = [partial(_annotated, source, video) for video in wanted]
        grid = source.dataset.grid
        whose = "the data set's" if source.has_time_grid else f"assumed for {source.layout}"
    elif name:
        raise DataError(
            f"--name={name}: {path} is not recognized as a data set; leave it out, or give --layout"
        )
    else:
        reads = [
            partial(feature_files.feature_file, *files)
            for files in feature_files.find_feature_files(path)
        ]
        grid, whose = predictor.grid.replaced(*times), "the training data's"
    given = [what for what, value in zip(("fps", "stride", "window"), times, strict=True) if value]
    return reads, grid, f"{', '.join(given)} given" if given else whose


def _usable(path: Path, reads: list[Callable], skip_damaged: bool) -> list:
    found = [skip_if_damaged(read, skip_damaged) for read in reads]
    videos = [video for video in found if video is not None]
    if not videos:
        raise DataError(f"{path}: no video that can be used; the warnings above say why")
    return videos


def _annotated(source, video):
    """An annotated video's features; read for their length too, unless the layout knows it."""

    def read():
        return source.read(video).features

    shape = source.snippets(video) if source.snippets else read().shape
    return FeatureFile(video.name, shape, read, f"{source.path}, video {video.name}", video.fps)


def _drawing(predictor, folder: Path | None, names: set[str]) -> Callable:
    """A function that draws what was found in a video, if it is among `names`."""
    if folder is None:
        return lambda found: None
    from jaxtal.visualization.plots import draw_found, save

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--plots={folder}: cannot be created ({error.strerror})") from None

    def draw(found) -> None:
        if found.video.name in names and found.outputs:
            figure = draw_found(found, predictor.recipe, predictor.classes)
            save(figure, folder / f"{found.video.name}.png")

    return draw
