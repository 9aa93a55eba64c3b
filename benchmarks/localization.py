"""Localization against loops over videos, classes, thresholds and runs, in turn, on one core.

    python -m benchmarks.localization [--sizes thumos14 activitynet13] [--repeats N]

Each method's localization of drawn activations (`untrimmed`), from T-CAM and attention to
detections. Prints one JSON row a case; `ratio` is the median of the loops (`row_loops`) over ours.
Both must find the same segments in the same order. `largest_cluster` is the floor: so many of the
proposals hang together, of which Gaussian soft-NMS must select one after the other.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import row_loops, untrimmed
from benchmarks.timing import interleaved, one_core, peak_memory, row
from configs import (
    co2net_anet12,
    co2net_thumos,
    d2net_anet12,
    d2net_thumos,
    twostream_anet13,
    twostream_thumos,
)
from jaxtal import methods
from jaxtal.data.segments import Segments
from jaxtal.localization import nms, proposals
from jaxtal.methods.base import Method

CONFIGS = {
    "thumos14": (co2net_thumos, d2net_thumos, twostream_thumos),
    "activitynet13": (co2net_anet12, d2net_anet12, twostream_anet13),
}


def evidence(method: Method, config, outputs) -> Iterator[Any]:
    """What each video's proposals are made of, from CO2-Net's form of outputs."""
    for output in outputs:
        cas, attention = output["cas"], output["attention"]
        pooled = proposals.topk_mean(cas, max(1, len(cas) // 8))
        if method.name == "d2net":  # probabilities, without background
            output = {"cas": 1 / (1 + np.exp(-cas[:, :-1] + 3)), "attention": attention}
        output = {**output, "scores": proposals.softmax(pooled)[None]}
        yield method.score_spec(config).compute(output)


def ours(videos, settings) -> Segments:
    """Detections in all videos, in rows."""
    return nms.apply_nms(proposals.generate_all_proposals(videos, settings), settings)


def loops(videos, settings) -> np.ndarray:
    """The same as rows of video, class, start, end and score."""
    return np.array(
        [
            (index, *found)
            for index, (sequence, gate, scores) in enumerate(videos)
            for found in row_loops.localize(sequence, gate, scores, settings)
        ]
    )


def check_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """The same segments with the same scores, in the same order except where scores are equal."""
    np.testing.assert_array_equal(found[:, :2], wanted[:, :2])
    np.testing.assert_allclose(found[:, 4], wanted[:, 4], rtol=0, atol=1e-9)
    found, wanted = (rows[np.lexsort(rows.T[::-1])] for rows in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def compare(name: str, module, repeats: int) -> None:
    """One method at one size."""
    size, config = untrimmed.SIZES[name], module.get_config()
    method = methods.get(config.method)
    settings = method.localization_config_cls(**config.localization)
    _, outputs = untrimmed.draw(size)
    videos = list(evidence(method, config, outputs))
    results: dict[str, Any] = {}
    cases = {
        "loops": lambda: results.update(loops=loops(videos, settings)),
        "ours": lambda: results.update(ours=ours(videos, settings)),
    }
    seconds = interleaved(cases, repeats)
    found, wanted = results["ours"], results["loops"]
    columns = np.stack([found.video, found.label, found.start, found.end, found.score], axis=1)
    check_same(columns, wanted)
    given = proposals.generate_all_proposals(videos, settings)
    group = given.video * size.classes + given.label
    clusters = np.bincount(nms.clusters(given.start, given.end, group))
    shapes = {
        "videos": size.videos, "classes": size.classes, "nms": settings.nms,
        "snippets": sum(len(output["cas"]) for output in outputs), "proposals": len(given),
        "detections": len(found), "largest_cluster": int(clusters.max()),
        "peak_bytes": peak_memory(lambda: ours(videos, settings)),
    }  # fmt: skip
    print(row(f"{name}, {method.name}, loops", shapes, seconds["loops"], None), flush=True)
    print(
        row(f"{name}, {method.name}, ours", shapes, seconds["ours"], seconds["loops"]), flush=True
    )


def main() -> None:
    """Measure every method at every size, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    one_core()
    for name in options.sizes:
        for module in CONFIGS[name]:
            compare(name, module, options.repeats)


if __name__ == "__main__":
    main()
