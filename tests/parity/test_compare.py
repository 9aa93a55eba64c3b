"""The comparisons accept what rounding changes, and nothing else."""

import dataclasses
import functools

import numpy as np
import pytest

from jaxtal.data.segments import Segments
from jaxtal.localization.nms import apply_nms
from tests.helpers.localizing import settings
from tests.parity.compare import gradient_norm, rows_apart_from, undecided_by_nms

HARD = functools.partial(settings, nms="hard", inclusive_iou=False)


def candidates(seed: int, count: int = 60) -> Segments:
    """Draw segments on a coarse grid of two classes; many t-IoU are exactly 1/2."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 60, count).astype(float)
    return Segments(
        np.zeros(count, int), rng.integers(2, size=count), start,
        start + rng.integers(1, 13, count), rng.permutation(count) / count,
    )  # fmt: skip


def rows(found: Segments) -> np.ndarray:
    return np.stack([found.label, found.start, found.end, found.score], axis=1)


def test_detections_apart_from_ties_are_the_same_under_every_decision():
    """NMS drops ties, keeps them, or drops some: the thresholds 0.5 - 1e-7, 0.5 + 1e-7, noise."""
    compared = changed = 0
    rng = np.random.default_rng(0)
    for seed in range(30):
        drawn = candidates(seed)
        tied = rows(drawn.take(undecided_by_nms(drawn, 0.5)))
        wide = undecided_by_nms(drawn, 0.5, margin=1e-3)
        noisy = dataclasses.replace(drawn, end=drawn.end + rng.uniform(-1e-6, 1e-6, len(drawn)))
        dropping, keeping, some = (
            rows(apply_nms(which, HARD(nms_threshold=threshold)))
            for which, threshold in ((drawn, 0.5 - 1e-7), (drawn, 0.5 + 1e-7), (noisy, 0.5))
        )
        np.testing.assert_array_equal(
            rows_apart_from(dropping, tied), rows_apart_from(keeping, tied)
        )
        hidden = rows(noisy.take(wide))
        np.testing.assert_allclose(
            rows_apart_from(some, hidden), rows_apart_from(dropping, tied), rtol=0, atol=2e-6
        )
        compared += len(rows_apart_from(dropping, tied))
        changed += len(dropping) != len(keeping)
    assert compared > 400
    assert changed > 10


def test_undecided_spreads_to_what_depends_on_it():
    """The t-IoU of a and b is 1/2: c is kept if b is dropped. d overlaps none of them."""
    drawn = Segments(
        np.zeros(4, int), np.zeros(4, int), np.array([0.0, 0, 0, 50]), np.array([16.0, 8, 6, 60]),
        np.array([4.0, 3, 2, 1]),
    )  # fmt: skip
    assert undecided_by_nms(drawn, 0.5).tolist() == [False, True, True, False]
    assert not undecided_by_nms(drawn, 0.51).any()


@pytest.mark.parametrize(
    ("got", "wanted", "equal"),
    [
        (1.0 + 9e-6, 1.0, True),
        (1.0 + 11e-6, 1.0, False),
        (0.002 + 3e-8, 0.002, False),  # relative: 2e-8
        (5e-4 + 9e-8, 5e-4, True),  # absolute: 1e-7
        (5e-4 + 2e-7, 5e-4, False),
        (0.0, 1e-9, True),
    ],
)
def test_norms(got, wanted, equal):
    if equal:
        gradient_norm(got, wanted, 1e-5)
    else:
        with pytest.raises(AssertionError):
            gradient_norm(got, wanted, 1e-5)
