"""What D2-Net's denoising loss costs: whole training steps with pDMI and without, in turn.

    python -m benchmarks.denoising_cost [--repeats N] [--shapes demo thumos]

One JSON row a case; `ratio` is the median with the denoising loss over the median without. The
program with it is the same in every step: the schedule is a mask inside it.
"""

import argparse
from functools import partial

import jax
import numpy as np

from benchmarks.timing import interleaved, row
from configs import d2net_demo, d2net_thumos
from jaxtal import methods
from jaxtal.data.dataset import Video
from jaxtal.input_pipeline.packing import pack
from jaxtal.train.train_state import hyperparams_from_config, init_state
from jaxtal.train.train_step import train_step

# Name: config, training videos, snippets of each, classes, features a snippet.
SHAPES = {
    "demo": (d2net_demo, 100, 150, 10, 256),
    "thumos": (d2net_thumos, 40, 750, 20, 2048),
}


def videos(count: int, length: int, classes: int, width: int) -> tuple[Video, ...]:
    """Random features; nothing here depends on what is in them."""
    rng = np.random.default_rng(0)
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 1.0, np.array([i % classes]), empty, empty[:, 0], empty,
              rng.random((length, width), np.float32))
        for i in range(count)
    )  # fmt: skip


def compiled_step(config, denoising: str, data, classes: int, width: int):
    """A call that takes the next step, all the way through sampling, gradient and Adam."""
    config.loss.denoising = denoising
    config.loss.denoising_start, config.loss.denoising_every = 0, 1
    method = methods.get(config.method)
    model = method.build(config.model, classes)
    hyper = hyperparams_from_config(config)
    state = jax.jit(partial(init_state, model), static_argnames="feature_width")(
        hyper, feature_width=width
    )
    step = partial(train_step, model=model, method=method, config=config)
    compiled = jax.jit(step, donate_argnums=0).lower(state, hyper, data).compile()

    def run():
        nonlocal state
        state, metrics = compiled(state, hyper, data)
        return metrics

    return run


def main() -> None:
    """Measure every shape, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=0, help="default: 60 demo, 5 thumos")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    options = parser.parse_args()
    for name in options.shapes:
        module, count, length, classes, width = SHAPES[name]
        data = pack(videos(count, length, classes, width), classes)
        cases = {
            kind: compiled_step(module.get_config(), kind, data, classes, width)
            for kind in ("none", "pdmi")
        }
        repeats = options.repeats or {"demo": 60, "thumos": 5}[name]
        seconds = interleaved(cases, repeats)
        config = module.get_config()
        shapes = {
            "batch": config.train.batch_size,
            "snippets": config.data.num_snippets,
            "features": width,
            "classes": classes,
        }
        for kind, values in seconds.items():
            reference = None if kind == "none" else seconds["none"]
            print(row(f"{name}, {kind}", shapes, values, reference, "cost"), flush=True)


if __name__ == "__main__":
    main()
