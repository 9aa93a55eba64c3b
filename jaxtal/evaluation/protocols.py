"""Named evaluation protocols, as plain objects.

Published quirks are named switches, off by default: ``get("thumos_d2+stop_at_empty_class")``.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxtal.errors import ConfigError

_THUMOS = tuple(np.round(np.arange(0.1, 0.95, 0.1), 2).tolist())
_ACTIVITYNET = tuple(np.round(np.arange(0.5, 0.975, 0.05), 2).tolist())


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation.

    Source: [docs][evaluation-protocols].

    Attributes:
        name: as used in configs, results and on the command line.
        excluded_videos: names of videos whose ground truth and detections are excluded.
        truth: "all" annotated instances, or "labeled": only instances whose class is among the
            labels of their video and that begin before its end (D2-Net's THUMOS14 list, 3,234 of
            3,358 instances).
        times: "seconds", as annotated (official); "rounded_truth", snippets, with the ground truth
            rounded to whole snippets, half to even (CO2-Net); "whole_snippets", the same with
            detections truncated to whole snippets (D2-Net).
        ambiguous: detections that touch an ambiguous interval of their video are "judged" or
            "left_out".
        matching: the instance matched to a detection, of the free ones of its class and video that
            overlap enough: "nearest" (largest t-IoU, then nearest center, then first in the list),
            "published" (largest t-IoU, then the last one in numpy's unstable argsort), or "first"
            (first in the list; D2-Net).
        ap: "interpolated" average precision, under the envelope of the precision; or "plain", the
            mean of the precision at every true positive.
        thresholds: t-IoU thresholds.
        averages: pairs (first, last) of thresholds; the mean over each range is reported.
        lengths: bounds in seconds between extra short, short, medium, long and extra long
            instances in the error analysis (Alwassel et al. 2018).
        best_by: t-IoU threshold whose mAP selects the best step of a training (D2-Net); None for
            an average.
        stop_at_empty_class: set the AP of the first class without detections, and of all classes
            after it, to 0.
    """

    name: str
    excluded_videos: tuple[str, ...] = ()
    truth: str = "all"
    times: str = "seconds"
    ambiguous: str = "judged"
    matching: str = "nearest"
    ap: str = "interpolated"
    thresholds: tuple[float, ...] = _THUMOS
    averages: tuple[tuple[float, float], ...] = ((0.1, 0.5), (0.1, 0.7), (0.1, 0.9))
    lengths: tuple[float, float, float, float] = (3, 6, 12, 18)
    best_by: float | None = None
    stop_at_empty_class: bool = False

    def __post_init__(self):
        for field, known in _OPTIONS.items():
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is {getattr(self, field)!r}; wanted one of {known}")


_OPTIONS = {
    "truth": ("all", "labeled"),
    "times": ("seconds", "rounded_truth", "whole_snippets"),
    "ambiguous": ("judged", "left_out"),
    "matching": ("nearest", "published", "first"),
    "ap": ("interpolated", "plain"),
}
_thumos_co2 = functools.partial(Protocol, times="rounded_truth", ambiguous="left_out")
_thumos_d2 = functools.partial(
    Protocol, times="whole_snippets", ambiguous="left_out", matching="first", best_by=0.5
)
_anet: dict[str, Any] = {
    "thresholds": _ACTIVITYNET,
    "averages": ((0.5, 0.95),),
    "lengths": (30, 60, 120, 180),
}
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("thumos14"),
        _thumos_co2("thumos_co2"),
        _thumos_d2("thumos_d2", truth="labeled"),
        Protocol("thumos_210", excluded_videos=("video_test_0000270", "video_test_0001496")),
        Protocol("anet12", **_anet),
        Protocol("anet13", **_anet),
        _thumos_co2("anet12_co2", **_anet | {"ambiguous": "judged"}),
        _thumos_d2("anet12_d2", **_anet | {"ambiguous": "judged"}),
        # The rules for any other data set.
        Protocol("official"),
        _thumos_co2("co2"),
        _thumos_d2("d2"),
    )
}
"""Protocols by name. Source: [docs][evaluation-protocols]."""

SWITCHES: dict[str, tuple[dict[str, Any], str]] = {
    # Equal scores and equal t-IoU are in the order of numpy's unstable argsort (CO2-Net's and the
    # official evaluator). A reversed instance, which the data sets do not have, still overlaps
    # nothing.
    "numpy_ties": ({"matching": "published"}, "nearest"),
    # D2-Net's loop over classes does not advance its index after a class without detections.
    "stop_at_empty_class": ({"stop_at_empty_class": True}, "first"),
}
"""Defects of the published programs, off by default.

A switch has the fields that it changes, and the `matching` of the programs with the defect. Source:
[docs][evaluation-switches].
"""


def names() -> list[str]:
    """Return the names of all protocols, without switches."""
    return list(PROTOCOLS)


def get(name: str) -> Protocol:
    """Return a protocol by name.

    Args:
        name: a key of `PROTOCOLS`, optionally with `SWITCHES` appended, each after a "+".

    Returns:
        The protocol, with the changes of the switches.

    Raises:
        ConfigError: the protocol or a switch is unknown, or the switch does not apply to the
            protocol.

    Source: [docs][evaluation-protocols].
    """
    base, *switches = name.split("+")
    if base not in PROTOCOLS:
        raise ConfigError(f"protocol {name!r}: it must be one of {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[base]
    for switch in switches:
        if switch not in SWITCHES:
            raise ConfigError(f"protocol {name!r}: switches are {', '.join(SWITCHES)}")
        changes, matching = SWITCHES[switch]
        if PROTOCOLS[base].matching != matching:
            raise ConfigError(
                f"protocol {name!r}: {switch} is a quirk of programs whose matching is "
                f"{matching!r}, that of {base} is {protocol.matching!r}; omit it"
            )
        protocol = dataclasses.replace(protocol, name=name, **changes)
    return protocol


OFFICIAL = {
    "Thumos14reduced": "thumos14",
    "Thumos14": "thumos14",
    "ActivityNet1.2": "anet12",
    "ActivityNet1.3": "anet13",
}
"""Names of the official protocols by data set."""
