"""Metrics in metrics.jsonl: fetched one window late, means over windows and members."""

import jax.numpy as jnp
import numpy as np

from jaxtal.training.metrics_log import MetricsLog
from jaxtal.training.workdir import Workdir


def report(*losses: float, in_row: tuple[int, ...] = (0,)):
    return {"loss": jnp.array(losses)}, jnp.array(in_row)


def test_a_window_is_written_when_the_next_one_closes(tmp_path):
    files = Workdir(tmp_path)
    log = MetricsLog(files, 1)
    log.add(2, *report(4.0))
    assert log.flush() == {}
    assert files.metrics() == []
    log.add(4, *report(2.0, in_row=(3,)))
    assert log.flush() == {"loss": 4}
    assert (log.step, *log.consecutive_skipped) == (2, 0)
    assert log.flush(wait=True) == {"loss": 2}
    assert (log.step, *log.consecutive_skipped) == (4, 3)
    assert files.metrics() == [{"step": 2, "loss": 4}, {"step": 4, "loss": 2}]
    assert log.flush(wait=True) == {}


def test_dispatches_of_a_window_are_averaged(tmp_path):
    files = Workdir(tmp_path)
    log = MetricsLog(files, 1)
    for step, loss in enumerate((1.0, 2.0, 6.0), 1):
        log.add(step, *report(loss, in_row=(step,)))
    log.flush(wait=True)
    assert files.metrics() == [{"step": 3, "loss": 3}]
    assert log.consecutive_skipped == [3]


def test_members_are_averaged_and_listed(tmp_path):
    files = Workdir(tmp_path)
    log = MetricsLog(files, 3)
    log.add(1, *report(1.0, np.nan, 2.0, in_row=(0, 1, 0)))
    assert log.flush(wait=True) == {"loss": 1.5}
    assert files.metrics() == [{"step": 1, "loss": 1.5, "members": {"loss": [1.0, None, 2.0]}}]
    assert log.not_finite() == ["loss"]
    assert list(log.consecutive_skipped) == [0, 1, 0]
