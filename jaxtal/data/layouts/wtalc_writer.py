"""Writer of annotations in the W-TALC layout."""

from pathlib import Path

import numpy as np

from jaxtal.data.dataset import Dataset
from jaxtal.data.io import object_arrays
from jaxtal.data.io.files import atomic_write
from jaxtal.data.layouts.wtalc import AMBIGUOUS
from jaxtal.data.reading import THREE


def write_annotations(folder: Path, dataset: Dataset) -> None:
    """Write <DS>-Annotations/, training videos first.

    Subsets are named validation and test, as in THUMOS14, or training and validation for data sets
    whose name begins with ActivityNet; with validation videos they are named as in `reading.THREE`.
    Strings are bytes, as the published programs expect.

    Args:
        folder: folder in which <DS>-Annotations/ is created.
        dataset: the videos; <DS> is its name.

    Raises:
        DataError: a file cannot be written.
    """
    annotations = folder / f"{dataset.name}-Annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    videos = dataset.videos
    activitynet = dataset.name.startswith("ActivityNet")
    two = ("training", "validation") if activitynet else ("validation", "test")
    subsets = tuple(THREE.values()) if dataset.validation else two
    counts = [len(part) for part in dataset.parts.values()]
    duration = np.array([video.duration for video in videos])
    plain = {
        "videoname": _bytes(video.name for video in videos),
        "subset": np.repeat(_bytes(subsets), counts),
        "classlist": _bytes(dataset.classes),
        "duration": duration if activitynet else duration[:, None],
    }
    lists = {
        "segments": [video.segments.tolist() for video in videos],
        "labels": [[dataset.classes[n] for n in video.segment_labels] for video in videos],
        "labels_all": [[dataset.classes[n] for n in video.labels] for video in videos],
    }
    for name, array in plain.items():
        with atomic_write(annotations / f"{name}.npy", "wb") as file:
            np.save(file, array, allow_pickle=False)
    for name, entries in lists.items():
        with atomic_write(annotations / f"{name}.npy", "wb") as file:
            writer = object_arrays.Writer(file, len(entries))
            for entry in entries:
                writer.add(entry)
            writer.end()
    lines = [
        f"{video.name}  {start!r} {end!r}\n"
        for video in videos
        for start, end in video.ambiguous.tolist()
    ]
    if lines or dataset.name.startswith("Thumos14"):
        with atomic_write(annotations / AMBIGUOUS) as file:
            file.writelines(lines)


def _bytes(texts) -> np.ndarray:
    return np.array([text.encode() for text in texts])
