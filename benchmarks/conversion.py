"""Converting a large data set: speed against copying it, memory, and being killed.

    python -m benchmarks.conversion [--kills 20]

2,000 videos of 500 x 2048 float16, 4.1 GB, converted by the public command from one layout into
another. `ratio` is the time of copying the source's files, each brought to the disk as the
converter does, over the converter's. `anonymous_mib` is the peak of the memory that the process
holds itself, above what it holds after its imports; mapped files, which the system may drop, are
not in it. With --kills the conversion is killed at random moments so many times, and after each no
file that has its final name may be incomplete; what it ends with must be what an undisturbed one
ends with, byte by byte. The folder needs five times the size of the data set.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.timing import Rows, parser_of, row, show
from jaxtal.data import conversion, inspection
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.io import feature_files, journal, object_arrays
from jaxtal.data.layouts import manifest
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import JaxtalError

# From, to.
CASES = (("acmnet", "basnet"), ("acmnet", "wtalc"), ("wtalc", "acmnet"))


def make(options: argparse.Namespace) -> LazyDataset:
    """Videos of random features, all different, none kept in memory."""
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


def copy(source: Path, target: Path) -> float:
    """Seconds to copy a folder, every file brought to the disk."""
    start = time.perf_counter()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            other = target / path.relative_to(source)
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, other)
            with open(other, "rb+") as file:
                os.fsync(file.fileno())
    return time.perf_counter() - start


def start(source: Path, layout: str, target: Path) -> subprocess.Popen:
    """The public command in a process of its own."""
    command = ["jaxtal", "data", "convert", str(source), str(target), f"--to={layout}"]
    return subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)


def run(source: Path, layout: str, target: Path) -> tuple[float, int]:
    """Seconds of a conversion, and bytes of its own memory above those after the imports."""
    begin = time.perf_counter()
    process = start(source, layout, target)
    first, peak, begun = 0, 0, False
    while process.poll() is None:
        held = anonymous(process.pid)
        begun = begun or (target / journal.JOURNAL).exists()
        first = first if begun else held
        peak = max(peak, held)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the conversion to {layout} ended with {process.returncode}")
    return time.perf_counter() - begin, peak - first


def anonymous(pid: int) -> int:
    """Bytes of a process that belong to no file."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def killed(source: Path, layout: str, target: Path, kills: int, seconds: float, rng) -> int:
    """Kill a conversion `kills` times and let it end; how many incomplete files were found."""
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
                incomplete += sum(not whole(path) for path in target.rglob("*.npy"))
                if (target / manifest.NAME).exists():  # which says that all is there
                    incomplete += len(inspection.changed_files(target) or ())
                continue
        process.wait()
        if done == kills:
            return incomplete
        shutil.rmtree(target)  # it ended before it could be killed as often


def whole(path: Path) -> bool:
    """Whether a file with a final name is complete: temporary ones begin with a dot."""
    if path.name.startswith("."):
        return True
    try:
        array = object_arrays.load(path)
        return len(array) > 0 and (
            array.dtype == object or feature_files.feature_shape(path)[0] > 0
        )
    except JaxtalError:
        return False


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, 3)
    for name, number in (("videos", 2000), ("snippets", 500), ("width", 2048), ("kills", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--folder", type=Path, help="where there is room; default: temporary")
    options = parser.parse_args()
    rows = Rows(options.json)
    table = Table("from, to", "s", "copying / converting", "own memory MiB", "kills survived")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for layout in {source for source, _ in CASES}:
            conversion.convert(make(options), layout, Path(name) / layout)
        for case in CASES:
            line = measure(Path(name), *case, options)
            rows(line)
            content = json.loads(line)
            survived = "all" if content["same"] and not content["incomplete"] else "NOT ALL"
            table.add_row(
                content["case"],
                f"{content['median_s']:.1f}",
                f"{content['ratio']:.2f}",
                f"{content['anonymous_mib']:.0f}",
                f"{survived} of {content['kills']}",
            )
    show(table)


def measure(folder: Path, layout: str, other: str, options: argparse.Namespace) -> str:
    """The row of a conversion from one layout to another."""
    source, target = folder / layout, folder / "target"
    copies, times, memory = [], [], []
    for _ in range(options.repeats):
        copies.append(copy(source, target))
        shutil.rmtree(target)
        seconds, held = run(source, other, target)
        times.append(seconds)
        memory.append(held)
        sums = (target / conversion.SUMS).read_text()
        shutil.rmtree(target)
    rng = np.random.default_rng(0)
    incomplete = killed(source, other, target, options.kills, min(times), rng)
    same = (target / conversion.SUMS).read_text() == sums
    shutil.rmtree(target)
    return row(
        f"{layout} to {other}",
        {name: getattr(options, name) for name in ("videos", "snippets", "width")},
        times,
        copies,
        anonymous_mib=max(memory) / 2**20,
        kills=options.kills,
        incomplete=incomplete,
        same=same,
    )


if __name__ == "__main__":
    main()
