"""Options for reading a data set, shared by `config.data`, the command line and TFDS builders.

A data set has up to three parts, see `PARTS`. Which subset of its files is in which part follows
from the options, or else from the subsets' names.
"""

import dataclasses
import numbers
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from jaxtal.errors import DataError, short_repr

if TYPE_CHECKING:  # that module imports this one
    from jaxtal.data.dataset import TimeGrid

TIMES = ("grid", "rescaled")
UNITS = ("seconds", "frames", "segment_frames", "duration_frames")
MODALITIES = ("", "rgb", "flow")
VERIFY = ("auto", "always", "never")
_ALLOWED = {"time": TIMES, "unit": UNITS, "modality": MODALITIES, "verify": VERIFY}
_NUMBERS = ("fps", "stride", "window", "annotation_fps")


@dataclasses.dataclass(frozen=True)
class ReadingOptions:
    """Statements of the user about a data set; by default, there are none.

    Attributes:
        layout: one of `layouts.LAYOUTS`; "": detect it.
        name: name of the data set, needed if a folder contains several; "": the name in the files.
        fps: frames per second of the features; 0: the default of the data set.
        stride: frames from one snippet to the next; 0: the default of the data set.
        window: frames of one snippet; 0: the default of the data set.
        time: "grid": snippet i begins at i * stride / fps seconds; "rescaled": the features of each
            video were rescaled to a fixed number of snippets, which divide its duration evenly.
        unit: unit of the durations and segments in the annotations: "seconds", "frames", or
            "segment_frames" or "duration_frames", which are frames for one of both.
        annotation_fps: frames per second of the frames that `unit` states; 0: the features'.
        axes: meaning of the axes of a video's features, one letter an axis: T snippets, D features,
            C crops (their mean is used), 1 an axis of length 1.
        streams: number of feature streams in the columns: 2 (RGB then flow), or 1 for features of a
            single encoder.
        stream_widths: features per snippet of each stream; (): equal parts.
        modality: "rgb" or "flow": use only this stream; "": all streams.
        verify: whether to verify the checksums of a data set written by `jaxtal data convert`:
            "auto": if it has them, "always": they are required, "never".
        train_subset: names of the subsets to train on; (): by the known names.
        validation_subset: names of the subsets that are evaluated during training; (): by the
            known names.
        test_subset: names of the subsets to test on; (): by the known names.

    Raises:
        DataError: a value is not allowed, or has no effect.
    """

    layout: str = ""
    name: str = ""
    fps: float = 0.0
    stride: float = 0.0
    window: float = 0.0
    time: str = "grid"
    unit: str = "seconds"
    annotation_fps: float = 0.0
    axes: str = "TD"
    streams: int = 2
    stream_widths: tuple[int, ...] = ()
    modality: str = ""
    verify: str = "auto"
    train_subset: tuple[str, ...] = ()
    validation_subset: tuple[str, ...] = ()
    test_subset: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                listed = ", ".join(word or '""' for word in allowed)
                raise DataError(f"{name}={short_repr(value)}; wanted one of {listed}")
        for name in _NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not (number and 0 <= value < float("inf")):
                raise DataError(
                    f"{name} is {short_repr(value)}; wanted a number above 0, or 0 to keep it"
                )
        if self.annotation_fps and self.unit == "seconds":
            raise DataError(
                f"annotation_fps={self.annotation_fps:g} has no effect on times in seconds; state "
                "unit=frames, unit=segment_frames or unit=duration_frames too, or omit it"
            )


NOTHING_STATED = ReadingOptions()
FIELDS = tuple(field.name for field in dataclasses.fields(ReadingOptions))


