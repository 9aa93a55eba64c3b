"""Named evaluation protocols (METHODS 5.1b): what a mAP is measured with, as plain objects.

Published quirks are switches, named and off: ``get("thumos_d2+stop_at_empty_class")``.
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
    """What a mAP is measured with.

    Attributes:
        name: as used in configs, results and on the command line.
        excluded_videos: names of videos that are left out, ground truth and detections.
        truth: "all" annotated instances, or those "labeled": without the ones whose class is not
            among the labels of their video or that begin after its end (D2-Net's THUMOS14 list,
            3,234 of 3,358 instances).
        times: "seconds", as annotated (official); "rounded_truth", snippet units with the ground
            truth rounded to whole snippets, half to even (CO2-Net); "whole_snippets", detections
            too as ranges of whole snippets (D2-Net).
        ambiguous: detections that touch an ambiguous interval of their video are "judged" or
            "left_out".
        matching: which instance a detection takes, of the free ones of its class and video that
            overlap enough: the "nearest" (largest t-IoU, then nearest center, then first), the
            "published" one (largest t-IoU, then what numpy's unstable argsort puts last), or the
            "first" as listed (D2-Net).
        ap: "interpolated" average precision, under the envelope of the precision; or "plain", the
            mean of the precision at every true positive.
        thresholds: t-IoU thresholds.
        averages: pairs (first, last) of thresholds; the mean over them is reported.
        lengths: seconds that separate extra short, short, medium, long and extra long instances
            in the error analysis (Alwassel et al. 2018).
        stop_at_empty_class: from the first class without detections on, every class has an AP of 0.
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
    Protocol, times="whole_snippets", ambiguous="left_out", matching="first"
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

# What the published programs do and nobody should: a switch, the fields that it changes, and the
# matching of the programs that have it.
SWITCHES: dict[str, tuple[dict[str, Any], str]] = {
    # Equal scores and equal t-IoU in the order of numpy's unstable argsort (CO2-Net and the
    # official evaluator; QUIRKS, CO2-Net 12). A reversed instance, of which the data sets have
    # none, still overlaps nothing.
    "numpy_ties": ({"matching": "published"}, "nearest"),
    # The loop over classes does not move on from one without detections (QUIRKS, D2-Net 2).
    "stop_at_empty_class": ({"stop_at_empty_class": True}, "first"),
}


def names() -> list[str]:
    """Return the names of all protocols, without the switches that `get` takes behind them."""
    return list(PROTOCOLS)


def get(name: str) -> Protocol:
    """The protocol called `name`, a key of PROTOCOLS, with any SWITCHES appended after `+`.

    Raises:
        ConfigError: there is no such protocol or switch, or it is not one of that program's.
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
                f"{matching!r}, that of {base} is {protocol.matching!r}; leave it out"
            )
        protocol = dataclasses.replace(protocol, name=name, **changes)
    return protocol


OFFICIAL = {
    "Thumos14reduced": "thumos14",
    "Thumos14": "thumos14",
    "ActivityNet1.2": "anet12",
    "ActivityNet1.3": "anet13",
}
