"""Training and evaluation, the same for every method."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtal import console, data, methods, plots
from jaxtal.checkpoints import Checkpoints
from jaxtal.errors import UserError
from jaxtal.inference import Inference, assess, protocols
from jaxtal.sampling import pack
from jaxtal.segments import Segments
from jaxtal.step import TrainState, hyper_from, init_state, train_step
from jaxtal.workdir import Workdir

MAX_SKIPPED_IN_ROW = 10


def train_and_evaluate(config, workdir: Path, mode: str = "train") -> dict[str, Any]:
    """Run a config in a work directory, from its latest checkpoint if there is one.

    What resumes: the parameters, Adam's moments, the model's other variables, the step (which with
    the seed gives every random choice), the counters of skipped updates and the best evaluation.

    Args:
        config: an ml_collections config, see configs/co2net_thumos.py.
        workdir: folder for everything that the run writes.
        mode: "train", or "eval" to evaluate the latest checkpoint only.

    Returns:
        What result.json holds.
    """
    method = methods.get(config.method)
    dataset = data.load(config.data)
    _check_counts(config)
    method.check(dataset, config)
    protocols(method, dataset, config.evaluation.protocol)
    console.describe(dataset)
    files = Workdir(workdir)
    if mode == "eval" and not files.has_checkpoint():
        raise UserError(
            f"{workdir} has no checkpoint to evaluate; train first, without --mode=eval"
        )
    files.open(config.to_dict())
    checkpoints = Checkpoints(files.checkpoints)
    try:
        run = Run(config, method, dataset, files, checkpoints)
        if mode == "train":
            run.train()
        return run.finish()
    finally:
        checkpoints.close()


def _check_counts(config) -> None:
    """Raise UserError for a count that leaves nothing to do, or no end."""
    train = config.train
    counts = {
        "train.batch_size": train.batch_size,
        "train.log_every": train.log_every,
        "train.eval_every": train.eval_every,
        "data.num_snippets": config.data.num_snippets,
    }
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"config.{name} is {value}; it must be at least 1")
    if train.steps < 0:
        raise UserError(f"config.train.steps is {train.steps}; it must be at least 0")


class Run:
    """One training run: compiled programs, the state, and the progress that is saved with it."""

    def __init__(self, config, method, dataset, files: Workdir, checkpoints: Checkpoints):
        self.config, self.method, self.dataset = config, method, dataset
        self.files, self.checkpoints = files, checkpoints
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.model = method.build(config.model, len(dataset.classes))
        self.hyper = hyper_from(config)
        self.inference = Inference(method, self.model, dataset.test, len(dataset.classes))
        self.progress: dict[str, Any] = {"evaluation": None, "best": None}
        self.latest: tuple[dict, Segments, list] | None = None
        self.state = self._initial_state()
        with self._timed("compile"):
            self.inference.compile(self._variables())

    def _timed(self, what: str) -> "console.Timer":
        return console.Timer(self.seconds, what)

    def _variables(self) -> dict[str, Any]:
        return {"params": self.state.params, **self.state.model_state}

    def _initial_state(self) -> TrainState:
        """Fresh, or as the latest checkpoint has it."""
        init = jax.jit(functools.partial(init_state, self.model), static_argnames="feature_width")
        state = init(self.hyper, feature_width=self.dataset.feature_width)
        step = self.checkpoints.latest_step()
        if step is None:
            self.files.cut_metrics(-1)
            return state
        state, self.progress = self.checkpoints.restore(step, state)
        self.files.cut_metrics(step)
        console.say(f"continuing from step {step}")
        return state

    def _compile_step(self, train_data):
        step = functools.partial(
            train_step, model=self.model, method=self.method, config=self.config
        )
        with self._timed("compile"):
            lowered = jax.jit(step, donate_argnums=0).lower(self.state, self.hyper, train_data)
            compiled = lowered.compile()
        cost = compiled.cost_analysis() or {}
        gflop = cost.get("flops", float("nan")) / 1e9
        console.say(f"compiled in {self.seconds['compile']:.1f} s; {gflop:.3g} GFLOP a step")
        return compiled

    def train(self) -> None:
        """Train to `config.train.steps`, evaluating and saving every `config.train.eval_every`."""
        settings = self.config.train
        start = int(self.state.step)
        if start > settings.steps:
            raise UserError(
                f"{self.files.path} is already at step {start}, beyond "
                f"config.train.steps={settings.steps}; raise it or give another --workdir"
            )
        if start == settings.steps:
            return
        train_data = pack(self.dataset.train, len(self.dataset.classes))
        step = self._compile_step(train_data)
        if settings.tensorboard:
            self.files.open_tensorboard(start)
        log = MetricsLog(self.files)
        with console.progress(start, settings.steps) as show:
            while start < settings.steps:
                stop = min(settings.steps, (start // settings.eval_every + 1) * settings.eval_every)
                with self._timed("train"):
                    for index in range(start + 1, stop + 1):
                        self.state, metrics = step(self.state, self.hyper, train_data)
                        log.add(index, metrics)
                        if index % settings.log_every == 0:
                            show(index, log.flush())
                    show(stop, log.flush(wait=True))
                self._check_finite(start, stop)
                self.evaluate()
                start = stop

    def _check_finite(self, start: int, stop: int) -> None:
        skipped, in_row = int(self.state.skipped), int(self.state.skipped_in_row)
        if skipped:
            console.say(f"{skipped} updates so far were not finite and left out")
        if in_row >= MAX_SKIPPED_IN_ROW:
            terms = [
                line for line in self.files.metrics() if line["step"] > start and "loss" in line
            ]
            names = [name for name, value in (terms[-1] if terms else {}).items() if value is None]
            raise UserError(
                f"training diverged: the last {in_row} updates before step {stop} were not finite "
                f"({', '.join(names) or 'gradient'}); lower config.optimizer.learning_rate. The "
                f"last good checkpoint is step {self.checkpoints.latest_step()} in "
                f"{self.files.path}"
            )

    def evaluate(self):
        """Evaluate the present step on the test videos and save a checkpoint with the result.

        Returns:
            The result, the detections, and the model's outputs for every test video.
        """
        step = int(self.state.step)
        if self.latest and self.latest[0]["step"] == step:
            return self.latest
        with self._timed("evaluate"):
            outputs = self.inference(self._variables())
            result, detections = assess(self.method, self.config, self.dataset, outputs)
        result = {"step": step, **result}
        if self.progress["evaluation"] is None or self.progress["evaluation"]["step"] != step:
            best = self.progress["best"]
            if best is None or criterion(result) > criterion(best):
                best = result
            self.progress = {"evaluation": result, "best": best}
            self.files.append_metrics(result)
            self.checkpoints.save(self.state, self.progress, criterion(result))
            console.say(console.one_line(result))
        self.latest = result, detections, outputs
        return self.latest

    def finish(self) -> dict[str, Any]:
        """Evaluate the last step and write result.json, detections.json and the plots."""
        result, detections, outputs = self.evaluate()
        best = self.progress["best"]
        result = {
            "method": self.method.name,
            "data": self.dataset.name,
            "seed": self.config.seed,
            **result,
            "best_on_test": {"selected_by": criterion_name(best), **best},
            "skipped_updates": int(self.state.skipped),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }
        self.files.write_detections(detections, self.dataset)
        self.files.write_result(result)
        plots.draw(self.files, self.config, self.dataset, outputs, detections)
        console.print_result(result, self.files.path)
        return result


class MetricsLog:
    """Means of the steps' metrics, fetched one window late so that the device never waits."""

    def __init__(self, files: Workdir):
        self._files = files
        self._window: list[dict] = []
        self._pending: tuple[int, list[dict]] | None = None
        self._step = 0

    def add(self, step: int, metrics: dict) -> None:
        """Keep the (device) metrics of a step."""
        self._step = step
        self._window.append(metrics)

    def flush(self, wait: bool = False) -> dict[str, float]:
        """Close the window; write the one before it, with `wait` this one too.

        Returns:
            The means written last, for the progress bar.
        """
        written: dict[str, float] = {}
        if self._pending:
            written = self._write(*self._pending)
        self._pending = (self._step, self._window) if self._window else None
        self._window = []
        if wait and self._pending:
            written = self._write(*self._pending)
            self._pending = None
        return written

    def _write(self, step: int, window: list[dict]) -> dict[str, float]:
        fetched = jax.device_get(window)
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        self._files.append_metrics({"step": step, **{k: round(v, 6) for k, v in means.items()}})
        return means


def criterion_name(result: dict) -> str:
    """Which average the best step is selected by: 0.1:0.7 (THUMOS14 style), or the last one."""
    return "0.1:0.7" if "0.1:0.7" in result["average"] else list(result["average"])[-1]


def criterion(result: dict) -> float:
    """The average that the best step on the test set is selected by (METHODS 2.d)."""
    return result["average"][criterion_name(result)]
