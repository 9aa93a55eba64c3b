"""Interrupted and resumed conversions."""

import contextlib
import dataclasses
import gc
import hashlib
import shutil
import signal
import subprocess
import time
import weakref

import numpy as np
import pytest

from jaxtal.data import conversion, layouts
from jaxtal.data.io import checksums, object_arrays
from jaxtal.data.io.journal import JOURNAL
from jaxtal.data.layouts import manifest
from jaxtal.errors import JaxtalError
from tests.data.layouts.test_layouts import FOLDERS
from tests.helpers import layout_cases
from tests.helpers.command import start


class StoppedError(Exception):
    """Replaces a kill of the process."""


def files(folder) -> dict[str, str]:
    """Return {path: SHA-256} of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stopping_after(videos: int):
    """Return a progress function that ends the conversion after this many more videos."""

    @contextlib.contextmanager
    def progress(total: int, done: int):
        remaining = videos

        def advance():
            nonlocal remaining
            remaining -= 1
            if remaining < 0:
                raise StoppedError

        yield advance

    return progress


@pytest.mark.parametrize("layout", FOLDERS)
def test_an_interrupted_conversion_is_resumed(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(conversion, "_SYNC", 300)  # bytes: between videos
    source = layout_cases.source(layout_cases.dataset())
    conversion.convert(source, layout, tmp_path / "whole")
    wanted = files(tmp_path / "whole")
    for _ in range(20):
        try:
            conversion.convert(source, layout, tmp_path / "cut", progress=stopping_after(1))
            break
        except StoppedError:
            assert not (tmp_path / "cut" / manifest.NAME).exists()
            for path in (tmp_path / "cut").rglob("*.npy"):
                assert object_arrays.load(path).size, path
    assert files(tmp_path / "cut") == wanted
    sums = (tmp_path / "cut" / checksums.LIST).read_text().splitlines()
    assert dict(reversed(line.split("  ")) for line in sums) == {
        name: value for name, value in wanted.items() if name not in (checksums.LIST, manifest.NAME)
    }


@pytest.mark.parametrize("layout", ["wtalc", "acmnet"])
def test_the_last_file_and_line_may_be_damaged(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(conversion, "_SYNC", 1)
    source = layout_cases.source(layout_cases.dataset())
    conversion.convert(source, layout, tmp_path / "whole")
    cut = tmp_path / "cut"
    with pytest.raises(StoppedError):
        conversion.convert(source, layout, cut, progress=stopping_after(5))
    journal = cut / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7])  # a truncated line
    if layout == "wtalc":
        part = next(cut.glob("*.part"))
        part.write_bytes(part.read_bytes() + b"garbage")
    else:
        next(cut.glob("train/*.npy")).unlink()
    conversion.convert(source, layout, cut)
    assert files(cut) == files(tmp_path / "whole")


def test_other_files_in_the_folder_are_kept(tmp_path):
    source = layout_cases.source(layout_cases.dataset())
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(JaxtalError, match=r"holds 'mine\.txt' already; give a new folder"):
        conversion.convert(source, "acmnet", tmp_path)
    assert files(tmp_path).keys() == {"mine.txt"}
    conversion.convert(source, "acmnet", tmp_path / "a")
    before = files(tmp_path / "a")
    conversion.convert(source, "acmnet", tmp_path / "a")  # it is done
    with pytest.raises(JaxtalError, match=r"holds a complete data set already"):
        conversion.convert(source, "basnet", tmp_path / "a")
    assert files(tmp_path / "a") == before
    with pytest.raises(StoppedError):
        conversion.convert(source, "acmnet", tmp_path / "b", progress=stopping_after(2))
    before = files(tmp_path / "b")
    with pytest.raises(
        JaxtalError, match=r"an unfinished conversion with other parameters .*'acmnet'"
    ):
        conversion.convert(source, "basnet", tmp_path / "b")
    assert files(tmp_path / "b") == before
    with pytest.raises(JaxtalError, match=r"layout 'tfds' cannot be written; wanted wtalc"):
        conversion.convert(source, "tfds", tmp_path / "c")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    source = layout_cases.source(layout_cases.dataset())

    def full(_):
        raise OSError(28, "No space left on device")

    for layout in ("acmnet", "wtalc"):
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(JaxtalError, match=r"No space left on device"):
                conversion.convert(source, layout, tmp_path / layout)
        conversion.convert(source, layout, tmp_path / layout)
        layout_cases.assert_same(layouts.read(tmp_path / layout), source)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(name, marks=() if name in ("wtalc", "opentad") else pytest.mark.slow)
        for name in FOLDERS
    ],
)
def test_one_video_is_in_memory_at_a_time(tmp_path, layout):
    source = layout_cases.source(layout_cases.dataset())
    given, most = [], 0

    def of_video(video):
        nonlocal most
        features = np.ones((10, 6), np.float32)
        given.append(weakref.ref(features))
        gc.collect()
        most = max(most, sum(reference() is not None for reference in given))
        return features

    conversion.convert(dataclasses.replace(source, features=of_video), layout, tmp_path)
    assert most == 1  # among the source's arrays; parts may be copied


def test_numpy_reads_what_is_written(tmp_path):
    source = layout_cases.source(layout_cases.dataset())
    conversion.convert(source, "wtalc", tmp_path)
    loaded = np.load(tmp_path / "Tiny-I3D-JOINTFeatures.npy", allow_pickle=True, encoding="bytes")
    for ours, video in zip(loaded, source.videos, strict=True):
        np.testing.assert_array_equal(ours, source.read(video).features)
    labels = np.load(tmp_path / "Tiny-Annotations" / "labels.npy", allow_pickle=True)
    assert labels.tolist()[1] == [source.dataset.classes[0]] * 4


def kill_until_done(source, layout, target, kills, rng, longest):
    """Kill the command this many times, then let it finish."""
    for _ in range(kills):
        process = start(source, target, f"--to={layout}", program="data convert")
        try:
            process.communicate(timeout=rng.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            shutil.rmtree(target)  # finished before the kill: start over
            continue
        for path in target.rglob("*.npy") if target.is_dir() else ():
            if not path.name.startswith("."):
                assert object_arrays.load(path).size, path
    process = start(source, target, f"--to={layout}", program="data convert")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


@pytest.mark.parametrize("layout", ["wtalc", "basnet"])
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_change_nothing(tmp_path, shared, layout, kills):
    source = tmp_path / "source"
    conversion.convert(layouts.read(shared / "audio_wtal"), "acmnet", source)
    begin = time.perf_counter()
    conversion.convert(layouts.read(source), layout, tmp_path / "whole")
    longest = 1.5 + time.perf_counter() - begin
    rng = np.random.default_rng(kills)
    kill_until_done(source, layout, tmp_path / "killed", kills, rng, longest)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.parametrize("layout", ["wtalc", "acmnet"])
def test_a_source_that_was_repaired_meanwhile(tmp_path, layout, monkeypatch):
    """The set of skipped videos has changed: videos must not get each other's features."""
    monkeypatch.setattr(conversion, "_SYNC", 1)
    source = layout_cases.source(layout_cases.dataset())
    damaged = {source.videos[0].name}

    def of_video(video):
        if video.name in damaged:
            raise JaxtalError(f"{video.name} is damaged")
        return source.features(video)

    given = dataclasses.replace(source, features=of_video)
    with pytest.raises(StoppedError):
        conversion.convert(given, layout, tmp_path, skip_damaged=True, progress=stopping_after(2))
    damaged.clear()
    damaged.add(source.videos[-1].name)
    with pytest.raises(JaxtalError, match=r"unfinished conversion with other parameters"):
        conversion.convert(given, layout, tmp_path, skip_damaged=True)


