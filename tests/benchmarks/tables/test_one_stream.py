"""The comparison of one stream with halves: rotation of the features, and the table."""

import sys

import numpy as np

from benchmarks.tables import one_stream
from tests.helpers import layout_cases


def test_a_rotation_keeps_lengths_and_angles_and_mixes_the_halves():
    data = layout_cases.dataset()
    turned = one_stream.rotated(data)
    for ours, theirs in zip(turned.videos, data.videos, strict=True):
        one, other = (video.features.astype(np.float64) for video in (ours, theirs))
        np.testing.assert_allclose(one @ one.T, other @ other.T, rtol=1e-5)
    half = data.feature_width // 2
    for video in data.videos:
        video.features[:, :half] = 0
    assert all(video.features[:, :half].any() for video in one_stream.rotated(data).videos)


def test_the_difference_is_paired_by_seed(monkeypatch, capsys):
    def scores(method, dataset, seeds, steps):
        assert (method, seeds, steps) == ("d2net", 3, 7)
        one = len(dataset.stream_widths) == 1
        return np.array([10.0, 20.0, 30.0]) + (5.0 if one else 0.0)

    monkeypatch.setattr(one_stream, "scores", scores)
    monkeypatch.setattr(
        sys, "argv", ["one_stream", "--methods", "d2net", "--seeds", "3", "--steps", "7"]
    )
    one_stream.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == "| d2net | 25.0 ± 10.0 | 20.0 ± 10.0 | +5.0 ± 0.0 |"
