"""Writers of every form of feature files."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from jaxtal.checkpoint_conversion import torch_writer


def _hdf5(path: Path, arrays: dict[str, np.ndarray], **how) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **how)


def _csv(path: Path, array: np.ndarray, header: bool) -> None:
    lines = [",".join(f"f{n}" for n in range(array.shape[1]))] if header else []
    lines += [",".join(repr(float(value)) for value in row) for row in array]
    path.write_text("\n".join(lines) + "\n")


def _pickle(path: Path, value: object, protocol: int) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


# {form: (suffix, writer)}; all are lossless for float16, float32 and float64 but those of _ROUNDED.
FORMS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {
    "npy": (".npy", lambda path, array: np.save(path, array)),
    "npy, Fortran": (".npy", lambda path, array: np.save(path, np.asfortranarray(array))),
    "npz": (".npz", lambda path, array: np.savez(path, array)),
    "npz, compressed": (".npz", lambda path, array: np.savez_compressed(path, feats=array, fps=25)),
    "npz, streams": (
        ".npz",
        lambda path, array: np.savez(
            path, rgb=array[..., : array.shape[-1] // 2], flow=array[..., array.shape[-1] // 2 :]
        ),
    ),
    "pt": (".pt", lambda path, array: torch_writer.save(path, {"feat": array})),
    "pth": (".pth", lambda path, array: torch_writer.save(path, {"a": array, "n": np.arange(3)})),
    "pkl": (".pkl", lambda path, array: _pickle(path, array, 2)),
    "pickle": (".pickle", lambda path, array: _pickle(path, {"features": array, "fps": 25.0}, 4)),
    "pkl, protocol 5": (".pkl", lambda path, array: _pickle(path, {"x": array, 3: ["a"]}, 5)),
    "h5": (".h5", lambda path, array: _hdf5(path, {"features": array, "time": np.arange(3.0)})),
    "hdf5": (
        ".hdf5",
        lambda path, array: _hdf5(path, {"a/b": array}, compression="gzip", shuffle=True),
    ),
    "csv": (".csv", lambda path, array: _csv(path, array, header=False)),
    "csv, names": (".csv", lambda path, array: _csv(path, array, header=True)),
}
TEXT = ("csv", "csv, names")  # values are right, the type is always float64
FLAT = (*TEXT, "npz, streams")  # forms of two axes, the second one the features


def write(form: str, folder: Path, name: str, array: np.ndarray) -> Path:
    """Write an array to a file of a form and return its path."""
    suffix, save = FORMS[form]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{suffix}"
    save(path, array)
    return path
