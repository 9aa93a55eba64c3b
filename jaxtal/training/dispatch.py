"""Dispatch compiled windows of training steps without waiting for the devices."""

import contextlib
import itertools
import logging
import time
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxtal.input_pipeline.placement import HostStream, prefetch, trim_host_memory
from jaxtal.parallel import sharding
from jaxtal.training import population, train_step
from jaxtal.training.metrics_log import MetricsLog
from jaxtal.training.setup import Setup
from jaxtal.training.train_state import Hyperparams, TrainState

_LOG = logging.getLogger(__name__)


def steps_per_dispatch(settings: ConfigDict) -> int:
    """Return the number of steps per dispatch, and per line of metrics.jsonl.

    It is the largest divisor of `eval_every` that exceeds neither `log_every` nor `steps`.

    Args:
        settings: `config.train`.
    """
    most = min(settings.log_every, settings.steps)
    return max(n for n in range(1, most + 1) if settings.eval_every % n == 0)


def dispatch_ends(start: int, stop: int, window: int) -> Iterator[int]:
    """Yield the ends of the windows between two steps: multiples of `window`, then `stop`.

    Args:
        start: last step that is done.
        stop: last step to do.
        window: steps per dispatch.
    """
    yield from range((start // window + 1) * window, stop, window)
    yield stop


class Dispatcher:
    """Compiled training steps of all members, dispatched window by window.

    With the features on the device, a window is one dispatch. With streamed features, each step is
    one dispatch, while the next batches are gathered and copied.
    """

    def __init__(
        self,
        setup: Setup,
        model: nn.Module,
        hyper: Hyperparams,
        state: TrainState,
        seconds: dict[str, float],
    ):
        """Compile the training function.

        Args:
            setup: the prepared inputs of the run, with training features.
            model: the method's network.
            hyper: hyperparameters of all members, arrays [M].
            state: training state of all members at the first step; no reference is kept.
            seconds: the compilation time is added to its entry "compile".
        """
        placed = setup.placed["train"]
        self._mesh, self._data = setup.mesh, placed.data
        self._hyper, self._profile_folder = hyper, setup.files.profile
        self._streaming = placed.host is not None
        self._step = max(setup.saved_step, 0)
        steps, like = steps_per_dispatch(setup.config.train), None
        self._feed: Iterator = itertools.repeat(None)
        self._traced = _traced_windows(setup.config, self._step, steps)
        if self._streaming:
            stream = HostStream(
                placed, setup.method, setup.config, _seeds(setup.config), setup.mesh
            )
            steps, like = 1, jax.tree.map(_shape_of, stream.load(self._step))
            self._feed = prefetch(range(self._step, setup.config.train.steps), stream.load)
        self._program = _compile(setup, model, hyper, state, steps, like, seconds)

    def run_to(self, state: TrainState, end: int, log: MetricsLog) -> TrainState:
        """Dispatch the steps up to the end of a window, without waiting for the devices.

        Args:
            state: as returned by the previous call; donated.
            end: last step of the window.
            log: receives the metrics.

        Returns:
            The training state after step `end`.
        """
        traced = next(self._traced)
        with self._profile(state) if traced else contextlib.nullcontext():
            for stop in range(self._step + 1, end + 1) if self._streaming else (end,):
                number = sharding.device_put(self._mesh, np.int32(stop))
                state, *report = self._program(
                    state, self._hyper, number, self._data, next(self._feed)
                )
                log.add(stop, *report)
            if traced:
                jax.block_until_ready(state)
        self._step = end
        return state

    @contextlib.contextmanager
    def _profile(self, state: TrainState) -> Iterator[None]:
        jax.block_until_ready(state)  # so that the trace contains only this window
        trace = jax.profiler.trace(str(self._profile_folder))
        with trace, jax.profiler.StepTraceAnnotation("window", step_num=self._step):
            yield
        _LOG.info("wrote a profiler trace to %s; open it with xprof", self._profile_folder)


def _traced_windows(config: ConfigDict, start: int, window: int) -> Iterator[bool]:
    """Yield whether to trace each window: the second one, since the first may still warm up."""
    several = start + window < config.train.steps
    first, second = config.profile and not several, config.profile and several
    return itertools.chain([first, second], itertools.repeat(False))


def _compile(
    setup: Setup,
    model: nn.Module,
    hyper: Hyperparams,
    state: TrainState,
    steps: int,
    streamed: Any,
    seconds: dict[str, float],
) -> jax.stages.Compiled:
    """Compile up to `steps` steps of all members."""
    program = train_step.train_fn(model, setup.method, setup.config, setup.mesh, steps)
    number = sharding.device_put(setup.mesh, np.int32(0))
    arguments = (state, hyper, number, setup.placed["train"].data, streamed)
    before = seconds["compile"]
    with Timer(seconds, "compile"):
        compiled = program.lower(*arguments).compile()
    trim_host_memory()
    flops = (compiled.cost_analysis() or {}).get("flops", float("nan"))
    _LOG.info(
        "compiled %d steps per dispatch in %.1f s; %.3g GFLOP per step%s",
        steps,
        seconds["compile"] - before,
        flops / 1e9,
        " of all members" if setup.config.population > 1 else "",
    )
    return compiled


def _seeds(config: ConfigDict) -> np.ndarray:
    return np.array([member.seed for member in population.members_of(config)], np.uint32)


def _shape_of(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


class Timer:
    """A context manager that adds the seconds of its block to `seconds[what]`."""

    def __init__(self, seconds: dict[str, float], what: str):
        self._seconds, self._what = seconds, what

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._what] += time.perf_counter() - self._start
