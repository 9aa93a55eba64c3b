"""Kill conversions of a data set at random moments, and check what is on disk.

    python -m tests.stress.conversion_kills [--kills 20]

Videos of random features (by default 2,000 of 500 x 2048 float16, 4.1 GB) are converted by the
public command from one layout into another. The conversion is killed at `--kills` random moments.
After a kill, every file with a final name must be complete. The finished conversion must equal an
undisturbed one, byte by byte. The folder needs three times the size of the data set. Prints a JSON
line for each pair of layouts; the exit code is 1 if a check failed.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxtal.data import conversion, inspection
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.io import checksums, feature_files, object_arrays
from jaxtal.data.io.array_files import Place
from jaxtal.data.layouts import manifest
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import JaxtalError

# Pairs of layouts: source, target.
CASES = (("acmnet", "basnet"), ("acmnet", "wtalc"), ("wtalc", "acmnet"))


def make(options: argparse.Namespace) -> LazyDataset:
    """Return videos of different random features, which are computed when they are read."""
    rng = np.random.default_rng(0)
    pool = rng.random((options.snippets + options.videos, options.width)).astype(np.float16)
    seconds = options.snippets * 0.64
    segments, label = np.array([[1.0, 5.5]]), np.array([0])
    videos = [
        Video(f"video_{n:05d}", seconds, label, segments, label, np.empty((0, 2)))
        for n in range(options.videos)
    ]
    numbers = {video.name: number for number, video in enumerate(videos)}
    half = len(videos) // 2
    dataset = Dataset("Large", ("Action",), tuple(videos[:half]), tuple(videos[half:]))

    def of_video(video: Video) -> np.ndarray:
        return pool[numbers[video.name] :][: options.snippets]

    return LazyDataset("random", Path(), dataset, of_video)


def start(source: Path, layout: str, target: Path) -> subprocess.Popen:
    """Start the public command in a new process."""
    command = ["jaxtal", "data", "convert", str(source), str(target), f"--to={layout}"]
    return subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)


def killed(source: Path, layout: str, target: Path, kills: int, seconds: float, rng) -> int:
    """Kill a conversion `kills` times, let it finish, and count the incomplete files found."""
    incomplete, done = 0, 0
    while True:
        process = start(source, layout, target)
        if done < kills:
            try:
                process.wait(rng.uniform(0.5, 0.5 + 2 * seconds / kills))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                done += 1
                process.wait()
                incomplete += sum(not complete(path) for path in target.rglob("*.npy"))
                if (target / manifest.NAME).exists():  # which is written last
                    incomplete += len(inspection.changed_files(target) or ())
                continue
        process.wait()
        if done == kills:
            return incomplete
        shutil.rmtree(target)  # it finished before all kills: start again


def complete(path: Path) -> bool:
    """Return True for a complete file, and for a temporary one, whose name begins with a dot."""
    if path.name.startswith("."):
        return True
    try:
        array = object_arrays.load(path)
        return len(array) > 0 and (
            array.dtype == object or feature_files.feature_shape(Place(path))[0] > 0
        )
    except JaxtalError:
        return False


def campaign(folder: Path, layout: str, other: str, kills: int) -> dict:
    """Convert without kills, then with kills, and compare."""
    source, target = folder / layout, folder / "target"
    begin = time.perf_counter()
    if code := start(source, other, target).wait():
        raise SystemExit(f"the conversion to {other} ended with {code}")
    seconds = time.perf_counter() - begin
    sums = (target / checksums.LIST).read_text()
    shutil.rmtree(target)
    incomplete = killed(source, other, target, kills, seconds, np.random.default_rng(0))
    same = (target / checksums.LIST).read_text() == sums
    shutil.rmtree(target)
    return {"case": f"{layout} to {other}", "kills": kills, "incomplete": incomplete, "same": same}


def main(argv: list[str] | None = None, cases=CASES) -> int:
    """Run all cases and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, number in (("videos", 2000), ("snippets", 500), ("width", 2048), ("kills", 20)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--folder", type=Path, help="for temporary files; default: the system's")
    options = parser.parse_args(argv)
    wrong = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for layout in {source for source, _ in cases}:
            conversion.convert(make(options), layout, Path(name) / layout)
        for case in cases:
            found = campaign(Path(name), *case, options.kills)
            print(json.dumps(found), flush=True)
            wrong += found["incomplete"] + (not found["same"])
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
