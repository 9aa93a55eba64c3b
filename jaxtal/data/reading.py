"""Options for reading a data set, shared by `config.data`, the command line and TFDS builders."""

import dataclasses

TIMES = ("grid", "rescaled")
UNITS = ("seconds", "frames", "segment_frames")
MODALITIES = ("", "rgb", "flow")
ALLOWED = {"time": TIMES, "unit": UNITS, "modality": MODALITIES}


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
            "segment_frames", which is frames for segments only.
        axes: meaning of the axes of a video's features, one letter an axis: T snippets, D features,
            C crops (their mean is used), 1 an axis of length 1.
        streams: number of feature streams in the columns: 2 (RGB then flow), or 1 for features of a
            single encoder.
        stream_widths: features per snippet of each stream; (): equal parts.
        modality: "rgb" or "flow": use only this stream; "": all streams.
        train_subset: names of the subsets to train on; (): by the known names.
        validation_subset: names of the subsets that are evaluated during training; (): by the
            known names.
        test_subset: names of the subsets to test on; (): by the known names.
    """

    layout: str = ""
    name: str = ""
    fps: float = 0.0
    stride: float = 0.0
    window: float = 0.0
    time: str = "grid"
    unit: str = "seconds"
    axes: str = "TD"
    streams: int = 2
    stream_widths: tuple[int, ...] = ()
    modality: str = ""
    train_subset: tuple[str, ...] = ()
    validation_subset: tuple[str, ...] = ()
    test_subset: tuple[str, ...] = ()


NOTHING_STATED = ReadingOptions()
FIELDS = tuple(field.name for field in dataclasses.fields(ReadingOptions))
