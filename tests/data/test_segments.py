"""Operations on columns of segments."""

import numpy as np

from jaxtal.data.segments import Segments, clip


def test_detections_end_with_their_videos():
    rng = np.random.default_rng(0)
    video = rng.integers(5, size=1000)
    start = rng.uniform(0, 100, 1000)
    found = Segments(video, video % 3, start, start + rng.uniform(0.1, 50, 1000), rng.random(1000))
    durations = np.array([30.0, 60.0, np.inf, 200.0, 1e-3])
    wanted = [
        (v, s, min(e, durations[v]), score)
        for v, s, e, score in zip(found.video, found.start, found.end, found.score, strict=True)
        if s < durations[v]
    ]
    cut = clip(found, durations)
    assert [*zip(cut.video, cut.start, cut.end, cut.score, strict=True)] == wanted
    assert 100 < len(cut) < 900
    assert (cut.end > cut.start).all()
