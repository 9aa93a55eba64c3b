"""Data sets: read from disk in one of the field's layouts, or generated."""

from pathlib import Path

from jaxtal.data import layouts, synthetic
from jaxtal.data.dataset import Dataset
from jaxtal.data.layouts import wtalc
from jaxtal.data.synthetic.config import SyntheticConfig
from jaxtal.errors import DataError, JaxtalError


def load(config) -> Dataset:
    """The data set that ``config.data`` names, with all features.

    An empty ``config.data.dir`` is the embedded generator with the fields of
    ``config.data.generator``.
    """
    if not config.dir:
        if "generator" not in config:
            raise DataError(
                "config.data.dir is empty, which means generated videos, but this config has no "
                "config.data.generator; give a folder, or take configs/co2net_demo.py"
            )
        return synthetic.generate(SyntheticConfig(**config.generator))
    path, layout = Path(config.dir), config.get("layout", "")
    if not layout and not layouts.detect(path):
        layout = "wtalc"  # which says what it looked for
    grid = {name: config.get(name, 0) for name in ("fps", "stride", "window")}
    try:
        source = layouts.read(path, layout, config.name or "", **grid)
        return source.load(config.get("skip_damaged", False))
    except JaxtalError as error:
        raise DataError(f"{error} (config.data)") from None


def annotations(path: Path) -> Dataset:
    """Videos without features, from a JSON file in ActivityNet form or a data set in any layout.

    Args:
        path: the file; the folder, or a W-TALC folder <DS>-Annotations itself.

    Raises:
        DataError: it is neither, or something in it is missing or wrong.
    """
    if path.is_dir() and path.name.endswith("-Annotations"):
        folder, name = wtalc.locate(path, "")
        return layouts.read(folder, name=name, features=False).dataset
    if path.is_dir() and not layouts.detect(path):
        wtalc.locate(path, "")  # which says what is missing
    return layouts.read(path, "" if path.is_dir() else "activitynet", features=False).dataset
