"""The layouts in which the field's data sets lie on disk: which it is, and reading it.

| name | programs |
|---|---|
| `wtalc` | W-TALC, CO2-Net, D2-Net and many others: `jaxtal/data/layouts/wtalc.py` |
| `hamnet` | HAM-Net: the same and `gt.json`: `jaxtal/data/layouts/wtalc.py` |
| `basnet`, `acmnet`, `actionformer`, `opentad` | one file per video: `layouts/per_video.py` |
| `activitynet` | annotations alone, a JSON file: `jaxtal/data/activitynet.py` |
| `tfds` | prepared by `jaxtal data prepare`: `jaxtal/data/tfds/reader.py` |
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxtal.data import activitynet, synthetic
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.io.files import check_name
from jaxtal.data.layouts import manifest, per_video, wtalc
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.tfds import reader
from jaxtal.errors import DataError, JaxtalError, short_repr

Times = tuple[float, float, float]


class Layout(NamedTuple):
    """A layout's reader.

    Attributes:
        recognizes: (folder or file) -> bool.
        read: (folder or file, name of the data set or "", whether features are wanted, None for if
            there are any, the fps, stride and window that the user says) -> LazyDataset.
    """

    recognizes: Callable[[Path], bool]
    read: Callable[[Path, str, bool | None, Times], LazyDataset]


def _wtalc(path: Path, name: str, features: bool | None, _: Times) -> LazyDataset:
    return wtalc.source(*wtalc.locate(path, name), features)


def _hamnet(path: Path, name: str, features: bool | None, _: Times) -> LazyDataset:
    return wtalc.hamnet_source(path, name, features)


def _activitynet(path: Path, name: str, features: bool | None, _: Times) -> LazyDataset:
    if features:
        raise DataError(f"{path}: annotations only; wanted a folder with features")
    reading = activitynet.ReadOptions(training=False, ambiguous="Ambiguous")
    file = path / f"{manifest.name(path)}.json" if path.is_dir() else path
    dataset, has_time_grid = activitynet.read_as(file, reading)
    return LazyDataset("activitynet", path, dataset, has_time_grid=has_time_grid)


def _prepared(path: Path, name: str, features: bool | None, _: Times) -> LazyDataset:
    return reader.read(path, name, features is not False)


# The first that recognizes a folder reads it.
LAYOUTS: dict[str, Layout] = {
    "hamnet": Layout(wtalc.detects_hamnet, _hamnet),
    "wtalc": Layout(lambda path: bool(wtalc.find(path)), _wtalc),
}
for _convention in per_video.LAYOUT_SPECS:
    LAYOUTS[_convention.name] = Layout(
        functools.partial(per_video.recognizes, _convention),
        functools.partial(per_video.source, _convention),
    )
LAYOUTS["tfds"] = Layout(reader.detect, _prepared)
LAYOUTS["activitynet"] = Layout(lambda path: path.suffix == ".json", _activitynet)


def detect(path: str | os.PathLike[str]) -> str:
    """The name of the layout of a folder or file; "" if it is none."""
    path = Path(path)
    if stated := manifest.layout(path):
        return stated
    if path.is_file():
        return "activitynet" if path.suffix == ".json" else ""
    return next((name for name, layout in LAYOUTS.items() if layout.recognizes(path)), "")


def read(
    path: str | os.PathLike[str],
    layout: str = "",
    name: str = "",
    fps: float = 0,
    stride: float = 0,
    window: float = 0,
    features: bool | None = True,
) -> LazyDataset:
    """The data set in a folder or file.

    Args:
        path: of it.
        layout: its layout; "": the one that is recognized.
        name: of the data set, where there may be several; "": what the files say.
        fps, stride, window: the features' time grid; 0: what the files say, or else what the
            layout's programs assume. See `TimeGrid`.
        features: wanted; None: if there are any; False: annotations only.

    Raises:
        DataError: no layout is recognized, or something is missing, malformed or contradictory.
    """
    path = Path(path)
    if layout and layout not in LAYOUTS:
        raise DataError(f"no layout is called {layout!r}; it is one of {', '.join(LAYOUTS)}")
    if layout != "activitynet" and not path.exists():  # else it is said which file is wanted
        raise DataError(f"{path}: no such file or folder")
    chosen = layout or detect(path)
    if not chosen:
        raise DataError(_undetected(path))
    if chosen not in LAYOUTS:
        raise DataError(
            f"{path / manifest.NAME}: layout {short_repr(chosen)}; wanted one of "
            f"{', '.join(LAYOUTS)}"
        )
    if name and chosen != "tfds":
        check_name(name, "the name of the data set")
    try:
        source = LAYOUTS[chosen].read(path, name, features, (fps, stride, window))
    except OSError as error:  # folders that cannot be listed, names that are too long
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    source = dataclasses.replace(source, layout=chosen)
    if name and chosen != "tfds":
        source = dataclasses.replace(source, dataset=dataclasses.replace(source.dataset, name=name))
    source = manifest.apply(source)
    return _with_grid(source, fps, stride, window)


def _with_grid(source: LazyDataset, fps: float, stride: float, window: float) -> LazyDataset:
    """The source on the time grid that was asked for, as far as it was."""
    grid = source.dataset.grid.replaced(fps, stride, window)
    if not (fps or stride or window):
        return source
    dataset = dataclasses.replace(source.dataset, grid=grid)
    if fps:
        dataset = dataset.map(lambda video: dataclasses.replace(video, fps=None))
    return dataclasses.replace(source, dataset=dataset, has_time_grid=True)


def _undetected(path: Path) -> str:
    return (
        f"{path}: no data set is recognized; looked for <DS>-Annotations/ and "
        "<DS>-I3D-JOINTFeatures.npy (W-TALC, HAM-Net), gt.json with features/ or train/ and test/ "
        "(BaSNet, ACM-Net), annotations/*.json with *_features/ or features/ (ActionFormer, "
        "OpenTAD), a prepared TFDS data set, a JSON file in ActivityNet form; the layout can be "
        "forced"
    )


def load_dataset(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    name: str | None = None,
    time_grid: TimeGrid | None = None,
    features: bool = True,
    skip_damaged: bool = False,
) -> Dataset:
    """Read a data set in one of the layouts in which the field's data sets are passed on.

    Args:
        path: the folder; or, with `features=False`, a JSON file of annotations in ActivityNet form.
        layout: one of `jaxtal.data.layouts.LAYOUTS`; None: the one that is detected.
        name: of the data set, where a folder holds several; None: what its files say.
        time_grid: of the features; None: what the files state, or else what the programs that
            read the layout assume.
        features: read all features into memory; False: annotations only.
        skip_damaged: leave out, with a warning, videos whose features cannot be used.

    Raises:
        ConfigError: there is no such layout.
        DataError: no layout is detected; something is missing, damaged or contradictory.
    """
    path = Path(path)
    times = (0.0, 0.0, 0.0) if time_grid is None else time_grid.times
    if path.is_dir() and path.name.endswith("-Annotations") and not features and not name:
        path, name = wtalc.locate(path, "")
    source = read(path, layout or "", name or "", *times, features=features)
    return source.load(skip_damaged) if features else source.dataset


def load_from_config(config) -> Dataset:
    """The data set that ``config.data`` names, with all features.

    An empty ``config.data.dir`` means generated videos, those of ``config.data.generator``.
    """
    if not config.dir:
        if not config.get("generator"):
            raise DataError(
                "config.data.dir is empty, which means generated videos, but this config has no "
                "config.data.generator; give a folder, or a generator such as demo"
            )
        return synthetic.generate(synthetic.parse(config.generator))
    path, layout = Path(config.dir), config.get("layout", "")
    layout = layout or detect(path) or "wtalc"  # whose error names the files that it looked for
    grid = {name: config.get(name, 0) for name in ("fps", "stride", "window")}
    try:
        source = read(path, layout, config.name or "", **grid)
        return source.load(config.get("skip_damaged", False), "config.data.skip_damaged")
    except JaxtalError as error:
        raise DataError(f"{error} (config.data)") from None


def load_annotations(path: str | os.PathLike[str]) -> Dataset:
    """Videos without features, from a JSON file in ActivityNet form or a data set in any layout.

    Args:
        path: the file; the folder, or a W-TALC folder <DS>-Annotations itself.

    Raises:
        DataError: it is neither, or something in it is missing or wrong.
    """
    path = Path(path)
    if path.is_dir() and path.name.endswith("-Annotations"):
        folder, name = wtalc.locate(path, "")
        return read(folder, name=name, features=False).dataset
    if path.is_dir() and not detect(path):
        wtalc.locate(path, "")  # which says what is missing
    return read(path, "" if path.is_dir() else "activitynet", features=False).dataset
