"""Flags of the commands that read a data set: the fields of `ReadingOptions`."""

import argparse

from jaxtal.cli import flags
from jaxtal.data.reading import FIELDS, MODALITIES, TIMES, UNITS, VERIFY, ReadingOptions

_NUMBERS = {
    "fps": "Frame rate of the features in frames per second",
    "stride": "Frames from the start of one snippet to the next",
    "window": "Frames that the features of a snippet are computed from",
}
_SUBSETS = {"train": "training", "validation": "validation during training", "test": "test"}


def add_flags(parser: flags.Parser) -> None:
    """Define the flags of all commands that read a data set with features."""
    add_annotation_flags(parser)
    parser.add_flag(
        "skip_damaged",
        "Skip videos with damaged features, with a warning, instead of failing.",
        type=flags.boolean,
        default=False,
    )
    parser.add_flag(
        "time",
        "rescaled: the features of each video were rescaled to a fixed number of snippets.",
        type=flags.choice(*TIMES),
        default="grid",
    )
    _add_features(parser)


def add_annotation_flags(parser: flags.Parser) -> None:
    """Define the flags of all commands that read annotations."""
    parser.add_flag("layout", "Layout of the data set; default: detected.", default="")
    parser.add_flag(
        "name",
        "Name <DS> of the data set; default: the name in its files or its builder.",
        default="",
    )
    for name, what in _NUMBERS.items():
        parser.add_flag(
            name,
            f"{what}; default: 0, the value of the data set, else the model's or its layout's.",
            type=flags.number,
            default=0.0,
        )
    parser.add_flag(
        "unit",
        "Unit of the durations and segments in the annotations.",
        type=flags.choice(*UNITS),
        default="seconds",
    )
    parser.add_flag(
        "annotation_fps",
        "Frame rate of the frames that --unit states; default: 0, that of the features.",
        type=flags.number,
        default=0.0,
    )
    for part, what in _SUBSETS.items():
        parser.add_flag(
            f"{part}_subset",
            f"Subsets for {what}, separated by commas; default: by their names.",
            type=flags.names,
            default=(),
        )


def _add_features(parser: flags.Parser) -> None:
    parser.add_flag(
        "axes",
        "Axes of a video's features: T snippets, D features, C crops, 1 of length 1, as in TCD.",
        default="TD",
    )
    parser.add_flag(
        "streams",
        "Number of streams in the columns: 2, RGB then flow, or 1.",
        type=flags.integer(1),
        default=2,
    )
    parser.add_flag(
        "stream_widths",
        "Features per snippet of each stream, as in 768,1024; default: equal parts.",
        type=flags.integers,
        default=(),
    )
    parser.add_flag(
        "modality",
        "Use only this stream, rgb or flow; default: all streams.",
        type=flags.choice(*MODALITIES),
        default="",
    )
    parser.add_flag(
        "verify",
        "Verify the checksums of a data set of jaxtal data convert: auto: if it has them.",
        type=flags.choice(*VERIFY),
        default="auto",
    )


def options(args: argparse.Namespace) -> ReadingOptions:
    """Return the options that the flags of the command state."""
    return ReadingOptions(**{name: getattr(args, name) for name in FIELDS if name in args})
