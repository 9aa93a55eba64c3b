"""Data sets: read from disk in one of the field's layouts, or generated."""

from pathlib import Path

from jaxtal.data import activitynet, synthetic, wtalc
from jaxtal.data.dataset import Dataset
from jaxtal.errors import UserError


def load(config) -> Dataset:
    """The data set that ``config.data`` names.

    An empty ``config.data.dir`` is the embedded generator with the fields of
    ``config.data.generator``.
    """
    if config.dir:
        return wtalc.read(Path(config.dir), config.name)
    if "generator" not in config:
        raise UserError(
            "config.data.dir is empty, which means generated videos, but this config has no "
            "config.data.generator; give a folder, or take configs/co2net_demo.py"
        )
    return synthetic.generate(synthetic.SyntheticConfig(**config.generator))


def annotations(path: Path) -> Dataset:
    """Videos without features, from an ActivityNet-form JSON file or a W-TALC annotation folder.

    Args:
        path: the file; the folder <DS>-Annotations, or one that holds a single such folder.

    Raises:
        UserError: it is neither, or something in it is missing or wrong.
    """
    if not path.is_dir():
        return activitynet.read(path, training=False)
    ending = "-Annotations"
    folders = [path] if path.name.endswith(ending) else sorted(path.glob(f"*{ending}"))
    if len(folders) != 1:
        raise UserError(
            f"{path} holds {len(folders)} folders <DS>{ending}; wanted such a folder (W-TALC "
            "layout) or a JSON file (ActivityNet form)"
        )
    return wtalc.read(folders[0].parent, folders[0].name.removesuffix(ending), features=False)
