"""The training loop, the compiled step, evaluation, and the files of a run."""
