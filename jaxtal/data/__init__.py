"""Data sets: read from disk in one of the field's layouts, or generated."""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any

from jaxtal.data import layouts, synthetic
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.layouts import wtalc
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.errors import ConfigError, DataError, JaxtalError


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
    source = layouts.read(path, layout or "", name or "", *times, features=features)
    return source.load(skip_damaged) if features else source.dataset


def generate_dataset(*, seed: int = 0, num_classes: int = 10, **options: Any) -> Dataset:
    """Generate untrimmed videos with features, as the demo configs train on; nothing is read.

    Args:
        seed: everything is a function of it.
        num_classes: C.
        options: other fields of `jaxtal.data.synthetic.config.SyntheticConfig`, e.g. `num_train=20`,
            `feature_width=64`; by default those of the demos.

    Raises:
        ConfigError: there is no such option, or a value cannot be used.
    """
    known = [field.name for field in dataclasses.fields(SyntheticConfig)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            guess = f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(known)}"
            raise ConfigError(f"generate_dataset has no option {option!r}; {guess}")
    chosen = {"seed": seed, "num_classes": num_classes, **options}
    return synthetic.generate(dataclasses.replace(PRESETS["demo"], **chosen))


def load(config) -> Dataset:
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
    if not layout and not layouts.detect(path):
        layout = "wtalc"  # which says what it looked for
    grid = {name: config.get(name, 0) for name in ("fps", "stride", "window")}
    try:
        source = layouts.read(path, layout, config.name or "", **grid)
        return source.load(config.get("skip_damaged", False), "config.data.skip_damaged")
    except JaxtalError as error:
        raise DataError(f"{error} (config.data)") from None


def annotations(path: str | os.PathLike[str]) -> Dataset:
    """Videos without features, from a JSON file in ActivityNet form or a data set in any layout.

    Args:
        path: the file; the folder, or a W-TALC folder <DS>-Annotations itself.

    Raises:
        DataError: it is neither, or something in it is missing or wrong.
    """
    path = Path(path)
    if path.is_dir() and path.name.endswith("-Annotations"):
        folder, name = wtalc.locate(path, "")
        return layouts.read(folder, name=name, features=False).dataset
    if path.is_dir() and not layouts.detect(path):
        wtalc.locate(path, "")  # which says what is missing
    return layouts.read(path, "" if path.is_dir() else "activitynet", features=False).dataset
