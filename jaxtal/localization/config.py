"""The configuration of localization."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizationConfig:
    """Numbers of a localization: `config.localization`, with defaults in configs/common.py.

    Attributes:
        thresholds: (first, last, count) of the evenly spaced thresholds.
        inclusive: an activation that equals a threshold counts as above it.
        upsample: sequence and gate are interpolated linearly to so many positions a row.
        min_length: shorter runs (in rows, up-sampled ones) are no proposals.
        drop_first_snippet_only: a threshold that only snippet 0 exceeds yields nothing.
        class_rule: which classes are localized, see `CLASS_RULES`.
        class_threshold: what the rule compares the video's class scores with.
        topk_divisor: the video score pools the floor(T / divisor) largest activations.
        class_weight: share of the video score in a proposal's score (gamma).
        outer_ratio: the outer region is this fraction of the proposal's length on either side.
        outer: how the two flanks are taken together, see `outer_inner_contrast`.
        min_contrast: proposals with less outer-inner contrast are dropped before NMS.
        nms: what happens to what overlaps a better one, see `NMS`.
        sigma: width of the Gaussian soft-NMS.
        nms_threshold: t-IoU from which the hard NMS drops the worse of two and the linear soft-NMS
            scores it down.
        inclusive_iou: the t-IoU of the NMS counts both ends of a segment (lengths + 1), as in
            CO2-Net's published program.
        min_score: detections with less are dropped after NMS; None keeps all, as published.
        relative_score: detections with less than this fraction of the best score are dropped after
            NMS, and all of them if the best is negative; None keeps all.
        relative_to: the best score of the video's same "class", or of the whole "video".
    """

    thresholds: tuple[float, float, int]
    inclusive: bool
    upsample: int
    min_length: int
    drop_first_snippet_only: bool
    class_rule: str
    class_threshold: float
    topk_divisor: int
    class_weight: float
    outer_ratio: float
    outer: str
    min_contrast: float | None
    nms: str
    sigma: float
    nms_threshold: float
    inclusive_iou: bool
    min_score: float | None
    relative_score: float | None
    relative_to: str
