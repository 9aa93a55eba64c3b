"""Localization for tests: settings with the configs' defaults, detections of one video."""

from typing import Any

from jaxtal.configs import common
from jaxtal.data.segments import Segments
from jaxtal.localization import proposals
from jaxtal.localization.config import LocalizationConfig


def settings(**fields: Any) -> LocalizationConfig:
    """Return the defaults of configs/common.py with some fields changed."""
    return LocalizationConfig(**{**common.get_config().localization, **fields})


def localize(method, outputs: dict, config) -> Segments:
    """Return the detections, in rows, from `outputs` ({name: (T, n)})."""
    numbers = method.localization_config_cls(**config.localization)
    return proposals.localize(*method.score_spec(config).compute(outputs), numbers)
