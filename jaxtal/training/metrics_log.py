"""Fetch the metrics of training steps from the devices and write them to metrics.jsonl."""

from typing import NamedTuple

import jax
import numpy as np

from jaxtal.parallel import sharding
from jaxtal.training.workdir import Workdir


class _Window(NamedTuple):
    """Metrics of the dispatches of a window, still on the device."""

    step: int
    means: list[dict]
    consecutive_skipped: list[jax.Array]


class MetricsLog:
    """Metrics of windows of steps, fetched one window late so that the device never waits.

    Attributes:
        step: last step of the most recently fetched window.
        consecutive_skipped: (M,) longest series of skipped updates in that window.
        diverged: (M,) bool, members that are excluded from the means from now on.
    """

    def __init__(self, files: Workdir, members: int):
        self._files, self._members = files, members
        self._open: _Window | None = None
        self._pending: _Window | None = None
        self._last: dict[str, np.ndarray] = {}
        self.step, self.consecutive_skipped = 0, np.zeros(members, int)
        self.diverged = np.zeros(members, bool)

    def add(self, step: int, means: dict, consecutive_skipped: jax.Array) -> None:
        """Add the metrics of one dispatch to the open window.

        Args:
            step: last step of the dispatch.
            means: {metric: [M]}, means over the steps of the dispatch.
            consecutive_skipped: [M], longest series of skipped updates.
        """
        means, consecutive_skipped = sharding.replicate((means, consecutive_skipped))
        before = self._open or _Window(step, [], [])
        in_row = [*before.consecutive_skipped, consecutive_skipped]
        self._open = _Window(step, [*before.means, means], in_row)

    def flush(self, wait: bool = False) -> dict[str, float]:
        """Close the open window and write the previous one.

        Args:
            wait: write the closed window, too, which waits for the devices.

        Returns:
            The last written means over members, for the progress bar; empty if none was written.
        """
        written: dict[str, float] = {}
        if self._pending:
            written = self._write(self._pending)
        self._pending, self._open = self._open, None
        if wait and self._pending:
            written = self._write(self._pending)
            self._pending = None
        return written

    def not_finite(self) -> list[str]:
        """Return the metrics whose last mean was not finite for some member."""
        return [name for name, values in self._last.items() if not np.isfinite(values).all()]

    def _write(self, window: _Window) -> dict[str, float]:
        means, in_row = jax.device_get((window.means, window.consecutive_skipped))
        self.consecutive_skipped = np.max(in_row, axis=0)
        self.step = window.step
        self._last = {name: np.mean([m[name] for m in means], axis=0) for name in means[0]}
        kept = ~self.diverged if self._members > 1 else slice(None)
        line = {name: _mean_of_finite(values[kept]) for name, values in self._last.items()}
        members = {name: values.round(6).tolist() for name, values in self._last.items()}
        detail = {"members": members} if self._members > 1 else {}
        rounded = {name: round(value, 6) for name, value in line.items()}
        self._files.append_metrics({"step": window.step, **rounded, **detail})
        return line


def _mean_of_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