def from_keywords(
    function: str, time_grid: "TimeGrid | None" = None, **options: Any
) -> ReadingOptions:
    """Return options that a function received as keyword arguments.

    Args:
        function: the function's name, for the message.
        time_grid: the time grid of the features, in place of `fps`, `stride` and `window`.
        **options: fields of `ReadingOptions`.

    Raises:
        DataError: an option does not exist, is given twice, or has a value that is not allowed.
    """
    if unknown := sorted(set(options) - set(FIELDS)):
        raise DataError(f"{function} has no option {unknown[0]!r}, only {', '.join(FIELDS)}")
    if time_grid is not None:
        names = "fps", "stride", "window"
        if twice := [name for name in names if name in options]:
            raise DataError(f"{function}: time_grid and {twice[0]} are given; omit one of them")
        options |= dict(zip(names, time_grid.times, strict=True))
    return ReadingOptions(**options)


PARTS = ("train", "validation", "test")
UNLISTED = "in no split list"  # name of the subset of the videos that no split list names
# Names of the subsets in files that are written with validation videos.
THREE = {"train": "training", "validation": "validation", "test": "test"}
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def assign_subsets(
    counts: Mapping[str, int], annotated: Collection[str], options: ReadingOptions, where: str
) -> dict[str, str]:
    """Return the part of the data set that each subset is in.

    The options come first. The other subsets are in the part of their name, in any capitals, with
    three exceptions for the field's data sets: without a test subset the validation subset is
    tested on (ActivityNet), without a training subset it is trained on (THUMOS14), and a test
    subset whose annotations are withheld is unused if there is an annotated validation subset.

    Args:
        counts: number of videos by the name of the subset, as in the file.
        annotated: the subsets with annotated instances; no other judges the training.
        options: subsets that the user assigned.
        where: file and field, for the error message.

    Returns:
        {subset: one of `PARTS`}, without the subsets that are in no part.

    Raises:
        DataError: an option names no subset or one of another option, or no name is known.
    """
    found = _assign_stated(counts, options, where)
    stated = set(found.values())
    named = {
        part: [one for one in counts if one not in found and one.lower() in names]
        for part, names in _NAMES.items()
    }
    judges = any(one in annotated for one in named["validation"])
    if judges and (named["train"] or "train" in stated) and not {*named["test"]} & {*annotated}:
        named["test"] = []
    train, test = (bool(named[part]) or part in stated for part in ("train", "test"))
    role = "test" if not test else "validation" if train else "train"
    named["validation"], validation = [], named["validation"]
    if role != "validation" or judges:
        named[role] = validation
    for part in PARTS:
        found |= {} if part in stated else dict.fromkeys(named[part], part)
    if not found and len(counts) == 1 and UNLISTED not in counts:
        return dict.fromkeys(counts, "test")
    if not found:
        raise DataError(
            f"{where}: subsets are {subsets_in_words(counts) or 'none'}; wanted train and test, "
            "validation and test (THUMOS14), training and validation (ActivityNet), or all three; "
            "or assign them, as in train_subset=NAME test_subset=NAME"
        )
    return found


def _assign_stated(
    counts: Mapping[str, int], options: ReadingOptions, where: str
) -> dict[str, str]:
    """Return {subset: part} for the subsets in the options."""
    found: dict[str, str] = {}
    for part in PARTS:
        given = getattr(options, f"{part}_subset")
        for name in (given,) if isinstance(given, str) else given:
            mine = [one for one in counts if one.lower() == str(name).lower()]
            if not mine:
                raise DataError(
                    f"{where}: {part}_subset={short_repr(name)} is not among the subsets, which "
                    f"are {subsets_in_words(counts) or 'none'}"
                )
            if (other := found.get(mine[0], part)) != part:
                raise DataError(
                    f"{where}: subset {short_repr(mine[0])} is in {other}_subset and in "
                    f"{part}_subset; wanted every subset in one of them"
                )
            found |= dict.fromkeys(mine, part)
    return found


def subsets_in_words(counts: Mapping[str, int]) -> str:
    """Return numbers of videos by subset as text, at most the ten largest.

    Args:
        counts: number of videos by the name of the subset.
    """
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} of subset {short_repr(name)}" for name, count in largest[:10])
    return shown + f" and {len(counts) - 10} other subsets" * (len(counts) > 10)
