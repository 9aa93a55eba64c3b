"""Compare the evaluation of detections with loops over rows, in turn, on one core.

    python -m benchmarks.speed.evaluation [--sizes thumos14 activitynet13 many] [--repeats N]

The detections are CO2-Net's, localized in random activations. `ratio` is the median of
`baselines.pandas_frames` divided by this program's. `pandas_frames` is the official evaluator's
loop over rows of pandas frames; `python_loops` is a faster reference, the same loop with the
instances in a dict of arrays. All programs must compute the same mAP. `many` has 100,000
detections in 10,000 videos of 200 classes, and a tenth of both. Needs pandas (extra `test`).
"""

import numpy as np

from benchmarks.speed.localization import evidence, ours
from benchmarks.timing import Rows, interleaved, one_core, parser_of, peak_memory, row
from benchmarks.workloads import SIZES, draw_activations
from configs import co2net_thumos
from jaxtal import methods
from jaxtal.data.segments import Segments
from jaxtal.evaluation import detection_map
from jaxtal.localization.config import LocalizationConfig

# Name: t-IoU thresholds, and the maximum number of detections per video.
EVALUATED: dict[str, tuple[np.ndarray, int | None]] = {
    "thumos14": (np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]), None),
    "activitynet13": (np.arange(50, 100, 5) / 100, 20),
}


def detections(outputs, limit: int | None) -> Segments:
    """Return CO2-Net's detections in snippets.

    Args:
        outputs: outputs of `draw_activations`.
        limit: keep this many detections with the highest scores per video; None keeps all.
    """
    config = co2net_thumos.get_config()
    videos = evidence(methods.get("co2net"), config, outputs)
    found = ours(videos, LocalizationConfig(**config.localization))
    if limit is None:
        return found
    order = np.lexsort((-found.score, found.video))
    return found.take(order[detection_map.rank_in_class(found.video[order]) < limit])


def compare(name: str, repeats: int, rows: Rows) -> None:
    """Measure one data set's size and write its rows.

    Args:
        name: key of `SIZES`.
        repeats: measurements of each program.
        rows: writer of rows.
    """
    try:  # in this function: the package does not depend on pandas
        from benchmarks.baselines import pandas_frames, python_loops
    except ImportError as error:
        raise SystemExit(f"{error}; the reference needs pandas: pip install -e '.[test]'") from None

    size, (thresholds, limit) = SIZES[name], EVALUATED[name]
    truth, outputs = draw_activations(size)
    found = detections(outputs, limit)
    results: dict[str, np.ndarray] = {}

    def call(program: str, function):
        results[program] = function(truth, found, thresholds, size.classes)

    cases = {
        program: lambda program=program, module=module: call(program, module.average_precision)
        for program, module in {
            "pandas_frames": pandas_frames, "python_loops": python_loops, "ours": detection_map
        }.items()
    }  # fmt: skip
    seconds = interleaved(cases, repeats)
    for result in results.values():
        np.testing.assert_allclose(result, results["ours"], rtol=0, atol=1e-12)
    shapes = {
        "videos": size.videos, "classes": size.classes, "instances": len(truth),
        "detections": len(found), "thresholds": len(thresholds),
    }  # fmt: skip
    for program, values in seconds.items():
        peak = {"peak_bytes": peak_memory(cases[program])} if program == "ours" else {}
        reference = None if program == "pandas_frames" else seconds["pandas_frames"]
        rows(row(f"{name}, {program}", shapes | peak, values, reference))


def many(count: int, repeats: int, rows: Rows) -> None:
    """Measure random detections in videos of 200 classes with two instances each.

    Args:
        count: number of detections, ten times the number of videos.
        repeats: number of measurements.
        rows: writer of rows.
    """
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(count // 10), 2)
    start = rng.uniform(0, 100, len(video))
    truth = Segments(video, video % 200, start, start + 20, np.ones(len(video)))
    source = rng.integers(len(video), size=count)
    start = truth.start[source] + rng.normal(0, 8, count)
    label = np.where(rng.random(count) < 0.8, video[source] % 200, rng.integers(200, size=count))
    found = Segments(video[source], label, start, start + 20, rng.random(count))

    def call():
        return detection_map.average_precision(truth, found, EVALUATED["activitynet13"][0], 200)

    (seconds,) = interleaved({"": call}, repeats).values()
    shapes = {
        "videos": count // 10, "classes": 200, "instances": len(truth), "detections": count,
        "thresholds": 10, "peak_bytes": peak_memory(call),
    }  # fmt: skip
    rows(row("many, ours", shapes, seconds))


def main() -> None:
    """Measure every size and print the rows."""
    parser = parser_of(__doc__, repeats=3)
    sizes = [*SIZES, "many"]
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes)
    options = parser.parse_args()
    rows = Rows(options.json)
    one_core()
    for name in options.sizes:
        if name == "many":
            for count in (10_000, 100_000):
                many(count, max(options.repeats, 5), rows)
        else:
            compare(name, options.repeats, rows)


if __name__ == "__main__":
    main()
