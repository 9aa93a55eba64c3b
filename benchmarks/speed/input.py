"""Compare sampling and feeding of training batches with the per-bin Python sampler.

    python -m benchmarks.speed.input

CO2-Net's batches are made at the demo's, THUMOS14's and ActivityNet's shape:

- draw: sample indices of videos and snippets on the device, many steps in one program, as in
  training;
- batch: sample indices and gather the features on the device;
- stream: make a batch by the host's pipeline, which is used if features do not fit on the device,
  from sampling to arrival on the device;
- per bin: the published sampler, one choice from a range for every bin, without and with the
  gather; "per bin, randint" is the fastest form that samples bin by bin.

`ratio` is the per-bin sampler's median divided by jaxtal's for the same work; `share` is the
fraction of a training step on the same features, measured in the same process.
"""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.baselines import per_bin_sampler
from benchmarks.timing import Rows, interleaved, parser_of, row, show, spread
from benchmarks.workloads import SHAPES, Trainer, config_of, training_set
from jaxtal import methods
from jaxtal.input_pipeline.packing import PackedVideos, gather
from jaxtal.input_pipeline.placement import HostStream, PlacedVideos, prefetch
from jaxtal.input_pipeline.sampling import sample_batch_indices

VIDEOS = 200
DRAWS, BATCHES, STREAMED = 50, 5, 5
REFERENCES = {"draw": "per bin, draw", "batch": "per bin, batch", "stream": "per bin, batch"}


def repeated(one, count: int):
    """Return a program that repeats a function in a loop and returns the last result.

    Args:
        one: function of the data and the step.
        count: number of steps.
    """

    def run(data):
        return jax.lax.fori_loop(1, count, lambda step, _: one(data, step), one(data, jnp.int32(0)))

    return jax.jit(run)


def cases(config, data: PackedVideos) -> dict:
    """Return the measured calls and the number of batches that each makes.

    Args:
        config: config of a method.
        data: training videos.
    """
    method = methods.get(config.method)

    def drawn(data: PackedVideos, step):
        return sample_batch_indices(
            jnp.uint32(config.seed), step, data.videos, method.sample, config
        )

    def batch(data: PackedVideos, step):
        return gather(data, drawn(data, step))

    assert data.features is not None
    host = np.asarray(data.features)
    placed = PlacedVideos(PackedVideos(None, data.videos), host)
    stream = HostStream(placed, method, config, np.array([config.seed], np.uint32))
    lengths, labels = (np.asarray(x) for x in (data.videos.lengths, data.videos.labels))
    features = np.split(host, np.cumsum(lengths)[:-1])
    train, rng = config.train, np.random.RandomState(0)
    rest = (lengths, labels, train.pairs, train.batch_size, config.data.num_snippets, rng)
    return {
        "draw": (partial(repeated(drawn, DRAWS), data), DRAWS),
        "batch": (partial(repeated(batch, BATCHES), data), BATCHES),
        "stream": (lambda: list(prefetch(range(STREAMED), stream.load)), STREAMED),
        "per bin, draw": (partial(per_bin_sampler.indices, *rest), 1),
        "per bin, randint": (
            partial(per_bin_sampler.indices, *rest, per_bin_sampler.from_randint),
            1,
        ),
        "per bin, batch": (partial(per_bin_sampler.batch, features, *rest), 1),
        "step": (Trainer(config, data), 1),
    }


def measure(shape: str, repeats: int) -> tuple[dict, dict[str, list[float]]]:
    """Return the sizes of a shape and the seconds per batch of every case.

    Args:
        shape: key of `SHAPES`.
        repeats: measurements of each case.
    """
    size, snippets, width, classes = SHAPES[shape]
    config = config_of("co2net", shape, size, snippets)
    made = cases(config, training_set(VIDEOS, snippets, width, classes))
    measured = interleaved({name: call for name, (call, _) in made.items()}, repeats)
    seconds = {name: [v / made[name][1] for v in values] for name, values in measured.items()}
    return {"batch": size, "snippets": snippets, "features": width, "videos": VIDEOS}, seconds


def main() -> None:
    """Measure every shape; print the rows and a table."""
    parser = parser_of(__doc__, repeats=9)
    parser.add_argument(
        "--shapes", choices=list(SHAPES), nargs="+", default=list(SHAPES), help="default: all"
    )
    options = parser.parse_args()
    rows = Rows(options.json)
    columns = ("shape", "case", "ms per batch", "speed relative to per bin", "share of a step")
    table = Table(*columns, title="sampling and feeding")
    for shape in options.shapes:
        shapes, seconds = measure(shape, options.repeats)
        step = statistics.median(seconds["step"])
        for name, values in seconds.items():
            reference = seconds.get(REFERENCES.get(name, ""))
            share = statistics.median(values) / step
            line = row(f"{shape}, {name}", shapes, values, reference, share=share)
            rows(line)
            faster = f"{line['ratio']:.3g}" if reference else ""
            table.add_row(shape, name, spread(values), faster, f"{100 * share:.2f} %")
    show(table)


if __name__ == "__main__":
    main()
