"""Orbax checkpoints of everything that the next step depends on."""

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

from jaxtal.errors import CheckpointError
from jaxtal.parallel.multihost import broadcast_from_primary
from jaxtal.training import checkpoint_integrity
from jaxtal.training.train_state import TrainState


class Checkpoints:
    """The folder `checkpoints/` of a run: the latest two steps and the best on the test set.

    Beside the training state a checkpoint holds `progress`, a JSON object: the evaluation done at
    its step and the best one so far. A checkpoint that was cut short is never chosen, see `seals`.
    All processes of a job write what their devices hold, and read what their devices need.
    """

    def __init__(self, folder: Path, writes: bool = False):
        """Open the folder.

        Args:
            folder: of a run, which may be going on if it is only read.
            writes: what earlier runs left unfinished is deleted, and `save` may be called.
        """
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
        """Called when a checkpoint is written, but has not its own name yet."""
        if jax.process_index() == 0:
            for folder in self._manager.directory.glob("*.orbax-checkpoint-tmp*"):
                checkpoint_integrity.write_manifest(Path(folder))

    def latest_step(self) -> int | None:
        """The last complete checkpoint's step."""
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int, progress: dict, criterion: float = -1) -> None:
        """Start writing; the state may be donated as soon as this returns.

        Args:
            state: what to save.
            step: its step.
            progress: JSON object saved beside it.
            criterion: the number by which the best checkpoint is kept; less than any evaluation's
                where there was none.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
            ),
            metrics={"criterion": criterion},
        )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state and progress saved at `step`; `like` gives shapes, types and placement.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another version of this program.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._restore(step, ocp.args.StandardRestore(abstract))

    def restore_variables(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """All members' variables saved at `step`, whatever the config was, and progress.

        Returns:
            {"params": ..., and the model's other collections}, NumPy arrays with a leading axis M;
            and progress.

        Raises:
            CheckpointError: as of `restore`.
        """
        folder = self._manager.directory / str(step) / "state"
        with (
            self._translate_errors(step),
            contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler,
        ):
            saved = handler.metadata(folder).tree
            wanted = {name: saved[name] for name in ("params", "model_state")}
        # As NumPy arrays: the devices on which they were saved may not be here.
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        how = ocp.args.PyTreeRestore(wanted, restore_args=as_arrays, partial_restore=True)
        state, progress = self._restore(step, how)
        return {"params": state["params"], **state["model_state"]}, progress

    def _restore(self, step: int, state) -> tuple[Any, dict[str, Any]]:
        wanted = ocp.args.Composite(state=state, progress=ocp.args.JsonRestore())
        with self._translate_errors(step):
            restored = self._manager.restore(step, args=wanted)
        return restored["state"], restored["progress"]

    @contextlib.contextmanager
    def _translate_errors(self, step: int) -> Iterator[None]:
        """CheckpointError for a checkpoint that is not as it was written."""
        try:
            yield
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self._manager.directory / str(step)}: this checkpoint cannot be read "
                f"({str(error)[:200]}); delete the folder to continue from the one before, or give "
                "another workdir=..."
            ) from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        """Close; an error on the way, which may be why, is the one that is told."""
        if kind is None:
            self.close()
            return
        if jax.process_count() > 1:  # the others may not have failed: they would be waited for
            return
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.close()

    def wait(self) -> None:
        """The same, to go on."""
        self._manager.wait_until_finished()


class _Manager(ocp.CheckpointManager):
    """Orbax's, of which every process of a job decides the same."""

    def reached_preemption(self, step: int) -> bool:
        """Return False: the trainer polls; a second poll would desynchronize the processes."""
        return False

    def should_save(self, step: int) -> bool:
        """What the first process finds: another may see an older state of a shared folder."""
        return bool(broadcast_from_primary(int(super().should_save(step))))


def _wait_for_all(*, key: str, timeout_ms: int) -> None:
    """Orbax's barrier; but who has failed does not wait, so that all learn of it by its end."""
    if (failed := sys.exc_info()[1]) is not None:
        raise failed
    multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)
