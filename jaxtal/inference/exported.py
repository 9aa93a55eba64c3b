r"""Exported models: one file with the compiled network, its parameters and all settings.

    import jaxtal
    model = jaxtal.load_model("model.jaxtal")

Loading needs neither flax nor the code of the method. The network is StableHLO, made by
`jax.export` for any number of videos B and any multiple T of 64 rows. Scoring and localization
follow from settings in the header (`jaxtal/localization/scoring.py`,
`jaxtal/localization/proposals.py`). The format of a file:

| bytes | content |
|---|---|
| 16 | `jaxtal exported\n` |
| 32 | SHA-256 of the rest of the file |
| 8 | length of the header in bytes, little endian |
| header | JSON, see `_header` |
| the rest | the serialized program, then every parameter, little endian, in the header's order |

The checksum detects truncated and altered files before JAX reads them. It does not authenticate the
author, and a file is a program: it cannot open files or connections, but its results, running time
and memory are under the control of its author. Load files from trusted sources only.
"""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxtal import __version__
from jaxtal.data.dataset import TimeGrid, as_stream_widths
from jaxtal.data.io.files import atomic_write, open_regular
from jaxtal.data.io.json_files import field
from jaxtal.errors import CheckpointError, JaxtalError
from jaxtal.extras import required
from jaxtal.inference.model import Model
from jaxtal.input_pipeline.packing import MIN_BUCKET_ROWS
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.scoring import ScoreSpec

PLATFORMS = ("cpu", "cuda", "tpu")
_MAGIC = b"jaxtal exported\n"
_FORMAT = 1
_LONGEST_HEADER = 1 << 26
_DTYPES = ("float32", "float16", "bfloat16", "int32", "uint32", "bool")
_FORM = "an exported model's header"


def export_model(path: str | os.PathLike[str], model: Model) -> dict[str, Any]:
    """Write a model to one file for all `PLATFORMS`; the file is written atomically.

    Args:
        path: File to write.
        model: The model to export.

    Returns:
        The header of the file, see the module's docstring.

    Raises:
        CheckpointError: The method scores proposals with its own code instead of a `ScoreSpec`.
        DataError: The file cannot be written.
        JaxtalError: The package flatbuffers is not installed.
    """
    if not isinstance(model.score_spec, ScoreSpec):
        raise CheckpointError(
            f"config.method {model.method}: its score_spec is not a "
            "jaxtal.localization.scoring.ScoreSpec, which an export needs; predict "
            "with workdir=... instead"
        )
    _require_flatbuffers()
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(model.variables)]
    program = bytes(_export(model).serialize())
    header = _header(model, arrays, program)
    text = json.dumps(header).encode()
    parts = [len(text).to_bytes(8, "little"), text, program, *map(_to_bytes, arrays)]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    with atomic_write(Path(path), "wb") as file:
        file.writelines([_MAGIC, checksum.digest(), *parts])
    return header


def _require_flatbuffers() -> None:
    """Raise JaxtalError if flatbuffers is missing, which JAX needs to read and write programs."""
    with required("export", "an exported model"):
        import flatbuffers  # noqa: F401


