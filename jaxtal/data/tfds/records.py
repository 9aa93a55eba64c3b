"""Record format of prepared data sets."""

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

FORMAT = 1
DTYPES = {"float16": "<f2", "float32": "<f4"}


def header(array: np.ndarray) -> dict[str, Any]:
    """Return shape, type and CRC-32 of a video's features, for metadata.json.

    Args:
        array: (T, 2D) float16 or float32 features.

    Returns:
        {"feature_shape": [T, 2D], "feature_dtype": name, "feature_crc32": int}.
    """
    return {
        "feature_shape": list(array.shape),
        "feature_dtype": array.dtype.name,
        "feature_crc32": zlib.crc32(to_bytes(array).data),
    }


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Return features in the form of records.

    Args:
        array: (T, 2D) float16 or float32 features.

    Returns:
        (T, bytes) uint8, little-endian.
    """
    return np.ascontiguousarray(array, DTYPES[array.dtype.name]).view(np.uint8)


def from_bytes(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return the features in a record, without copying.

    Args:
        array: (T, bytes) uint8, the record's "features".
        dtype: "float16" or "float32", the record's "dtype".

    Returns:
        (T, 2D) features of this type.
    """
    return array.view(DTYPES[dtype])


def record() -> "tfds.features.FeaturesDict":
    """Return the TFDS description of a video's record."""
    import tensorflow_datasets as tfds  # not needed by readers of annotations

    tensor = tfds.features.Tensor
    seconds = tensor(shape=(None, 2), dtype=np.float64, encoding="bytes")
    # Encoded as bytes, numbers keep all digits: TFDS's default encoding of floats has 32 bits.
    number = tensor(shape=(), dtype=np.float64, encoding="bytes")
    indices = tensor(shape=(None,), dtype=np.int64)
    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(),
            "features": tensor(shape=(None, None), dtype=np.uint8, encoding="bytes"),
            "dtype": tfds.features.Text(),
            "duration": number,
            "fps": number,
            "labels": indices,
            "segments": seconds,
            "segment_labels": indices,
            "ambiguous": seconds,
        }
    )
