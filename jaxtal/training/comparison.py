"""Comparison of a config and a data set with those of an earlier run in a work directory."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

from jaxtal.config import complete
from jaxtal.data.io import json_files
from jaxtal.errors import CheckpointError, short_repr

# The folder, the layout and the name only locate the data, which have a fingerprint of their own.
_MAY_DIFFER = (
    "train.steps",
    "train.epochs",
    "train.log_every",
    "train.tensorboard",
    "evaluation.plot_videos",
    "evaluation.save_activations",
    "profile",
    "data.dir",
    "data.layout",
    "data.name",
    "data.strict",
    "data.verify",
    "data.device_share",
    "mesh.member",
    "mesh.data",
    "mesh.features",
)
# Training reads none of these fields.
_OF_EVALUATION = re.compile(r"(localization|evaluation)\..*|data\.(fps|stride|window|time|unit)")
_LONGEST_NAME = 100  # of a folder, in characters


def as_json(content: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is read from a JSON file, with lists in place of tuples."""
    return json.loads(json_files.to_text(content))


def differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ and must not.

    Args:
        before: content of a JSON file of an earlier run.
        now: the same content of this run.
        prefix: put before the names of the fields.

    Returns:
        {field: (value there, value here)}, such as {"train.batch_size": (10, 20)}.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(before.keys() | now.keys()):
        field, there, here = prefix + key, before.get(key), now.get(key)
        if all(value is None or isinstance(value, dict) for value in (there, here)):
            found |= differences(there or {}, here or {}, f"{field}.")
        elif there != here and field not in _MAY_DIFFER:
            found[field] = there, here
    return found


def in_words(found: dict[str, tuple[Any, Any]], prefix: str = "") -> str:
    """Return differences as text.

    Args:
        found: as returned by `differences`.
        prefix: put before the names of the fields.
    """
    return "; ".join(
        f"{prefix}{field}: {_short(there)} there, {_short(here)} here"
        for field, (there, here) in found.items()
    )


def check_unedited(
    folder: Path, saved: dict[str, Any], config: dict[str, Any] | None, model: dict | None
) -> None:
    """Raise CheckpointError if config.json or model.json are not those of the checkpoint.

    Args:
        folder: the work directory.
        saved: as returned by `checkpoints.saved_run`; {} for a checkpoint without them.
        config: content of config.json; None if there is no such file.
        model: content of model.json; None if there is no such file.
    """
    if saved and config is not None:
        _check_equal(folder / "config.json", complete(saved["config"]), complete(config))
    if saved and model is not None:
        before, now = ({**one, "data": ""} for one in (saved["model"], model))
        _check_equal(folder / "model.json", before, as_json(now))


def _check_equal(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if found := differences(before, now):
        raise CheckpointError(
            f"{path}: not what the checkpoint was trained with: {in_words(found)} ('there' is in "
            "the checkpoint, 'here' in the file); it was edited, or the checkpoint is of another "
            "run. Delete the file and evaluate the run again (mode=eval) to write it; other "
            "settings can be given to that evaluation"
        )


def _short(value: Any) -> str:
    """Format a value; a group of fields is shortened."""
    return short_repr(value) if isinstance(value, dict) else str(value)


def of_evaluation(field: str) -> bool:
    """Return True for a field that training does not depend on, such as "localization.nms"."""
    return bool(_OF_EVALUATION.fullmatch(field))


def folder_name(changed: dict[str, Any]) -> str:
    """Return the name of the folder for an evaluation with other settings.

    Args:
        changed: {field: value}, such as {"localization.nms": "hard"}.

    Returns:
        A name such as "nms=hard"; with a checksum at its end where it would be too long, or has
        characters that not every file system allows.
    """
    last = [field.rpartition(".")[2] for field in changed]
    named = [
        (short if last.count(short) == 1 else field, value)
        for short, (field, value) in zip(last, changed.items(), strict=True)
    ]
    text = ",".join(f"{name}={value}" for name, value in named)
    safe = re.sub(r"[^\w.,=+-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _LONGEST_NAME:
        return text
    return f"{safe[:_LONGEST_NAME]}_{zlib.crc32(json.dumps(changed).encode()):08x}"