def _export(model: Model) -> export.Exported:
    """Return the program for symbolic sizes B and T / 64, with the parameters as a list."""
    leaves, tree = jax.tree.flatten(model.variables)

    def program(leaves: list, features: jax.Array, lengths: jax.Array) -> dict:
        return model.apply_fn(jax.tree.unflatten(tree, leaves), features, lengths)

    batch, parts = export.symbolic_shape("b, t")
    return export.export(jax.jit(program), platforms=PLATFORMS)(
        [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves],
        jax.ShapeDtypeStruct((batch, MIN_BUCKET_ROWS * parts, model.feature_width), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )


def _header(model: Model, arrays: list[np.ndarray], program: bytes) -> dict[str, Any]:
    """Return the header: all settings, and the sizes of program and parameters."""
    return {
        "format": _FORMAT,
        "jaxtal": __version__,
        "jax": jax.__version__,
        "method": model.method,
        "classes": list(model.classes),
        "grid": dataclasses.asdict(model.time_grid),
        "feature_width": model.feature_width,
        "stream_widths": list(model.stream_widths),
        "rescaled": model.rescaled,
        "min_snippets": model.min_snippets,
        "test_length_limits": list(model.test_length_limits),
        "score_spec": dataclasses.asdict(model.score_spec),
        "localization_inputs": list(model.localization_inputs),
        "localization": dataclasses.asdict(model.localization),
        "platforms": list(PLATFORMS),
        "program": len(program),
        "parameters": [[str(array.dtype), list(array.shape)] for array in arrays],
    }


def _to_bytes(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def load_exported(path: str | os.PathLike[str]) -> Model:
    """Load a model from a file written by `export_model`.

    The file is a program: load files from trusted sources only.

    Args:
        path: The exported file.

    Returns:
        The model; its `apply_fn` runs the program in the file.

    Raises:
        CheckpointError: The file is damaged, of another version, or for other platforms.
        DataError: The file cannot be read.
    """
    path = Path(path)
    header, body = _read(path)
    try:
        sizes = [_size(*entry) for entry in header["parameters"]]
        program = body[: int(header["program"])]
        if int(header["program"]) + sum(sizes) != len(body):
            raise ValueError("the lengths of its parts do not match its header")
        arrays = _arrays(header["parameters"], sizes, body[len(program) :])
        _check_platform(path, header["platforms"])
        _require_flatbuffers()
        called = export.deserialize(bytearray(program))
        _check_shapes(called, arrays, header)
        return Model(
            method=str(header["method"]),
            classes=tuple(map(str, header["classes"])),
            time_grid=TimeGrid(**header["grid"]),
            feature_width=header["feature_width"],
            stream_widths=as_stream_widths(header.get("stream_widths", []), f"{path}"),
            rescaled=bool(header.get("rescaled", False)),
            min_snippets=int(header["min_snippets"]),
            test_length_limits=_limits(*header["test_length_limits"]),
            score_spec=ScoreSpec(**header["score_spec"]),
            localization_inputs=tuple(header["localization_inputs"]),
            localization=_settings(header["localization"]),
            variables=jax.device_put(arrays),
            apply_fn=jax.jit(called.call),
        )
    except JaxtalError:
        raise
    except Exception as error:  # JAX raises various types for a program of another version
        raise CheckpointError(
            f"{path}: cannot be used with jaxtal {__version__} and jax {jax.__version__} "
            f"({type(error).__name__}: {str(error)[:200]}); it was written by jaxtal "
            f"{header['jaxtal']} and jax {header['jax']}; export it again"
        ) from None


def _read(path: Path) -> tuple[dict[str, Any], memoryview]:
    """Return the header and the bytes after it; raise CheckpointError for a wrong checksum."""
    with open_regular(path) as file:
        start = file.read(len(_MAGIC) + hashlib.sha256().digest_size)
        if not start.startswith(_MAGIC):
            raise CheckpointError(
                f"{path}: not an exported model; wanted a file written by jaxtal export"
            )
        rest = file.read()
    if hashlib.sha256(rest).digest() != start[len(_MAGIC) :]:
        raise CheckpointError(
            f"{path}: damaged, its checksum does not match its {len(rest):,} bytes; copy it "
            "again, or export it again"
        )
    length = int.from_bytes(rest[:8], "little")
    try:
        if length > _LONGEST_HEADER:
            raise ValueError(f"{length:,} bytes long")
        header = json.loads(rest[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: invalid header ({error}); export the model again") from None
    if field(header, "format", f"{path}", _FORM) != _FORMAT:
        raise CheckpointError(
            f"{path}: format {header['format']!r:.20}, but this version of jaxtal reads {_FORMAT}; "
            "export the model again"
        )
    for name in _FIELDS:
        field(header, name, f"{path}", _FORM)
    return header, memoryview(rest)[8 + length :]


_FIELDS = (
    "jaxtal", "jax", "method", "classes", "grid", "feature_width", "min_snippets",
    "test_length_limits", "score_spec", "localization_inputs", "localization", "platforms",
    "program", "parameters",
)  # fmt: skip


def _limits(least: int, most: int | None) -> tuple[int, int | None]:
    return int(least), None if most is None else int(most)


def _settings(saved: dict[str, Any]) -> LocalizationConfig:
    return LocalizationConfig(**saved | {"thresholds": tuple(saved["thresholds"])})


def _size(dtype: str, shape: list[int]) -> int:
    """Return the size of a parameter in bytes; raise ValueError for an invalid description."""
    if dtype not in _DTYPES or not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
        raise ValueError(f"a parameter of type {dtype!r:.20} and shape {shape!r:.40}")
    return math.prod(shape) * jnp.dtype(dtype).itemsize


def _arrays(entries, sizes: list[int], body: memoryview) -> list[np.ndarray]:
    arrays, end = [], 0
    for (dtype, shape), size in zip(entries, sizes, strict=True):
        start, end = end, end + size
        little = jnp.dtype(dtype).newbyteorder("<")
        array = np.frombuffer(body[start:end], little).reshape(shape)
        arrays.append(array.astype(jnp.dtype(dtype), copy=False))
    return arrays


def _check_platform(path: Path, platforms: list[str]) -> None:
    """Raise CheckpointError if the program was not lowered for this process's platform."""
    here = jax.default_backend()
    if not {"gpu": {"cuda", "rocm"}}.get(here, {here}) & set(platforms):
        raise CheckpointError(
            f"{path}: exported for {', '.join(platforms)}, but this process runs on {here}; "
            "set JAX_PLATFORMS=cpu, or predict with workdir=..."
        )


def _check_shapes(called: export.Exported, arrays: list[np.ndarray], header: dict) -> None:
    """Raise ValueError if the arguments or results of a program do not match its header."""
    *parameters, features, _ = called.in_avals
    wanted = [(leaf.shape, leaf.dtype) for leaf in parameters]
    if wanted != [(array.shape, array.dtype) for array in arrays]:
        raise ValueError("its program needs other parameters")
    if len(features.shape) != 3 or features.shape[2] != header["feature_width"]:
        raise ValueError(f"its program needs features of shape {features.shape}")
    outputs = jax.tree.unflatten(called.out_tree, called.out_avals)
    if missing := {"cas", *header["localization_inputs"]} - set(outputs):
        raise ValueError(f"its program does not return {', '.join(sorted(missing))}")
    classes = outputs["cas"].shape[-1] - bool(header["score_spec"]["background"])
    if classes != len(header["classes"]):
        raise ValueError(f"its program has {classes} classes, not {len(header['classes'])}")
