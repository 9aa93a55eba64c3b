"""Axes of features: those that are stated are put in order, others are recognized."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtal.data import axes
from jaxtal.errors import JaxtalError

ALL = sorted(
    {
        "".join(order)
        for extra in ("", "1", "C", "1C", "11")
        for order in itertools.permutations("TD" + extra)
    }
)


def stored(features: np.ndarray, letters: str, crops: int) -> np.ndarray:
    """Return features (T, D) as a file with the axes has them, with equal crops."""
    lengths = {"C": crops, "1": 1}
    order = [letter for letter in "TD" if letter in letters]
    array = features if letters.index("T") < letters.index("D") else features.T
    order = sorted(order, key=letters.index)
    for place, letter in enumerate(letters):
        if letter in lengths:
            array = np.repeat(np.expand_dims(array, place), lengths[letter], axis=place)
    return array


@pytest.mark.parametrize("letters", ALL)
@given(snippets=st.integers(1, 9), width=st.integers(1, 9), crops=st.sampled_from([1, 2, 4]))
def test_axes_are_put_in_order(letters, snippets, width, crops):
    features = np.arange(snippets * width, dtype=np.float32).reshape(snippets, width)
    array = stored(features, letters, crops)
    assert axes.shape_after(array.shape, axes.check(letters)) == (snippets, width)
    np.testing.assert_array_equal(axes.apply(array, letters, "a"), features)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_mean_over_crops(dtype):
    array = np.random.default_rng(0).normal(size=(5, 10, 4)).astype(dtype)
    found = axes.apply(array, "TCD", "a")
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found,
        array.astype(np.float64).mean(1),
        rtol=2 * np.finfo(dtype).eps,
        atol=1e-3 if dtype == np.float16 else 1e-7,
    )
    huge = np.full((2, 10, 3), np.finfo(np.float16).max, np.float16)
    assert (axes.apply(huge, "TCD", "a") == np.finfo(np.float16).max).all()


@pytest.mark.parametrize("letters", ["", "T", "D", "TT", "TDX", "td", "TCCD", "TD11111", "TDT", 3])
def test_axes_that_are_none(letters):
    with pytest.raises(
        JaxtalError, match=r"axes=.*; wanted one letter for each axis .*TCD \(crops"
    ):
        axes.check(letters)


@given(
    st.sampled_from(ALL),
    st.lists(st.integers(17, 400), min_size=3, max_size=20, unique=True),
    st.integers(20, 4096),
    st.integers(2, 16),
)
def test_axes_are_recognized_by_comparing_videos(letters, snippets, width, crops):
    lengths = {"D": width, "C": crops, "1": 1}
    shapes = [tuple(lengths.get(letter, count) for letter in letters) for count in snippets]
    assert axes.recognize(shapes) == letters


def test_axes_that_cannot_be_recognized():
    for shapes in (
        [], [(100, 400)], [(100, 400)] * 9, [(3, 4), (3, 4, 5)], [(9,), (8,)],
        [(100, 2048)] * 50 + [(100, 1024)],  # one video of another network, all rescaled
        [(3, 4), (5, 6), (7, 8)],
    ):  # fmt: skip
        assert axes.recognize(shapes) is None
    assert axes.recognize([(1, 30, 8)]) == "1TD"
    assert axes.recognize([(100, 10, 1024)] * 3) == "TCD"
    assert axes.recognize([(10, 100, 1024)] * 3) == "CTD"


def test_errors_offer_the_axes():
    others = [(90, 10, 64), (30, 10, 64)]
    with pytest.raises(
        JaxtalError,
        match=r"^a: an array of shape \(60, 10, 64\); wanted \(snippets, features\), because "
        r"axes=TD; it looks like \(snippets, crops, features\): give axes=TCD, and the mean",
    ):
        axes.apply(np.ones((60, 10, 64)), "TD", "a", lambda: others)
    with pytest.raises(JaxtalError, match=r"axes=1TD; axes may be TD \(the default\), DT"):
        axes.apply(np.ones((60, 64)), "1TD", "a")
    assert axes.shape_after((60, 64), "1TD") == (60, 64)
    text = np.array(["a"])
    assert axes.apply(text, "DT", "a") is text
