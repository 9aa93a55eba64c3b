"""Removal of the checkpoints that a full disk interrupted."""

import shutil

from jaxtal.training.workdir import Workdir

_PATTERN = "*.orbax-checkpoint-tmp*"  # Orbax's name of a checkpoint until it is complete


def remove_unfinished(files: Workdir) -> None:
    """Remove unfinished checkpoints, so that they do not keep the disk full.

    The next run removes what Orbax still writes in another thread.

    Args:
        files: the work directory, whose checkpoints no other process writes.
    """
    if files.writes:
        for folder in files.checkpoints.glob(_PATTERN):
            shutil.rmtree(folder, ignore_errors=True)
