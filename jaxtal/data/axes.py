"""Axes of a video's features: crops are averaged, others are put in the order (T, D).

The axes are stated as one letter each: T snippets, D features, C crops of the same frames, and 1 an
axis of length 1.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxtal.errors import DataError, short_repr

DEFAULT = "TD"
_MOST_AXES, _MOST_CROPS = 6, 16
_EXAMPLES = (
    "TD (the default), DT (transposed), TCD (crops between snippets and features, of which the "
    "mean is used), CTD, or 1TD"
)
_WORDS = {"T": "snippets", "D": "features", "C": "crops", "1": "1"}
Shape = tuple[int, ...]


def check(axes: str) -> str:
    """Return `axes` if it names the axes of features.

    Args:
        axes: one letter for each axis.

    Raises:
        DataError: it has other letters, or T or D not exactly once, or C twice.
    """
    valid = isinstance(axes, str) and len(axes) <= _MOST_AXES and not set(axes) - set("TDC1")
    if not valid or (axes.count("T"), axes.count("D")) != (1, 1) or axes.count("C") > 1:
        raise DataError(
            f"axes={short_repr(axes)}; wanted one letter for each axis of a video's features, such "
            f"as {_EXAMPLES}"
        )
    return axes


def fits(shape: Shape, axes: str) -> bool:
    """Return True if an array of a shape can have the axes.

    Args:
        shape: shape of the array.
        axes: valid axes, see `check`.
    """
    return len(shape) == len(axes) and all(
        length == 1 for length, letter in zip(shape, axes, strict=True) if letter == "1"
    )


def shape_after(shape: Shape, axes: str) -> Shape:
    """Return the shape (T, D) of features after `apply`; `shape` itself if the axes do not fit.

    Args:
        shape: shape of the array in the file.
        axes: valid axes, see `check`.
    """
    return tuple(shape[axes.index(letter)] for letter in DEFAULT) if fits(shape, axes) else shape


def apply(
    array: np.ndarray, axes: str, where: str, others: Callable[[], Iterable[Shape]] = tuple
) -> np.ndarray:
    """Return features with the axes (T, D).

    Args:
        array: the features as they are in the file; arrays that are not floating-point are returned
            unchanged, as they are no features.
        axes: valid axes, see `check`.
        where: file and video, for the error message.
        others: function that returns the shapes of other videos' arrays, which help to recognize
            the axes of an array that does not fit.

    Returns:
        (T, D) features of the same type, a view unless crops are averaged.

    Raises:
        DataError: the shape does not fit, and the axes are recognized or were stated.
    """
    if array.dtype.kind != "f" or (axes == DEFAULT and array.ndim == 2):
        return array
    if not fits(array.shape, axes):
        found = recognize([array.shape, *others()]) or recognize([array.shape])
        if axes == DEFAULT and (found is None or array.ndim == 2):
            return array  # the caller's error has no axes to offer
        raise DataError(f"{where}: {_misfit(array.shape, axes, found)}")
    if "C" in axes and array.size:
        crops = axes.index("C")
        exact = np.result_type(array.dtype, np.float32)
        array = array.mean(axis=crops, dtype=exact).astype(array.dtype)
        axes = axes.replace("C", "")
    kept = array.reshape([n for n, letter in zip(array.shape, axes, strict=True) if letter != "1"])
    return kept.T if axes.index("D") < axes.index("T") else kept


def _misfit(shape: Shape, axes: str, found: str | None) -> str:
    wanted = f"an array of shape {shape}; wanted {in_words(axes)}, because axes={axes}"
    if found is None or found == axes:
        return f"{wanted}; axes may be {_EXAMPLES}"
    mean = ", and the mean over the crops is used" if "C" in found else ""
    if mean and shape[found.index("C")] == 2:
        mean += "; if they are RGB and flow, put them side by side in the file instead"
    return f"{wanted}; it looks like {in_words(found)}: give axes={found}{mean}"


def in_words(axes: str) -> str:
    """Return axes as words, e.g. "(snippets, features)".

    Args:
        axes: valid axes, see `check`.
    """
    return f"({', '.join(_WORDS[letter] for letter in axes)})"


def recognize(shapes: Sequence[Shape]) -> str | None:
    """Recognize the axes of features by comparing the shapes of several videos.

    The number of features is the same in all videos, the number of snippets is not. Crops are few.

    Args:
        shapes: shapes of the arrays of different videos.

    Returns:
        The axes, e.g. "DT"; None if they cannot be recognized: of two axes, if not exactly one is
        the same in all videos, as in features that are rescaled to one length.
    """
    if not shapes or len(set(map(len, shapes))) > 1 or not 2 <= len(shapes[0]) <= _MOST_AXES:
        return None
    distinct = [len(set(lengths)) for lengths in zip(*shapes, strict=True)]
    letters, left = [""] * len(distinct), list(range(len(distinct)))
    for axis in list(left):
        if len(left) > 2 and {shape[axis] for shape in shapes} == {1}:
            letters[axis] = "1"
            left.remove(axis)
    if len(left) == 3:
        fixed = [axis for axis in left if distinct[axis] == 1]
        crops = min(fixed, key=lambda axis: shapes[0][axis], default=-1)
        if crops < 0 or shapes[0][crops] > _MOST_CROPS:
            return None
        letters[crops] = "C"
        left.remove(crops)
    if len(left) != 2:
        return None
    order = _order([[shape[axis] for shape in shapes] for axis in left])
    if order is None and len(distinct) == 2:
        return None
    for axis, letter in zip(left, order or DEFAULT, strict=True):
        letters[axis] = letter
    return "".join(letters)


def exchanged(shapes: Sequence[Shape]) -> str:
    """Return a message about features whose axes are (features, snippets), "" if they are not.

    Args:
        shapes: shapes (T, D) of the features of different videos, as they are read.
    """
    if recognize(shapes) != "DT" or max(Counter(shapes).values()) > len(shapes) / 2:
        return ""
    return (
        f"{len(shapes)} videos have {shapes[0][0]} snippets and different numbers of features; "
        "their axes are exchanged: state axes=DT, or omit it if it is stated"
    )


def _order(lengths: list[list[int]]) -> str | None:
    """Return "TD" or "DT" if one of two axes varies, and not only because of a few odd videos."""
    first, second = (Counter(of_axis) for of_axis in lengths)
    if len(first) == 1 and _varies(second):
        return "DT"
    return "TD" if len(second) == 1 and _varies(first) else None


def _varies(counts: Counter[int]) -> bool:
    return max(counts.values()) <= 0.9 * counts.total()
