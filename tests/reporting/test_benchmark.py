"""The benchmark of the report measures what it says."""

import json
import sys

import pytest

from benchmarks import report


def test_rows(monkeypatch, capsys, tmp_path):
    opened = []

    def browse(program: str, address: str) -> tuple[str, str]:
        opened.append(address.rpartition("/")[2])
        return f'<html data-ready="{100 * len(opened)}.0" data-loaded="250.0">', ""

    monkeypatch.setattr(report, "browse", browse)
    monkeypatch.setattr(report, "chromium", lambda: "chromium")
    file = tmp_path / "rows.jsonl"
    monkeypatch.setattr(
        sys, "argv", f"report --videos 2 --runs 1 --repeats 1 --json {file}".split()
    )
    report.main()
    write, opening = map(json.loads, capsys.readouterr().out.splitlines())
    assert [write, opening] == [*map(json.loads, file.read_text().splitlines())]
    assert write["case"] == "write"
    assert 0 < write["megabytes"] < 1
    assert write["shapes"] == {
        "videos": 2, "runs": 1, "detections": write["shapes"]["detections"]
    }  # fmt: skip
    assert opened == ["report.html", "about:blank"] * 2
    # The first opening does not count; the second page had drawn after 0.3 s.
    assert opening["median_s"] == opening["drawn_s"] == pytest.approx(0.3)
    assert {"process_s", "empty_s"} <= set(opening)
