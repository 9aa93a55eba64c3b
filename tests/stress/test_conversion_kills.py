"""Killed conversions have no incomplete files, and finish like undisturbed ones."""

import json

import pytest

from jaxtal.data import conversion
from tests.stress import conversion_kills


@pytest.mark.parametrize(
    ("videos", "kills"), [(4, 0), pytest.param(1500, 5, marks=pytest.mark.slow)]
)
def test_killed_conversions(tmp_path, capsys, videos, kills):
    arguments = [f"--videos={videos}", "--snippets=5", "--width=6", f"--folder={tmp_path}"]
    code = conversion_kills.main([*arguments, f"--kills={kills}"], conversion_kills.CASES[:1])
    assert code == 0
    assert json.loads(capsys.readouterr().out) == {
        "case": "acmnet to basnet", "kills": kills, "incomplete": 0, "same": True
    }  # fmt: skip


def test_an_incomplete_file_is_detected(tmp_path):
    conversion.convert(
        conversion_kills.make(conversion_kills.argparse.Namespace(videos=4, snippets=5, width=6)),
        "acmnet",
        tmp_path / "data",
    )
    files = sorted((tmp_path / "data").rglob("*.npy"))
    assert all(map(conversion_kills.complete, files))
    files[0].write_bytes(files[0].read_bytes()[:-8])
    assert not conversion_kills.complete(files[0])
