"""Protocol names, which are frozen, and switches."""

import numpy as np
import pytest

from jaxtal.errors import JaxtalError
from jaxtal.evaluation import protocols

SECONDS = ("all", "seconds", "judged", "nearest")
CO2 = ("all", "rounded_truth", "left_out", "nearest")
D2 = ("all", "whole_snippets", "left_out", "first")


@pytest.mark.parametrize(
    ("name", "rules"),
    {
        "thumos14": SECONDS,
        "thumos_210": SECONDS,
        "anet12": SECONDS,
        "anet13": SECONDS,
        "official": SECONDS,
        "thumos_co2": CO2,
        "co2": CO2,
        "anet12_co2": (*CO2[:2], "judged", CO2[3]),
        "thumos_d2": ("labeled", *D2[1:]),
        "d2": D2,
        "anet12_d2": (*D2[:2], "judged", D2[3]),
    }.items(),
)
def test_what_the_names_mean(name, rules):
    protocol = protocols.get(name)
    assert (protocol.truth, protocol.times, protocol.ambiguous, protocol.matching) == rules
    first, count = (0.5, 10) if name.startswith("anet") else (0.1, 9)
    step = 0.05 if name.startswith("anet") else 0.1
    np.testing.assert_allclose(protocol.thresholds, first + step * np.arange(count))
    averages = [(0.5, 0.95)] if name.startswith("anet") else [(0.1, 0.5), (0.1, 0.7), (0.1, 0.9)]
    assert list(protocol.averages) == averages
    assert protocol.ap == "interpolated"
    assert not protocol.stop_at_empty_class
    assert len(protocol.excluded_videos) == (2 if name == "thumos_210" else 0)


def test_there_are_no_other_protocols():
    assert len(protocols.PROTOCOLS) == 11
    assert all(protocol.name == name for name, protocol in protocols.PROTOCOLS.items())


def test_switches():
    assert protocols.get("thumos14+numpy_ties").matching == "published"
    assert protocols.get("d2+stop_at_empty_class").stop_at_empty_class
    for name, message in {
        "thumos": r"'thumos': it must be one of thumos14, ",
        "thumos14+x": r"'thumos14\+x': switches are numpy_ties, stop_at_empty_class",
        "d2+numpy_ties": r"whose matching is 'nearest', that of d2 is 'first'; omit it",
        "co2+stop_at_empty_class": r"whose matching is 'first', that of co2 is 'nearest'",
    }.items():
        with pytest.raises(JaxtalError, match=message):
            protocols.get(name)
