"""Localization: from activation sequences to detections, in NumPy ([docs][localization])."""

from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.proposals import localize, localize_videos

__all__ = ["LocalizationConfig", "localize", "localize_videos"]