@pytest.mark.parametrize("line", [b"\xff\n", b"{}\n", b"[]\n", b"nothing\n"])
def test_a_journal_of_something_else_is_one_line(tmp_path, line):
    source = layout_cases.source(layout_cases.dataset())
    with pytest.raises(StoppedError):
        conversion.convert(source, "acmnet", tmp_path, progress=stopping_after(2))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes() + line)
    with pytest.raises(JaxtalError, match=r"not the journal of a conversion .*; delete the folder"):
        conversion.convert(source, "acmnet", tmp_path)


def test_a_journal_that_lacks_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_SYNC", 1)
    source = layout_cases.source(layout_cases.dataset())
    with pytest.raises(StoppedError):
        conversion.convert(source, "wtalc", tmp_path, progress=stopping_after(5))
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2] + lines[3:]))
    conversion.convert(source, "wtalc", tmp_path)
    layout_cases.assert_same(layouts.read(tmp_path), source)


def test_widths_are_compared_across_an_interruption(tmp_path):
    source = layout_cases.source(layout_cases.dataset())
    with pytest.raises(StoppedError):
        conversion.convert(source, "acmnet", tmp_path, progress=stopping_after(2))
    wider = dataclasses.replace(source, features=lambda v: np.ones((9, 8), np.float32))
    with pytest.raises(JaxtalError, match=r"8 features a snippet, but .* has 6"):
        conversion.convert(wider, "acmnet", tmp_path)


def test_temporary_files_of_an_interrupted_write_are_removed(tmp_path):
    source = layout_cases.source(layout_cases.dataset())
    with pytest.raises(StoppedError):
        conversion.convert(source, "acmnet", tmp_path, progress=stopping_after(2))
    (tmp_path / f".{checksums.LIST}.tmp").write_text("half")
    conversion.convert(source, "acmnet", tmp_path)
    assert not [name for name in files(tmp_path) if "tmp" in name]
    assert "tmp" not in (tmp_path / checksums.LIST).read_text()
    next(tmp_path.glob("train/*.npy")).unlink()
    with pytest.raises(JaxtalError, match=r"was complete, but train/.* is missing"):
        conversion.convert(source, "acmnet", tmp_path)


def test_one_process_at_a_time(tmp_path):
    source = layout_cases.source(layout_cases.dataset())

    @contextlib.contextmanager
    def progress(total, done):
        with pytest.raises(JaxtalError, match=r"another process is converting to it"):
            conversion.convert(source, "acmnet", tmp_path)
        yield lambda: None

    conversion.convert(source, "acmnet", tmp_path, progress=progress)
    layout_cases.assert_same(layouts.read(tmp_path), source)
