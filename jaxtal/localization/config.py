"""The configuration of localization."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizationConfig:
    """Options of a localization: `config.localization`, with defaults in configs/common.py.

    Source: [docs][localization-differences].

    Attributes:
        thresholds: (first, last, count) of the evenly spaced thresholds.
        inclusive: count an activation that equals a threshold as above it.
        upsample: number of linearly interpolated positions per row of sequence and gate; 1: none.
        min_length: shortest run that becomes a proposal, in positions.
        drop_first_snippet_only: make no proposals at a threshold that only snippet 0 exceeds.
        class_rule: the rule that selects the classes to localize, a key of `CLASS_RULES`.
        class_threshold: the value with which the rule compares the video's class scores.
        topk_divisor: the class score is the mean of the max(1, floor(T / divisor)) largest
            activations.
        class_weight: weight gamma of the class score in a proposal's score.
        outer_ratio: length of each flank (outer region) relative to the proposal's length.
        outer: the form of the contrast, see `outer_inner_contrast`.
        min_contrast: drop proposals with a smaller contrast before NMS; None keeps all.
        nms: the form of non-maximum suppression, a key of `NMS`.
        sigma: width of the Gaussian soft-NMS.
        nms_threshold: the t-IoU from which hard NMS drops a proposal and linear soft-NMS lowers
            its score.
        inclusive_iou: compute the t-IoU of the NMS with lengths + 1, as CO2-Net's published
            program.
        min_score: drop detections with a lower score after NMS; None keeps all, as published.
        relative_score: drop detections with a score below this fraction of the best one after
            NMS; if the best score is negative, drop all. None keeps all.
        relative_to: the best score of the same class of the video ("class"), or of the whole video
            ("video").
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
