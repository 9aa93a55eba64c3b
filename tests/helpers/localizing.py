"""Detections of one video, as the methods' tests compare them."""

from jaxtal import localization
from jaxtal.data.segments import Segments


def localize(method, outputs: dict, config) -> Segments:
    """Of `outputs` ({name: (T, n)}), in rows."""
    settings = method.localization_config_cls(**config.localization)
    return localization.localize(*method.score_spec(config).compute(outputs), settings)
