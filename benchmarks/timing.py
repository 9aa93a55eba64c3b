"""Timing shared by the benchmarks: interleaved, warmed up, medians and spreads."""

import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping

import jax
import numpy as np


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, after one warm-up, the cases in turn so that noise hits all alike."""
    for call in cases.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def row(
    name: str,
    shapes: Mapping,
    seconds: list[float],
    reference: list[float] | None,
    ratio: str = "speed",
) -> str:
    """One JSON row: device, versions, shapes, median, spread, ratio to the reference's median.

    Args:
        ratio: "speed", the reference's median over this one, or "cost", the other way round.
    """
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    content = {
        "case": name,
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "shapes": dict(shapes),
        "median_s": middle,
        "quartiles_s": [low, high],
        "repeats": len(seconds),
    }
    if reference:
        speed = statistics.median(reference) / middle
        content["ratio"] = speed if ratio == "speed" else 1 / speed
    return json.dumps(content)


def one_core() -> None:
    """Keep this process on one core, where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold at a time during a call, beyond those before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
