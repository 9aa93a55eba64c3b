"""Save and restore the training state with Orbax."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint import multihost

from jaxtal.data.io import json_files
from jaxtal.errors import CheckpointError
from jaxtal.parallel.multihost import broadcast_from_primary
from jaxtal.training import checkpoint_integrity
from jaxtal.training.checkpoint_fit import shapes_of
from jaxtal.training.train_state import TrainState

_RUN = "run"  # entry of the progress


class Checkpoints:
    """The folder `checkpoints/` of a run: the latest two steps and the best one.

    Beside the training state a checkpoint holds `progress`, a JSON object: the evaluation at its
    step, the best evaluation so far, and the config. A damaged checkpoint is never used, see
    `jaxtal.training.checkpoint_integrity`. In a multi-process job every process writes and reads
    the shards of its own devices.
    """

    def __init__(self, folder: Path, writes: bool = False, run: dict[str, Any] | None = None):
        """Open the folder.

        Args:
            folder: `checkpoints/` of a run; without `writes` the run may still be in progress.
            writes: delete unfinished checkpoints of earlier runs, and allow `save`.
            run: JSON object that every saved checkpoint contains, see `saved_run`.
        """
        self._run = run or {}
        best = policies.BestN(get_metric_fn=lambda metrics: metrics["criterion"], n=1)
        self._manager = _Manager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(
                save_decision_policy=policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best]),
                cleanup_tmp_directories=writes,
                async_options=ocp.AsyncOptions(
                    post_finalization_callback=self._seal, barrier_sync_fn=_wait_for_all
                ),
            ),
        )

    def _seal(self) -> None:
        """Write the manifest; Orbax calls this before it renames a written checkpoint."""
        if jax.process_index() == 0:
            for folder in self._manager.directory.glob("*.orbax-checkpoint-tmp*"):
                checkpoint_integrity.write_manifest(Path(folder))

    def latest_step(self) -> int | None:
        """Return the last step that has a checkpoint, None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in ascending order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, step: int, progress: dict, criterion: float = -1) -> None:
        """Start to write a checkpoint; the state may be donated as soon as this returns.

        Args:
            state: training state of all members.
            step: number of the last step that `state` includes.
            progress: JSON object that is saved beside the state.
            criterion: selection metric by which the best checkpoint is kept; the default, for a
                step without an evaluation, is below every metric.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                progress=ocp.args.JsonSave({**progress, _RUN: {**self._run, "step": step}}),
            ),
            metrics={"criterion": criterion},
        )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Restore the training state and the progress of a step.

        Args:
            step: a step with a checkpoint.
            like: a state with the shapes, dtypes and shardings of the result.

        Returns:
            The state, and the progress that was saved beside it.

        Raises:
            CheckpointError: the checkpoint is damaged, or of an incompatible version.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._restore(step, ocp.args.StandardRestore(abstract))

    def restore_variables(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Restore only the variables of all members, whatever their shapes.

        Args:
            step: a step with a checkpoint.

        Returns:
            The variables, {"params": ..., and the model's other collections}, as NumPy arrays with
            a leading axis M; and the progress that was saved beside them.

        Raises:
            CheckpointError: the checkpoint is damaged, or of an incompatible version.
        """
        wanted = _saved_variables(Path(self._manager.directory), step)
        # As NumPy arrays: the devices that saved them may not exist here.
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        how = ocp.args.PyTreeRestore(wanted, restore_args=as_arrays, partial_restore=True)
        state, progress = self._restore(step, how)
        return {"params": state["params"], **state["model_state"]}, progress

    def _restore(self, step: int, state) -> tuple[Any, dict[str, Any]]:
        wanted = ocp.args.Composite(state=state, progress=ocp.args.JsonRestore())
        with _translate_errors(Path(self._manager.directory), step):
            restored = self._manager.restore(step, args=wanted)
        restored["progress"].pop(_RUN, None)
        return restored["state"], restored["progress"]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        """Close the manager without masking an exception that is already being raised."""
        if kind is None:
            self.close()
            return
        if jax.process_count() > 1:  # closing would wait for processes that have not failed
            return
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """Block until pending saves have finished, then close the manager."""
        self._manager.close()

    def wait(self) -> None:
        """Block until pending saves have finished."""
        self._manager.wait_until_finished()


def saved_run(folder: Path, step: int) -> dict[str, Any]:
    """Read the config and the description of the model in a checkpoint.

    Args:
        folder: `checkpoints/` of a run.
        step: a step with a checkpoint.

    Returns:
        {"config": as in config.json, "model": as in model.json}; {} for a checkpoint that was
        converted or written by an earlier version.

    Raises:
        CheckpointError: it is the checkpoint of another step, whose folder was renamed.
        DataError: the checkpoint is damaged.
    """
    path = folder / str(step) / "progress" / "metadata"
    run = json_files.load(path, "the progress in a checkpoint").get(_RUN, {})
    if (own := run.pop("step", step)) != step:
        raise CheckpointError(
            f"{folder / str(step)}: this is the checkpoint of step {own}; rename the folder to "
            f"{own}"
        )
    return run


def saved_shapes(folder: Path, step: int) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the variables in a checkpoint, but not their values.

    Args:
        folder: `checkpoints/` of a run.
        step: a step with a checkpoint.

    Returns:
        {"params/layer/kernel": (M, ...)}, with the model's other collections.

    Raises:
        CheckpointError: the checkpoint is damaged, or of an incompatible version.
    """
    saved = _saved_variables(folder.resolve(), step)
    variables = {"params": saved["params"], **saved["model_state"]}
    return shapes_of(variables)


def _saved_variables(folder: Path, step: int) -> dict[str, Any]:
    """Return the metadata of "params" and "model_state" as trees."""
    with (
        _translate_errors(folder, step),
        contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler,
    ):
        saved = handler.metadata(folder / str(step) / "state").tree
        return {name: saved[name] for name in ("params", "model_state")}


@contextlib.contextmanager
def _translate_errors(folder: Path, step: int) -> Iterator[None]:
    """Raise CheckpointError for errors of reading a damaged checkpoint."""
    try:
        yield
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        if not (folder / str(step)).is_dir():
            raise CheckpointError(
                f"{folder / str(step)}: deleted while it was read, as by a run that still trains; "
                "repeat the command"
            ) from None
        others = [s for s in checkpoint_integrity.checkpoint_steps(folder) if s < step]
        resume = "delete the folder to resume from the previous one, or " if others else ""
        raise CheckpointError(
            f"{folder / str(step)}: this checkpoint is damaged, or of another version "
            f"({str(error)[:200]}); {resume}give another workdir=..."
        ) from None


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, with the same decisions on every process of a job."""

    def reached_preemption(self, step: int) -> bool:
        """Return False: the trainer polls; a second poll would desynchronize the processes."""
        return False

    def should_save(self, step: int) -> bool:
        """Decide on process 0: others may see an older state of a shared folder."""
        return bool(broadcast_from_primary(int(super().should_save(step))))


def _wait_for_all(*, key: str, timeout_ms: int) -> None:
    """Orbax's barrier, skipped on a failing process so that the others notice its exit."""
    if (failed := sys.exc_info()[1]) is not None:
        raise failed
    multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)
