"""Prefixes and suffixes of the names of feature files are recognized."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtal.data.affixes import Affix, recognize

NAMES = st.text("abcdefXYZ0123456789_-", min_size=3, max_size=12)
AFFIXES = ("v_", "_feat", ".mp4", "_i3d", "-rgb", "x_", "feature-")


@given(
    st.sets(NAMES, min_size=3, max_size=30),
    st.sampled_from(["", *AFFIXES]),
    st.sampled_from(["", *AFFIXES]),
    st.booleans(),
    st.data(),
)
def test_affixes_are_recognized(names, before, after, of_videos, data):
    """The affix is found, in both directions, unless by chance another one fits as many."""
    long = {name: f"{before}{name}{after}" for name in names}
    kept = data.draw(st.sets(st.sampled_from(sorted(names)), min_size=3))
    videos = set(long.values()) if of_videos else names
    files = kept if of_videos else {long[name] for name in kept}
    if (before, after) == ("", "") or videos & files:
        return
    found = recognize(sorted(videos), sorted(files))
    wanted = {(long[n] if of_videos else n): (n if of_videos else long[n]) for n in kept}
    matched = (
        {v: found.file_name(v) for v in videos if found.file_name(v) in files} if found else {}
    )
    if found == (Affix((before, after)) if of_videos else Affix(added=(before, after))):
        assert wanted.items() <= matched.items()
    else:
        assert found is None or len(matched) >= len(kept)


@pytest.mark.parametrize(
    ("video", "file", "wanted"),
    [
        ("{}", "v_{}", Affix(added=("v_", ""))),
        ("video_{}", "video_{}_feat", Affix(added=("", "_feat"))),
        ("{}.mp4", "{}", Affix(("", ".mp4"))),
        ("{}.mp4", "{}-rgb", Affix(("", ".mp4"), ("", "-rgb"))),
        ("{}.avi", "v_{}_i3d", Affix(("", ".avi"), ("v_", "_i3d"))),
        ("v_{}", "{}", Affix(("v_", ""))),
        ("{}", "{}.mp4", Affix(added=("", ".mp4"))),
        ("a/{}", "b_{}", None),
        ("{}", "1{}", None),  # 001 is not 1001
        ("{}", "{}0", None),
        ("x{}.mp4", "x{}.avi", Affix(("", ".mp4"), ("", ".avi"))),
    ],
)
def test_examples(video, file, wanted):
    videos = [video.format(f"{number:03}") for number in range(50)]
    files = [file.format(f"{number:03}") for number in range(20, 90)]
    found = recognize(videos, files)
    assert found == wanted
    if found:
        assert [found.file_name(name) for name in videos[20:]] == files[:30]


def test_two_affixes_that_fit_equally_many_are_ambiguous():
    videos = ["one", "two", "three"]
    files = [f"{name}_{stream}" for name in videos for stream in ("rgb", "flow")]
    assert recognize(videos, files) is None
    assert recognize(videos, [*files, "three_c"][1:]) is not None  # rgb lacks one
    assert recognize(["a.mp4", "a.avi"], ["a", "b"]) is None


def test_ten_thousand_videos_take_a_second():
    videos = [f"video_test_{number:07}" for number in range(10_000)]
    begin = time.process_time()
    assert recognize(videos, [f"v_{name}_feat" for name in videos]) == Affix(added=("v_", "_feat"))
    assert recognize(videos, [f"other{number}" for number in range(10_000)]) is None
    assert time.process_time() - begin < 4
