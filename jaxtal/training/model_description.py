"""model.json: what predictions need beside the config and the parameters."""

import dataclasses
from typing import Any, NamedTuple

from jaxtal.data.dataset import TimeGrid, as_stream_widths
from jaxtal.data.io import json_files
from jaxtal.errors import CheckpointError

FORM = "a model.json that a run wrote; delete it and evaluate the run again (mode=eval) to write it"


class ModelDescription(NamedTuple):
    """The content of model.json.

    Attributes:
        classes: class names in the order of the model's outputs; None where a name is unknown, as
            for a converted checkpoint whose data set was not given.
        grid: time grid of the training data, the default of predictions.
        feature_width: 2D.
        data: name of the training data.
        stream_widths: features per snippet of each stream; (): two equal halves.
    """

    classes: tuple[str | None, ...]
    grid: TimeGrid
    feature_width: int
    data: str
    stream_widths: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of model.json."""
        return {
            "data": self.data,
            "feature_width": self.feature_width,
            "stream_widths": list(self.stream_widths),
            "grid": dataclasses.asdict(self.grid),
            "classes": list(self.classes),
        }


def from_json(content: dict[str, Any], where: str) -> ModelDescription:
    """Return the description in the content of a model.json.

    Args:
        content: as `json_files.load` returns it.
        where: the file, for the error message.

    Raises:
        CheckpointError: an entry has an invalid value.
        DataError: an entry is missing.
    """
    data, width, grid, classes = (
        json_files.field(content, key, where, FORM)
        for key in ("data", "feature_width", "grid", "classes")
    )
    try:
        return ModelDescription(
            tuple(None if name is None else str(name) for name in classes),
            TimeGrid(**grid),
            int(width),
            str(data),
            as_stream_widths(content.get("stream_widths", []), where),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}; wanted {FORM}") from None
