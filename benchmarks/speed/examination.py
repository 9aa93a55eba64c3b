"""Compare the examination of a data set with the loading of its features.

    python -m benchmarks.speed.examination [--videos 10000] [--snippets 146] [--width 2048]

Writes random float16 features and annotations of that many videos, one file per video (ACM-Net's
layout), in a temporary folder, and measures in turn loading them, as training does, and examining
the loaded data set; `share` is the median of the examination divided by that of loading. The
defaults are the number and, in 16-frame snippets, the mean length of ActivityNet 1.3's training
videos: 7.5 GB. The files are in the page cache, so loading is as fast as it can be.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import Rows, parser_of, row
from jaxtal.data import layouts
from jaxtal.data.examination import examine


def write(folder: Path, videos: int, snippets: int, width: int) -> None:
    """Write a data set of videos of `snippets` to 1.5 times as many snippets.

    Args:
        folder: an empty folder.
        videos: number of videos; two thirds are training videos.
        snippets: smallest number of snippets.
        width: features per snippet.
    """
    rng = np.random.default_rng(0)
    database = {}
    pool = rng.random((2 * snippets, width), np.float32).astype(np.float16)
    mark = rng.random((videos, 8)).astype(np.float16)  # no two videos begin alike
    for subset in ("train", "test"):
        (folder / subset).mkdir()
    for index in range(videos):
        name, subset = f"v{index:05d}", "train" if index % 3 else "test"
        length = int(rng.integers(snippets, 3 * snippets // 2))
        start = int(rng.integers(snippets // 2))
        features = pool[start : start + length].copy()
        features[0, :8] = mark[index]
        np.save(folder / subset / f"{name}.npy", features)
        seconds = length * 16 / 25
        times = np.sort(rng.uniform(0, seconds, (3, 2)))
        database[name] = {
            "subset": subset,
            "duration": seconds,
            "annotations": [{"label": f"c{index % 20}", "segment": t} for t in times.tolist()],
        }
    (folder / "gt.json").write_text(json.dumps({"database": database}))


def main() -> None:
    """Print the row."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--snippets", type=int, default=146)
    parser.add_argument("--width", type=int, default=2048)
    options = parser.parse_args()
    emit = Rows(options.json)
    loading, examining = [], []
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), options.videos, options.snippets, options.width)
        for _ in range(options.repeats):
            start = time.perf_counter()
            dataset = layouts.load_dataset(name)
            loaded = time.perf_counter()
            found = examine(dataset)
            examining.append(time.perf_counter() - loaded)
            loading.append(loaded - start)
            del dataset
    shapes = {name: getattr(options, name) for name in ("videos", "snippets", "width")}
    share = statistics.median(examining) / statistics.median(loading)
    emit(row("loading", shapes, loading))
    emit(row("examination", shapes, examining, share=share, findings=[one.kind for one in found]))


if __name__ == "__main__":
    main()
