"""Compare localization with loops over videos, classes, thresholds and runs, on one core.

    python -m benchmarks.speed.localization [--sizes thumos14 activitynet13] [--repeats N]

Measures each method's localization of random activations (`workloads.draw_activations`), from
T-CAM and attention to detections, in turn with the loops (`baselines.python_loops`); `ratio` is the
median of the loops divided by jaxtal's. Both must find the same segments in the same order.
`largest_cluster` is the number of sequential steps of Gaussian soft-NMS: the largest number of
proposals that are connected by overlaps.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.baselines import python_loops
from benchmarks.timing import Rows, interleaved, one_core, parser_of, peak_memory, row
from benchmarks.workloads import CONFIGS, SIZES, draw_activations
from jaxtal import methods
from jaxtal.data.segments import Segments
from jaxtal.localization import nms, proposals
from jaxtal.methods.base import Method


def evidence(method: Method, config, outputs) -> Iterator[Any]:
    """Yield the inputs of proposal generation for each video.

    Args:
        method: method whose score specification is used.
        config: config of the method.
        outputs: outputs of `draw_activations`, in CO2-Net's form.
    """
    for output in outputs:
        cas, attention = output["cas"], output["attention"]
        pooled = proposals.topk_mean(cas, max(1, len(cas) // 8))
        if method.name == "d2net":  # probabilities, without background
            output = {"cas": 1 / (1 + np.exp(-cas[:, :-1] + 3)), "attention": attention}
        output = {**output, "scores": proposals.softmax(pooled)[None]}
        yield method.score_spec(config).compute(output)


def ours(videos, settings) -> Segments:
    """Return jaxtal's detections of all videos.

    Args:
        videos: results of `evidence`.
        settings: localization config.
    """
    return nms.apply_nms(proposals.generate_all_proposals(videos, settings), settings)


def loops(videos, settings) -> np.ndarray:
    """Return the detections of the loops as rows of video, class, start, end and score.

    Args:
        videos: results of `evidence`.
        settings: localization config.
    """
    return np.array(
        [
            (index, *found)
            for index, (sequence, gate, scores) in enumerate(videos)
            for found in python_loops.localize(sequence, gate, scores, settings)
        ]
    )


def check_same(found: Segments, wanted: np.ndarray) -> None:
    """Assert equal segments and scores, in the same order unless scores are equal.

    Args:
        found: jaxtal's detections.
        wanted: detections of the loops.
    """
    ours = np.stack([found.video, found.label, found.start, found.end, found.score], axis=1)
    np.testing.assert_array_equal(ours[:, :2], wanted[:, :2])
    np.testing.assert_allclose(ours[:, 4], wanted[:, 4], rtol=0, atol=1e-9)
    ours, wanted = (rows[np.lexsort(rows.T[::-1])] for rows in (ours, wanted))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-9)


def compare(name: str, config, repeats: int, rows: Rows) -> None:
    """Measure one method at one size and write its rows.

    Args:
        name: key of `SIZES`.
        config: config of the method.
        repeats: measurements of each program.
        rows: writer of rows.
    """
    size, method = SIZES[name], methods.get(config.method)
    settings = method.localization_config_cls(**config.localization)
    _, outputs = draw_activations(size)
    videos = list(evidence(method, config, outputs))
    results: dict[str, Any] = {}
    cases = {
        "loops": lambda: results.update(loops=loops(videos, settings)),
        "ours": lambda: results.update(ours=ours(videos, settings)),
    }
    seconds = interleaved(cases, repeats)
    check_same(results["ours"], results["loops"])
    given = proposals.generate_all_proposals(videos, settings)
    group = given.video * size.classes + given.label
    clusters = np.bincount(nms.clusters(given.start, given.end, group))
    shapes = {
        "videos": size.videos, "classes": size.classes, "nms": settings.nms,
        "snippets": sum(len(output["cas"]) for output in outputs), "proposals": len(given),
        "detections": len(results["ours"]), "largest_cluster": int(clusters.max()),
        "peak_bytes": peak_memory(lambda: ours(videos, settings)),
    }  # fmt: skip
    rows(row(f"{name}, {method.name}, loops", shapes, seconds["loops"]))
    rows(row(f"{name}, {method.name}, ours", shapes, seconds["ours"], seconds["loops"]))


def main() -> None:
    """Measure every method at every size and print the rows."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    options = parser.parse_args()
    rows = Rows(options.json)
    one_core()
    for name in options.sizes:
        for _, thumos, activitynet in CONFIGS.values():
            module = thumos if name == "thumos14" else activitynet
            compare(name, module.get_config(), options.repeats, rows)


if __name__ == "__main__":
    main()
