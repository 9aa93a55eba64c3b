"""The options that say how a data set is to be read, the same in every program that reads one."""

from typing import Any

from absl import flags

LAYOUT = flags.DEFINE_string("layout", "", "The data set's layout, if it is not to be recognized.")
NAME = flags.DEFINE_string(
    "name", "", "The data set's name, <DS>; by default what its files or its builder say."
)
SKIP_DAMAGED = flags.DEFINE_bool(
    "skip_damaged", False, "Leave out, with a warning, videos whose features cannot be used."
)
_GRID = {
    name: flags.DEFINE_float(name, 0.0, f"{what}; 0: as the data set, its layout or a model says.")
    for name, what in (
        ("fps", "Frames per second of the features"),
        ("stride", "Frames from one snippet to the next"),
        ("window", "Frames that a snippet is computed from"),
    )
}


def reading() -> dict[str, Any]:
    """The arguments of `layouts.read` that the options give."""
    grid = {name: flag.value for name, flag in _GRID.items()}
    return {"layout": LAYOUT.value, "name": NAME.value, **grid}
