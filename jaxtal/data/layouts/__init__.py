"""Detection and reading of the layouts in which the field's data sets are distributed.

| name | layout of |
|---|---|
| `wtalc` | W-TALC, CO2-Net, D2-Net and many others: `jaxtal/data/layouts/wtalc.py` |
| `hamnet` | HAM-Net, `wtalc` with a `gt.json`: `jaxtal/data/layouts/wtalc.py` |
| `basnet`, `acmnet`, `actionformer`, `opentad` | one file per video: `layouts/per_video.py` |
| `activitynet` | annotations only, a JSON file: `jaxtal/data/activitynet.py` |
| `tfds` | prepared by `jaxtal data prepare`: `jaxtal/data/tfds/reader.py` |
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxtal.data import activitynet, synthetic
from jaxtal.data import axes as feature_axes
from jaxtal.data.dataset import Dataset, TimeGrid, Video, with_seconds
from jaxtal.data.io.files import check_name
from jaxtal.data.layouts import manifest, per_video, wtalc
from jaxtal.data.lazy_dataset import LazyDataset, streams_of_dataset, with_streams
from jaxtal.data.reading import (
    FIELDS,
    NOTHING_STATED,
    ReadingOptions,
    from_keywords,
)
from jaxtal.data.tfds import reader
from jaxtal.errors import DataError, JaxtalError, short_repr, warn

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Layout(NamedTuple):
    """A layout's reader.

    Attributes:
        recognizes: (folder or file) -> bool, True if it has this layout.
        read: (path, features, options) -> LazyDataset. `features` is True to require features,
            False to omit them, None to use them if present.
    """

    recognizes: Callable[[Path], bool]
    read: Callable[[Path, bool | None, ReadingOptions], LazyDataset]


def _wtalc(path: Path, features: bool | None, options: ReadingOptions) -> LazyDataset:
    return wtalc.source(path, options.name, features, options)


def _hamnet(path: Path, features: bool | None, options: ReadingOptions) -> LazyDataset:
    return wtalc.hamnet_source(path, features, options)


def _activitynet(path: Path, features: bool | None, options: ReadingOptions) -> LazyDataset:
    if features:
        raise DataError(f"{path}: annotations only; wanted a folder with features")
    how = activitynet.ReadOptions(options, ambiguous="Ambiguous")
    file = path / f"{manifest.name(path)}.json" if path.is_dir() else path
    found = activitynet.read_as(file, how)
    return LazyDataset(
        "activitynet",
        path,
        found.dataset,
        has_time_grid=found.has_time_grid,
        unused={subset: len(names) for subset, names in found.unused.items()},
    )


def _prepared(path: Path, features: bool | None, options: ReadingOptions) -> LazyDataset:
    refuse(options, _OF_FILES, f"{path} is prepared, from files read without it; prepare it again")
    return reader.read(path, options.name, features is not False)


_SUBSETS = ("train_subset", "validation_subset", "test_subset")
_OF_FEATURES = ("axes", "streams", "stream_widths", "modality", "time")
_OF_FILES = ("unit", "annotation_fps", "axes", *_SUBSETS)


def refuse(options: ReadingOptions, names: Iterable[str], why: str) -> None:
    """Raise DataError for statements that cannot have an effect.

    Args:
        options: statements of the user.
        names: fields of `options` that cannot have one.
        why: the reason, for the message.
    """
    for name in names:
        if (value := getattr(options, name)) != getattr(NOTHING_STATED, name):
            raise DataError(f"{name}={value} has no effect: {why}; omit it")


# In the order of detection: the first layout that recognizes a folder is used.
LAYOUTS: dict[str, Layout] = {
    "hamnet": Layout(wtalc.detects_hamnet, _hamnet),
    "wtalc": Layout(lambda path: bool(wtalc.find(path)), _wtalc),
}
for _spec in per_video.LAYOUT_SPECS:
    LAYOUTS[_spec.name] = Layout(
        functools.partial(per_video.recognizes, _spec),
        functools.partial(per_video.source, _spec),
    )
LAYOUTS["tfds"] = Layout(reader.detect, _prepared)
LAYOUTS["activitynet"] = Layout(lambda path: path.suffix == ".json", _activitynet)


def detect(path: str | os.PathLike[str]) -> str:
    """Detect the layout of a data set.

    Args:
        path: the folder or file.

    Returns:
        The layout in the folder's jaxtal.json, or a key of `LAYOUTS`; "" if no layout matches. If
        only one folder in the folder has a layout, that one's.

    Raises:
        DataError: the folder's jaxtal.json is malformed, or two folders in it are data sets.
    """
    return _located(Path(path))[1]


def _located(path: Path, stated: str = "") -> tuple[Path, str]:
    """Return folder and layout of the data set in a path, which may be one level deeper.

    Args:
        path: the folder or file.
        stated: the layout; "": detect it.
    """
    if found := _own_layout(path, stated):
        return path, found
    try:
        folders = sorted(inner for inner in path.glob("*/") if not inner.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    inside = [(inner, found) for inner in folders if (found := _own_layout(inner, stated))]
    if len(inside) > 1:
        raise DataError(
            f"{path}: {len(inside)} data sets in it, {inside[0][0].name} and {inside[1][0].name}; "
            "give the folder of one of them"
        )
    return inside[0] if inside else (path, stated)


def _own_layout(path: Path, stated: str) -> str:
    if stated:
        return stated if stated in LAYOUTS and LAYOUTS[stated].recognizes(path) else ""
    if os.path.lexists(path / manifest.NAME) and (stated := manifest.layout(path)):
        return stated
    if path.is_file():
        return "activitynet" if path.suffix == ".json" else ""
    return next((name for name, layout in LAYOUTS.items() if layout.recognizes(path)), "")


def read(
    path: str | os.PathLike[str],
    options: ReadingOptions = NOTHING_STATED,
    *,
    features: bool | None = True,
    **changes: Any,
) -> LazyDataset:
    """Read the annotations of a data set, and prepare reading of its features.

    The time grid, see `TimeGrid`, is the one in the files by default. If they have none, it is the
    one that programs which read the layout assume.

    Args:
        path: the folder or file.
        options: statements of the user about the data set.
        features: True: require features; None: use them if present; False: annotations only.
        **changes: fields of `options` to replace, e.g. ``fps=30``.

    Returns:
        The data set, whose features are read on demand.

    Raises:
        DataError: no layout is detected, or files are missing, malformed or contradictory.
    """
    path, options = Path(path), dataclasses.replace(options, **changes)
    layout, name = options.layout, options.name
    if layout and layout not in LAYOUTS:
        raise DataError(f"unknown layout {layout!r}; wanted one of {', '.join(LAYOUTS)}")
    if layout != "activitynet" and not path.exists():  # that layout's error names its file
        raise DataError(f"{path}: no such file or folder")
    if options.axes != feature_axes.DEFAULT:
        feature_axes.check(options.axes)
    given, (path, chosen) = path, _located(path, layout)
    if not chosen:
        raise DataError(_undetected(path))
    if chosen not in LAYOUTS:
        raise DataError(
            f"{path / manifest.NAME}: layout {short_repr(chosen)}; wanted one of "
            f"{', '.join(LAYOUTS)}"
        )
    if name and chosen != "tfds":
        check_name(name, "the name of the data set")
    if options.verify == "always" or os.path.lexists(path / manifest.NAME):
        manifest.check_annotations(path, options.verify)
    try:
        source = LAYOUTS[chosen].read(path, features, options)
    except OSError as error:  # folders that cannot be listed, names that are too long
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    deeper = (f"the data set is in {path.name}, the only one in {given}",) * (path != given)
    source = dataclasses.replace(source, layout=chosen, notes=(*deeper, *source.notes))
    if name and chosen != "tfds":
        source = dataclasses.replace(source, dataset=dataclasses.replace(source.dataset, name=name))
    if os.path.lexists(source.path / manifest.NAME):
        source = manifest.apply(source, options.verify)
    source = _with_times(_with_grid(source, options), options)
    return with_streams(source, options) if _states_streams(options) else source


def _states_streams(options: ReadingOptions) -> bool:
    return bool(options.streams != 2 or options.stream_widths or options.modality)


def _with_grid(source: LazyDataset, options: ReadingOptions) -> LazyDataset:
    """Return the source with the numbers of its time grid that are not 0 replaced."""
    if not any((options.fps, options.stride, options.window)):
        return source
    return dataclasses.replace(
        source, dataset=_on_grid(source.dataset, options), has_time_grid=True
    )


def _on_grid(dataset: Dataset, options: ReadingOptions) -> Dataset:
    """Return the data set with the numbers of its time grid that are not 0 replaced."""
    grid = dataset.grid.replaced(options.fps, options.stride, options.window)
    if options.fps:
        dataset = dataset.map(lambda video: dataclasses.replace(video, fps=None))
    return dataclasses.replace(dataset, grid=grid)


def _with_times(source: LazyDataset, options: ReadingOptions) -> LazyDataset:
    """Return the source with its time grid as `options.time` states."""
    if options.time != "rescaled" or not source.snippets:
        return source
    dataset = _rescaled(source.dataset, functools.partial(_length, source))
    return dataclasses.replace(source, dataset=dataset, has_time_grid=True)


def _length(source: LazyDataset, video: Video) -> int:
    """Return the length of a video in snippets, 0 if its features cannot be used."""
    if source.snippets is None or video.name in source.missing:
        return 0
    try:
        return source.snippets(video)[0]
    except JaxtalError:  # reading the features reports the damage
        return 0


def _rescaled(dataset: Dataset, length_of: Callable[[Video], int]) -> Dataset:
    """Return the data set with the frame rates at which snippets divide durations evenly."""
    grid = dataclasses.replace(dataset.grid, window=dataset.grid.stride)
    lengths = {video.name: length_of(video) for video in dataset.videos}
    if len(known := {length for length in lengths.values() if length}) > 1:
        warn(
            f"{dataset.name}: time=rescaled, but the videos have {min(known)} to {max(known)} "
            "snippets, so that they were not rescaled to one number; state their time grid instead"
        )

    def rescale(video: Video) -> Video:
        length = lengths[video.name]
        return dataclasses.replace(video, fps=length * grid.stride / video.duration or video.fps)

    return dataclasses.replace(dataset.map(rescale), grid=grid)


def _undetected(path: Path) -> str:
    return (
        f"{path}: no data set is detected; looked for <DS>-Annotations/ and "
        "<DS>-I3D-JOINTFeatures.npy (W-TALC, HAM-Net), gt.json with features/ or train/ and test/ "
        "(BaSNet, ACM-Net), annotations/*.json with *_features/ or features/ (ActionFormer, "
        "OpenTAD), a prepared TFDS data set, a JSON file in ActivityNet form; add the missing "
        "files, or give the layout"
    )


def load_dataset(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    name: str | None = None,
    time_grid: TimeGrid | None = None,
    features: bool = True,
    skip_damaged: bool = False,
    **options: Any,
) -> Dataset:
    """Read a data set in one of the layouts in which the field's data sets are distributed.

    Args:
        path: the folder; with `features=False` also a JSON file of annotations in ActivityNet form.
        layout: one of `jaxtal.data.layouts.LAYOUTS`; None: detect it.
        name: name of the data set, needed if a folder contains several; None: the name in its
            files.
        time_grid: time grid of the features; None: the one in the files, or if they have none, the
            one that programs which read the layout assume.
        features: read all features into memory; False: annotations only.
        skip_damaged: skip videos whose features cannot be used, with a warning.
        **options: further fields of `jaxtal.data.reading.ReadingOptions`: `time`, `unit`, `axes`,
            `streams`, `stream_widths`, `modality`, `train_subset`, `validation_subset` and
            `test_subset`, as in the section `data` of a config.

    Returns:
        The data set, with times in seconds and (T, 2D) features, RGB first.

    Raises:
        DataError: the layout is unknown or none is detected, or files are missing, damaged or
            contradictory.
    """
    path = Path(path)
    if path.is_dir() and path.name.endswith("-Annotations") and not features and not name:
        path, name = wtalc.locate(path, "")
    stated = from_keywords("load_dataset", time_grid, **options)
    source = read(path, stated, features=features, layout=layout or "", name=name or "")
    return source.load(skip_damaged) if features else source.bare


def load_from_config(config: "ConfigDict") -> Dataset:
    """Return the data set that a config describes, with all features in memory.

    Args:
        config: the field ``data`` of a config. An empty ``dir`` selects the generated videos of
            ``generator``.

    Returns:
        The data set, with (T, 2D) features, RGB first.

    Raises:
        DataError: the data set is missing, malformed or contradictory.
    """
    if not config.dir:
        if not config.get("generator"):
            raise DataError(
                "config.data.dir is empty, which means generated videos, but this config has no "
                "config.data.generator; give a folder, or a generator such as demo"
            )
        dataset = synthetic.generate(synthetic.parse(config.generator))
        return in_memory_from_config(
            dataset, config, "the videos are generated (config.data.generator)"
        )
    try:
        source = read_from_config(config)
        return source.load(config.get("skip_damaged", False), "config.data.skip_damaged")
    except JaxtalError as error:
        raise DataError(f"{error} (config.data)") from None


def in_memory(dataset: Dataset, options: ReadingOptions, why: str) -> Dataset:
    """Return a data set in memory with the times and the streams that the user states.

    Args:
        dataset: data set, with features unless streams are stated.
        options: statements of the user.
        why: the reason why those about files have no effect, for the message.

    Raises:
        DataError: an option has no effect, or contradicts the width of the features.
    """
    refuse(options, ("layout", "axes", *_SUBSETS), why)
    if options.unit != "seconds":
        rate = options.annotation_fps or options.fps
        dataset = dataset.map(
            lambda video: with_seconds(
                video, rate or video.fps or float(dataset.grid.fps), options.unit
            )
        )
    dataset = _on_grid(dataset, options)
    if options.time == "rescaled":
        dataset = _rescaled(dataset, lambda video: len(video.features))
    return streams_of_dataset(dataset, options) if _states_streams(options) else dataset


def in_memory_from_config(dataset: Dataset, config: "ConfigDict", why: str) -> Dataset:
    """Return a data set in memory with the times and the streams that a config states.

    Args:
        dataset: data set with features.
        config: the field ``data`` of a config.
        why: as for `in_memory`.

    Raises:
        DataError: as for `in_memory`.
    """
    try:
        return in_memory(dataset, _options(config), why)
    except DataError as error:
        raise DataError(f"{error} (config.data)") from None


def read_from_config(config: "ConfigDict", features: bool = True) -> LazyDataset:
    """Return the data set in the folder that a config names.

    Args:
        config: the field ``data`` of a config, with ``dir``.
        features: also find the features; they are read later, video by video.

    Raises:
        DataError: the data set is missing, malformed or contradictory.
    """
    path, options = Path(config.dir), _options(config)
    layout = options.layout or detect(path)
    if not layout and any(path.glob("*-Annotations")):
        layout = "wtalc"  # its reader's error lists files
    return read(path, options, layout=layout, features=features)


def _options(config: "ConfigDict") -> ReadingOptions:
    """Return the options in the field ``data`` of a config."""
    known: dict[str, Any] = {}
    for name in FIELDS:
        if name in config:
            known[name] = tuple(config[name]) if isinstance(config[name], list) else config[name]
    return ReadingOptions(**known)


def load_annotations(
    path: str | os.PathLike[str], options: ReadingOptions = NOTHING_STATED
) -> Dataset:
    """Read videos without features, from a JSON file in ActivityNet form or any layout.

    Args:
        path: the file, the data set's folder, or a folder <DS>-Annotations of the W-TALC layout.
        options: statements of the user about the data set.

    Returns:
        The data set without features.

    Raises:
        DataError: no layout is detected, or files are missing, malformed or contradictory.
    """
    path = Path(path)
    refuse(options, _OF_FEATURES, f"features are not read from {path}")
    if path.is_dir() and path.name.endswith("-Annotations"):
        folder, name = wtalc.locate(path, options.name)
        return read(folder, options, name=name, features=False).bare
    if path.is_dir() and not options.layout and not detect(path):
        wtalc.locate(path, options.name)  # raises an error with the missing files
    layout = options.layout or ("" if path.is_dir() else "activitynet")
    return read(path, options, layout=layout, features=False).bare
