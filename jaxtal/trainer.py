"""Training and evaluation, the same for every method."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtal import checks, console, data, methods, plots
from jaxtal.checkpoints import Checkpoints
from jaxtal.data.dataset import fingerprint
from jaxtal.errors import UserError
from jaxtal.inference import Inference, assess, pick_protocols
from jaxtal.sampling import pack
from jaxtal.segments import Segments
from jaxtal.step import TrainState, hyper_from, init_state, train_step
from jaxtal.workdir import Workdir, summary_writer

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
    files = Workdir(workdir)
    _check(config, method, files, mode)
    dataset = data.load(config.data)
    _check_lengths(dataset, config.data.min_snippets)
    method.check_data(dataset, config)
    pick_protocols(method, dataset, config.evaluation.protocol)
    data_seen = fingerprint(dataset, generated=not config.data.dir)
    files.check_data(data_seen)
    console.describe(dataset)
    files.open(config.to_dict(), data_seen)
    checkpoints = Checkpoints(files.checkpoints)
    try:
        run = Run(config, method, dataset, files, checkpoints)
        if mode == "train":
            run.train()
        return run.finish()
    finally:
        checkpoints.close()


_MINIMUMS = {
    "seed": 0,
    "data.num_snippets": 1,
    "data.min_snippets": 0,
    "train.steps": 0,
    "train.batch_size": 1,
    "train.log_every": 1,
    "train.eval_every": 1,
    "optimizer.learning_rate": 0,
    "optimizer.weight_decay": 0,
    "evaluation.plot_videos": 0,
}


def _check(config, method, files: Workdir, mode: str) -> None:
    """Raise UserError for what cannot be done with any data, before anything is read or written."""
    weights = dict.fromkeys((f"loss.weights.{name}" for name in config.loss.weights), 0)
    checks.at_least(config, _MINIMUMS | weights)
    checks.below(config, {"seed": 2**32})
    method.check(config)
    if config.train.tensorboard:
        summary_writer()
    done = files.latest_step()
    if mode == "eval" and done is None:
        raise UserError(
            f"{files.path} has no checkpoint to evaluate; train first, without --mode=eval"
        )
    if mode == "train" and done is not None and done > config.train.steps:
        raise UserError(
            f"{files.path} is already at step {done}, beyond config.train.steps="
            f"{config.train.steps}; raise it or give another --workdir"
        )
    files.check_config(config.to_dict())


def _check_lengths(dataset, min_snippets: int) -> None:
    for part, videos in (("training", dataset.train), ("test", dataset.test)):
        longest = max(len(video.features) for video in videos)
        if longest < min_snippets:
            raise UserError(
                f"{dataset.name}: the longest {part} video has {longest} snippets, fewer than "
                f"config.data.min_snippets={min_snippets}; lower it"
            )


class Run:
    """One training run: compiled programs, the state, and the progress that is saved with it."""

    def __init__(self, config, method, dataset, files: Workdir, checkpoints: Checkpoints):
        self.config, self.method, self.dataset = config, method, dataset
        self.files, self.checkpoints = files, checkpoints
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.model = method.build(config.model, len(dataset.classes))
        self.hyper = hyper_from(config)
        self.inference = Inference(method, self.model, dataset.test, len(dataset.classes), config)
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
            params = self.method.initialise(state.params, self.dataset, self.config)
            return state._replace(params=params)
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
        """Evaluate the last step and write result.json, detections.json, plots, activations."""
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
        if self.config.evaluation.save_activations:
            self.files.write_activations(outputs, self.dataset, self.method.localized)
        plots.draw(self.files, self.config, self.dataset, self.method, outputs, detections)
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
