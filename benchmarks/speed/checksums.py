"""Measure the cost of checksums: of checkpoints, and of loading a converted data set.

    python -m benchmarks.speed.checksums [--videos 900] [--snippets 890] [--width 2048]

`save` and `restore` write and read a checkpoint of CO2-Net at THUMOS14's size (20 classes, 2,048
features a snippet) with the checksums of all files and without; both flush the files to disk.
`load` reads a data set that `jaxtal data convert` has written (ACM-Net's layout, the default is 4.1
GB) with the verification of its checksums and without. All are measured in turn in one process;
`ratio` is that of the medians, with / without; `pairs_quartiles` are those of the ratios of
neighboring measurements, on which slow changes of the machine's speed have less effect. Files are
in the page cache.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.examination import write
from benchmarks.timing import Rows, interleaved, parser_of, row
from jaxtal import methods
from jaxtal.config import get_config
from jaxtal.data import conversion, layouts
from jaxtal.data.io import checksums
from jaxtal.parallel import sharding
from jaxtal.parallel.mesh import MEMBER_SPEC, mesh_from_config
from jaxtal.training import checkpoint_integrity, population, train_step
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.train_state import TrainState

PROGRESS: dict[str, list] = {"evaluation": [None], "best": [None], "diverged": [None]}
CLASSES = 20


def state_of(width: int) -> TrainState:
    """Return a training state of CO2-Net for THUMOS14's classes; all its numbers are random.

    Initial moments are zero, which Orbax would compress to nothing.
    """
    config = get_config("co2net_thumos")
    method = methods.get(config.method)
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    model = method.build(config.model, CLASSES)
    hyper = sharding.device_put(mesh, population.hypers([config]), MEMBER_SPEC)
    state = train_step.init_fn(model, config, mesh, width)(hyper)
    rng = np.random.default_rng(0)

    def filled(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jax.device_put(rng.standard_normal(leaf.shape, np.float32), leaf.sharding)

    return jax.tree.map(filled, state)


def without_checksums() -> mock._patch:
    """Return a context in which no file is hashed."""
    return mock.patch.object(checksums, "crc32_of_files", lambda _, names: dict.fromkeys(names, ""))


def checkpoint_rows(folder: Path, width: int, repeats: int) -> Iterator[dict]:
    """Yield the rows of writing and of restoring checkpoints."""
    state = state_of(width)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    shapes = {"classes": CLASSES, "width": width, "MB": round(size / 1e6)}

    def save(name: str) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        with Checkpoints(folder / name, writes=True) as checkpoints:
            checkpoints.save(state, 1, PROGRESS)

    def restore(verify: bool) -> None:
        if verify and (damage := checkpoint_integrity.find_damage(folder / "with" / "1")):
            raise RuntimeError(damage)
        with Checkpoints(folder / "with") as checkpoints:
            jax.block_until_ready(checkpoints.restore(1, state)[0])

    def save_without() -> None:
        with without_checksums():
            save("without")

    yield from compared(
        "save", shapes, repeats, {"with": lambda: save("with"), "without": save_without}
    )
    yield from compared(
        "restore",
        shapes,
        repeats,
        {"with": lambda: restore(True), "without": lambda: restore(False)},
    )


def data_rows(folder: Path, videos: int, snippets: int, width: int, repeats: int) -> Iterator[dict]:
    """Yield the rows of loading a converted data set."""
    (folder / "source").mkdir()
    write(folder / "source", videos, snippets, width)
    conversion.convert(layouts.read(folder / "source"), "acmnet", folder / "data")
    shutil.rmtree(folder / "source")
    size = sum(path.stat().st_size for path in (folder / "data").rglob("*.npy"))
    shapes = {"videos": videos, "width": width, "MB": round(size / 1e6)}

    def load(verify: str) -> float:
        return float(layouts.read(folder / "data", verify=verify).load().train[0].features[0, 0])

    calls = {"with": lambda: load("always"), "without": lambda: load("never")}
    yield from compared("load", shapes, repeats, calls)


def compared(name: str, shapes: dict, repeats: int, calls: dict) -> Iterator[dict]:
    """Yield a row for each of two calls, the first with its cost."""
    seconds = interleaved(calls, repeats)
    yield row(f"{name} without", shapes, seconds["without"])
    verified, plain = seconds["with"], seconds["without"]
    quartiles = np.quantile(np.divide(verified, plain), (0.25, 0.5, 0.75)).tolist()
    yield row(f"{name} with", shapes, verified, plain, ratio="cost", pairs_quartiles=quartiles)


def main() -> None:
    """Print the rows."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--videos", type=int, default=900)
    parser.add_argument("--snippets", type=int, default=890)
    parser.add_argument("--width", type=int, default=2048)
    options = parser.parse_args()
    emit = Rows(options.json)
    with tempfile.TemporaryDirectory() as name:
        for one in checkpoint_rows(Path(name) / "runs", options.width, options.repeats):
            emit(one)
    with tempfile.TemporaryDirectory() as name:
        shapes = options.videos, options.snippets, options.width
        for one in data_rows(Path(name), *shapes, options.repeats):
            emit(one)


if __name__ == "__main__":
    main()
