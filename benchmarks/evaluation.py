"""Evaluating detections against loops over rows, on the same inputs, in turn, on one core.

    python -m benchmarks.evaluation [--sizes thumos14 activitynet13 many] [--repeats N]

The detections are those of CO2-Net's localization in drawn activations (`untrimmed`). Prints one
JSON row a case; `ratio` is the median of row_frames, the official evaluator's loop over rows of
pandas frames, over this one. In row_loops, a leaner reference, the same loop has the instances in a
dict of arrays. All must give the same mAP. `many` is 100,000 detections in 10,000 videos of 200
classes, and a tenth of each. Needs pandas, which is in the extra `test`.
"""

import argparse

import numpy as np

from benchmarks import untrimmed
from benchmarks.localization import evidence, ours
from benchmarks.timing import interleaved, one_core, peak_memory, row
from configs import co2net_thumos
from jaxtal import methods
from jaxtal.data.segments import Segments
from jaxtal.evaluation import detection_map
from jaxtal.localization.config import LocalizationConfig

# Name: t-IoU thresholds, and how many detections of a video are evaluated.
SIZES: dict[str, tuple[np.ndarray, int | None]] = {
    "thumos14": (np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]), None),
    "activitynet13": (np.arange(50, 100, 5) / 100, 20),
}


def detections(outputs, limit: int | None) -> Segments:
    """CO2-Net's, in snippets; of each video the `limit` best."""
    config = co2net_thumos.get_config()
    videos = evidence(methods.get("co2net"), config, outputs)
    found = ours(videos, LocalizationConfig(**config.localization))
    if limit is None:
        return found
    order = np.lexsort((-found.score, found.video))
    return found.take(order[detection_map.rank_in_class(found.video[order]) < limit])


def compare(name: str, repeats: int) -> None:
    """One data set's size."""
    try:  # here, because the package does not need pandas, which one of them does
        from benchmarks import row_frames, row_loops
    except ImportError as error:
        raise SystemExit(f"{error}; the reference needs it: pip install -e '.[test]'") from None

    size, (thresholds, limit) = untrimmed.SIZES[name], SIZES[name]
    truth, outputs = untrimmed.draw(size)
    found = detections(outputs, limit)
    case = truth, found, thresholds, size.classes
    results: dict[str, np.ndarray] = {}
    cases = {
        program: lambda program=program, function=function: results.update(
            {program: function(*case)}
        )
        for program, function in {
            "row_frames": row_frames.average_precision,
            "row_loops": row_loops.average_precision,
            "ours": detection_map.average_precision,
        }.items()
    }
    seconds = interleaved(cases, repeats)
    for result in results.values():
        np.testing.assert_allclose(result, results["ours"], rtol=0, atol=1e-12)
    shapes = {
        "videos": size.videos, "classes": size.classes, "instances": len(truth),
        "detections": len(found), "thresholds": len(thresholds),
    }  # fmt: skip
    for program, values in seconds.items():
        peak = {"peak_bytes": peak_memory(cases[program])} if program == "ours" else {}
        reference = None if program == "row_frames" else seconds["row_frames"]
        print(row(f"{name}, {program}", shapes | peak, values, reference), flush=True)


def many(count: int, repeats: int) -> None:
    """`count` detections in count / 10 videos of 200 classes, two instances a video."""
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(count // 10), 2)
    start = rng.uniform(0, 100, len(video))
    truth = Segments(video, video % 200, start, start + 20, np.ones(len(video)))
    source = rng.integers(len(video), size=count)
    start = truth.start[source] + rng.normal(0, 8, count)
    label = np.where(rng.random(count) < 0.8, video[source] % 200, rng.integers(200, size=count))
    found = Segments(video[source], label, start, start + 20, rng.random(count))

    def call():
        return detection_map.average_precision(truth, found, SIZES["activitynet13"][0], 200)

    (seconds,) = interleaved({"": call}, repeats).values()
    shapes = {
        "videos": count // 10, "classes": 200, "instances": len(truth), "detections": count,
        "thresholds": 10, "peak_bytes": peak_memory(call),
    }  # fmt: skip
    print(row("many, ours", shapes, seconds, None), flush=True)


def main() -> None:
    """Measure every size, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = [*SIZES, "many"]
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    one_core()
    for name in options.sizes:
        if name == "many":
            for count in (10_000, 100_000):
                many(count, max(options.repeats, 5))
        else:
            compare(name, options.repeats)


if __name__ == "__main__":
    main()
