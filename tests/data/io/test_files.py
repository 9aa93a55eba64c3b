"""Atomic writing of files, links and pipes."""

import contextlib
import errno
import os
import threading

import pytest

from jaxtal.data.io.files import atomic_write, storage_fault
from jaxtal.errors import JaxtalError


def test_an_error_keeps_the_previous_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("before")
    with contextlib.suppress(KeyError), atomic_write(path) as file:
        file.write("half")
        raise KeyError
    assert path.read_text() == "before"
    with atomic_write(path) as file:
        file.write("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write("after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with atomic_write(pipe) as file:
        file.write("through")
    reader.join()
    assert read == ["through"]


def test_paths_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "none" / "x.json", tmp_path / ("x" * 300)):
        with pytest.raises(JaxtalError, match="cannot be written"):
            atomic_write(path).__enter__()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "free some space"),
        (errno.EFBIG, "the disk is full", "free some space"),
        (errno.EIO, "reading or writing failed", "check the disk"),
    ],
)
def test_a_fault_of_the_disk_is_found_among_the_causes(number, what, fix):
    said = os.strerror(number)
    wrapped = ValueError("a checkpoint")
    wrapped.__cause__ = OSError(number, said)
    for error in (OSError(number, said), ValueError(f"OS error: {said} [path]"), wrapped):
        assert storage_fault(error) == (f"{what} ({said})", fix)


def test_other_errors_are_no_fault_of_the_disk():
    assert storage_fault(None) is None
    assert storage_fault(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))) is None
