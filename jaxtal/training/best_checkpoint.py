"""Choose a checkpoint of a run: the last one, the best one, or that of a step."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.io import json_files
from jaxtal.errors import CheckpointError
from jaxtal.evaluation.selection import selection_metric
from jaxtal.training.checkpoint_integrity import (
    checkpoint_steps,
    find_damage,
    warn_without_checksums,
)

_FORM = "the progress in a checkpoint"


def choose(folder: Path, which: int | str = "last") -> int:
    """Return the step of the checkpoint to evaluate or to predict with; all its files are verified.

    Args:
        folder: `checkpoints/` of a run.
        which: "last", the newest one; "best", see `best_step`; or the step that the user names.

    Raises:
        CheckpointError: there is no checkpoint, none of that step, none was evaluated, or it is
            damaged. Another one is never chosen unless the user names it.
    """
    steps = checkpoint_steps(folder)
    if not steps:
        raise CheckpointError(
            f"{folder.parent} has no checkpoint; train first, or give another folder"
        )
    chosen = {"last": steps[-1]}.get(str(which), which)
    if chosen == "best":
        chosen = best_step(folder)
    if chosen not in steps:
        raise CheckpointError(
            f"{folder} has no checkpoint={chosen}, only those of the steps "
            f"{', '.join(map(str, steps))}; give one of them, last or best"
        )
    _check_undamaged(folder, int(chosen), steps)
    return int(chosen)


def _check_undamaged(folder: Path, chosen: int, steps: list[int]) -> None:
    if damage := find_damage(folder / str(chosen)):
        others = (one for one in reversed(steps) if one != chosen)
        good = next((one for one in others if not find_damage(folder / str(one))), None)
        hint = "none is good; train again, or give another workdir=..."
        if good is not None:
            hint = f"checkpoint={good} uses another one, which is good"
        raise CheckpointError(
            f"{folder / str(chosen)}: this checkpoint is damaged ({damage}); {hint}"
        )
    warn_without_checksums(folder / str(chosen))


def best_step(folder: Path) -> int:
    """Return the step of the checkpoint with the best evaluation during training.

    A run keeps the last two checkpoints and the best one. The number that is compared is that of
    `selection_metric`: an average mAP, or the mAP at 0.5 under D2-Net's protocols. The evaluation
    is on the validation videos if the run has any, else on the test videos, whose results are then
    too good by construction. Of a population the mean over the members counts that have not
    diverged at the last checkpoint.

    Args:
        folder: `checkpoints/` of a run, with at least one checkpoint.

    Raises:
        CheckpointError: no checkpoint was evaluated.
        DataError: a checkpoint is damaged.
    """
    steps = checkpoint_steps(folder)
    progress = {step: _progress(folder, step) for step in steps}
    with _translate_errors(folder):
        kept = [step is None for step in progress[steps[-1]].get("diverged") or []]
        values = {step: _value(progress[step], step, kept) for step in steps}
    found = {step: value for step, value in values.items() if value is not None}
    if not found:
        raise CheckpointError(
            f"{folder}: no checkpoint was evaluated during training, so that none is the best; "
            "give checkpoint=last, or a step"
        )
    return max(found, key=lambda step: (found[step], -step))


@contextlib.contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    """Raise CheckpointError for a progress of another form than this program saves."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the evaluation in a checkpoint is damaged ({error}), so the best one is "
            "unknown; give checkpoint=last, or a step"
        ) from None


def _progress(folder: Path, step: int) -> dict[str, Any]:
    return json_files.load(folder / str(step) / "progress" / "metadata", _FORM)


def _value(progress: dict[str, Any], step: int, kept: list[bool]) -> float | None:
    """Return the selection metric of a checkpoint; None if it has no evaluation of its own step."""
    results = progress.get("evaluation") or []
    own = [
        one
        for one, wanted in zip(results, kept or [True] * len(results), strict=True)
        if wanted and one and one["step"] == step and "average" in one
    ]
    return float(np.mean([selection_metric(one) for one in own])) if own else None
