"""The means of the steps' metrics on their way from the device to metrics.jsonl."""

from typing import NamedTuple

import jax
import numpy as np

from jaxtal.parallel import sharding
from jaxtal.training.workdir import Workdir


class _Window(NamedTuple):
    """The reports of a window's dispatches, still on the device."""

    step: int
    means: list[dict]
    consecutive_skipped: list[jax.Array]


class MetricsLog:
    """Metrics of windows of steps, fetched one window late so that the device never waits.

    Attributes:
        step: the last step of the window that was fetched last.
        consecutive_skipped: (M,) how many updates were left out in it without a good one between.
        diverged: (M,) bool, members that the means leave out from now on.
    """

    def __init__(self, files: Workdir, members: int):
        self._files, self._members = files, members
        self._open: _Window | None = None
        self._pending: _Window | None = None
        self._last: dict[str, np.ndarray] = {}
        self.step, self.consecutive_skipped = 0, np.zeros(members, int)
        self.diverged = np.zeros(members, bool)

    def add(self, step: int, means: dict, consecutive_skipped: jax.Array) -> None:
        """Keep what a dispatch of steps, the last one `step`, reported: leaves [M]."""
        means, consecutive_skipped = sharding.replicate((means, consecutive_skipped))
        before = self._open or _Window(step, [], [])
        in_row = [*before.consecutive_skipped, consecutive_skipped]
        self._open = _Window(step, [*before.means, means], in_row)

    def flush(self, wait: bool = False) -> dict[str, float]:
        """Close the window; write the one before it, with `wait` this one too.

        Returns:
            The means over members written last, for the progress bar.
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
        """The metrics of which a member's last mean was not finite."""
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
