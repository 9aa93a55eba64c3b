"""Training and evaluation, the same for every method."""

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtal import methods
from jaxtal.config import at_least, at_most, below, one_of
from jaxtal.data import load
from jaxtal.data.dataset import Dataset, warn_of_defects
from jaxtal.data.io import json_files
from jaxtal.data.io.files import disk_is_full
from jaxtal.data.segments import Segments, concatenate
from jaxtal.data.validation import validated
from jaxtal.errors import ConfigError, JaxtalError, NonFiniteError
from jaxtal.evaluation.detection_map import selection_metric, selection_metric_name
from jaxtal.input_pipeline.placement import (
    DTYPES,
    HostStream,
    place_features,
    prefetch,
    trim_host_memory,
)
from jaxtal.parallel import multihost, preemption, sharding
from jaxtal.parallel.mesh import FEATURE_PLACEMENTS, MEMBER_SPEC, mesh_from_config
from jaxtal.train import population, train_step
from jaxtal.train.checkpoints import Checkpoints
from jaxtal.train.evaluator import Evaluator, average_outputs, evaluate_outputs, pick_protocols
from jaxtal.train.metrics_log import MetricsLog
from jaxtal.train.train_state import TrainState
from jaxtal.train.workdir import Workdir, fingerprint, summary_writer
from jaxtal.visualization import plots

_LOG = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 10
PRECISIONS = ("float32", "bfloat16")

# (first step, last step) -> a context that yields show(step, loss terms): a progress bar.
Progress = Callable[[int, int], contextlib.AbstractContextManager[Callable[[int, dict], None]]]


@contextlib.contextmanager
def no_progress(start: int, steps: int) -> Iterator[Callable[[int, dict], None]]:
    """Show nothing."""
    yield lambda step, terms: None


def train_and_evaluate(
    config,
    workdir: str | os.PathLike[str],
    mode: str = "train",
    *,
    dataset: Dataset | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Run a config in a work directory, from its latest checkpoint if there is one.

    Of a job's processes all run this alike; the first one writes (see `mesh`).

    What resumes: of every member the parameters, Adam's moments, the model's other variables, the
    step (which with the seed gives every random choice), the counters of skipped updates, whether
    it has diverged, and the best evaluation.

    Args:
        config: an ml_collections config, see configs/co2net_thumos.py.
        workdir: folder for everything that the run writes.
        mode: "train", or "eval" to evaluate the latest checkpoint only.
        dataset: with all features, in place of the one that `config.data` names. Its name decides
            on the protocol, as `config.data.name` does else.
        progress: makes a context that shows the progress, see `console.progress`.

    Returns:
        What result.json holds.

    Raises:
        ConfigError: something that the user can mend.
        Interrupted: the run was told to stop, and has saved a checkpoint.
    """
    method = methods.get(config.method)
    files = Workdir(workdir, writes=multihost.is_primary_process())
    _check(config, method, files, mode)
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    _describe(mesh)
    generated = dataset is None and not config.data.dir
    dataset = load(config.data) if dataset is None else validated(dataset)
    _check_lengths(dataset, config.data.min_snippets)
    method.validate_dataset(dataset, config)
    pick_protocols(method, dataset, config.evaluation.protocol)
    data_seen = fingerprint(dataset, generated)
    multihost.check_same_on_all_processes(
        json_files.to_text({"config": config.to_dict(), "data": data_seen})
    )
    files.check_data(data_seen)
    files.check_model(dataset.classes, dataset.feature_width)
    _describe_data(dataset)
    files.open(config.to_dict(), data_seen)
    files.write_model(dataset.classes, dataset.grid, dataset.feature_width, dataset.name)
    if mode == "train" and multihost.is_primary_process():
        files.quarantine_truncated()
    saved = _latest_step(files)
    # The features are kept once, packed: what was read is let go, part by part.
    train_data, used = None, 0
    if mode == "train" and saved != config.train.steps:
        train_data = place_features(
            dataset.train, len(dataset.classes), config, "training", mesh=mesh
        )
        dataset = dataclasses.replace(dataset, train=train_data.videos)
        if (features := train_data.data.features) is not None:
            used = features.addressable_shards[0].data.nbytes
    test_data = place_features(dataset.test, len(dataset.classes), config, "test", used, mesh)
    dataset = dataclasses.replace(dataset, test=test_data.videos)
    trim_host_memory()
    with (
        _translate_resource_errors(files),
        Checkpoints(files.checkpoints, mode == "train") as checkpoints,
    ):
        placed = train_data, test_data
        run = Run(config, method, dataset, placed, files, checkpoints, mesh, saved, mode == "train")
        if mode == "train":
            run.train(progress)
        return run.finish()


@contextlib.contextmanager
def _translate_resource_errors(files: Workdir) -> Iterator[None]:
    """UserError where the device's memory or the disk is full."""
    try:
        yield
    except JaxtalError:
        raise
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            raise JaxtalError(
                f"the device's memory is full: {str(error)[:200]}; lower config.population, "
                "config.train.batch_size, or config.data.device_share, so that features are "
                "streamed"
            ) from None
        if (how := disk_is_full(error)) is None:
            raise
        last = files.latest_step()
        kept = "nothing was saved yet" if last is None else f"the checkpoint of step {last} is good"
        raise JaxtalError(
            f"{files.path}: the disk is full ({how}); {kept}: make room, and the same command goes "
            "on from there"
        ) from None


def _latest_step(files: Workdir) -> int:
    """The last whole checkpoint's, as process 0 finds it; -1 if there is none."""
    step = files.latest_step()
    return multihost.broadcast_from_primary(-1 if step is None else step)


def _describe(mesh: jax.sharding.Mesh) -> None:
    """One line, where there are several devices."""
    if jax.device_count() > 1:
        member, data = mesh.devices.shape
        _LOG.info(
            "%d of %d devices in %d processes: %d share the population, %d a batch",
            mesh.size,
            jax.device_count(),
            jax.process_count(),
            member,
            data,
        )


def _describe_data(dataset: Dataset) -> None:
    """Log one line on a data set, and a warning of annotations that cannot be right."""
    half = dataset.feature_width // 2
    _LOG.info(
        "%s: %d training and %d test videos, %d classes, %d + %d features a snippet",
        dataset.name,
        len(dataset.train),
        len(dataset.test),
        len(dataset.classes),
        half,
        half,
    )
    warn_of_defects(dataset.name, (*dataset.train, *dataset.test))


_MINIMUMS = {
    "seed": 0,
    "population": 1,
    "mesh.member": -1,
    "mesh.data": -1,
    "data.device_share": 0,
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
    """Raise ConfigError for what cannot be done with any data, before anything is read or written."""
    at_least(config, _MINIMUMS)
    at_most(config, {"data.device_share": 1})
    one_of(
        config,
        {"precision": PRECISIONS, "data.device_dtype": DTYPES, "mesh.features": FEATURE_PLACEMENTS},
    )
    weights = dict.fromkeys((f"loss.weights.{name}" for name in config.loss.weights), 0)
    for member in population.members_of(config):
        at_least(member, _MINIMUMS | weights)
        below(member, {"seed": 2**32})
        method.validate_config(member)
    if config.train.tensorboard:
        summary_writer()
    done = _latest_step(files)
    if mode == "eval":
        files.last_checkpoint()
    if mode == "train" and done > config.train.steps:
        raise ConfigError(
            f"{files.path} is already at step {done}, beyond config.train.steps="
            f"{config.train.steps}; raise it or give another workdir=..."
        )
    files.check_config(config.to_dict())


def _check_lengths(dataset, min_snippets: int) -> None:
    for part, videos in (("training", dataset.train), ("test", dataset.test)):
        longest = max(len(video.features) for video in videos)
        if longest < min_snippets:
            raise ConfigError(
                f"{dataset.name}: the longest {part} video has {longest} snippets, fewer than "
                f"config.data.min_snippets={min_snippets}; lower it"
            )


def steps_per_dispatch(settings) -> int:
    """Steps of a dispatch, and of a line of metrics: the most that divide `eval_every` evenly.

    Args:
        settings: `config.train`; no more than its `log_every`, or all `steps`.
    """
    most = min(settings.log_every, settings.steps)
    return max(n for n in range(1, most + 1) if settings.eval_every % n == 0)


def dispatch_ends(start: int, stop: int, window: int) -> Iterator[int]:
    """Ends of the windows between two steps: multiples of `window`, wherever a run began."""
    yield from range((start // window + 1) * window, stop, window)
    yield stop


class Run:
    """One training run: compiled programs, the members' state, and the progress saved with it."""

    def __init__(
        self,
        config,
        method,
        dataset,
        placed,
        files: Workdir,
        checkpoints: Checkpoints,
        mesh: jax.sharding.Mesh,
        saved: int,
        records: bool,
    ):
        self.records = records  # evaluations are saved and logged
        self.config, self.method, self.dataset = config, method, dataset
        self.files, self.checkpoints, self.mesh = files, checkpoints, mesh
        self.members = population.members_of(config)
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.model = method.build(config.model, len(dataset.classes))
        self.hyper = sharding.device_put(mesh, population.hypers(self.members), MEMBER_SPEC)
        self.train_data, test_data = placed
        self.inference = Evaluator(method, self.model, dataset.test, config, test_data, mesh)
        self.progress: dict[str, list] = {
            name: [None] * len(self.members) for name in ("evaluation", "best", "diverged")
        }
        self.latest: list[MemberEvaluation] | None = None
        self.step = max(saved, 0)
        self.state = self._initial_state(saved)
        with self._timed("compile"):
            self.inference.compile(self._variables())

    def _timed(self, what: str) -> "Timer":
        return Timer(self.seconds, what)

    def _variables(self) -> dict[str, Any]:
        return {"params": self.state.params, **self.state.model_state}

    def _initial_state(self, saved: int) -> TrainState:
        """Fresh, or as the checkpoint of the step `saved` has it, if that is not negative."""
        with self._timed("compile"):
            fresh = train_step.init_fn(
                self.model, self.config, self.mesh, self.dataset.feature_width
            )
            state = fresh(self.hyper)
        self.files.truncate_metrics(saved)
        if saved < 0:
            params = self.method.initialize(state.params, self.dataset, self.config)
            return state._replace(params=sharding.reshard(self.mesh, params, MEMBER_SPEC))
        state, self.progress = self.checkpoints.restore(saved, state)
        _LOG.info("continuing from step %d", saved)
        return state

    def train(self, progress: Progress = no_progress) -> None:
        """Train to `config.train.steps`, evaluating and saving every `config.train.eval_every`."""
        settings = self.config.train
        start = self.step
        if start == settings.steps:
            return
        window = steps_per_dispatch(settings)
        dispatch = self._dispatcher(start, window)
        if settings.tensorboard:
            self.files.open_tensorboard(start)
        log = MetricsLog(self.files, len(self.members))
        if start and start % settings.eval_every == 0 and not self._is_evaluated(start):
            self.evaluate()  # what an interruption left out
        with progress(start, settings.steps) as show, preemption.defer_sigterm():
            while start < settings.steps:
                stop = min(settings.steps, (start // settings.eval_every + 1) * settings.eval_every)
                with self._timed("train"):
                    for end in dispatch_ends(start, stop, window):
                        dispatch(end, log)
                        show(end, log.flush())
                        self._check_finite(log)
                        if preemption.preemption_requested():
                            self._interrupt(log)
                    show(stop, log.flush(wait=True))
                    self._check_finite(log)
                self._log_skipped_updates()
                self.evaluate()
                start = stop
            self.checkpoints.wait()

    def _interrupt(self, log: MetricsLog) -> None:
        """Save the present step without evaluating it, and raise Interrupted."""
        log.flush(wait=True)
        self._check_finite(log)
        self.checkpoints.save(self.state, self.step, self.progress)
        self.checkpoints.wait()
        raise preemption.Interrupted(f"told to stop (SIGTERM); step {self.step} is saved")

    def _dispatcher(self, start: int, window: int) -> Callable[[int, MetricsLog], None]:
        """A function that trains up to a step, the end of a window, without waiting for the device.

        Features on the device: one dispatch a window. Streamed ones: one a step, the next batches
        being gathered and copied meanwhile.
        """
        streaming = self.train_data.host is not None
        feed: Iterator = itertools.repeat(None)
        like = None
        if streaming:
            seeds = np.array([member.seed for member in self.members], np.uint32)
            stream = HostStream(self.train_data, self.method, self.config, seeds, self.mesh)
            like = jax.tree.map(_shape_of, stream.load(start))
            feed = prefetch(range(start, self.config.train.steps), stream.load)
        program = self._compile(1 if streaming else window, like)
        traces = self._traces(start, window)

        done = start

        def dispatch(end: int, log: MetricsLog) -> None:
            nonlocal done
            with next(traces):
                for stop in range(done + 1, end + 1) if streaming else (end,):
                    number = sharding.device_put(self.mesh, np.int32(stop))
                    self.state, *report = program(
                        self.state, self.hyper, number, self.train_data.data, next(feed)
                    )
                    log.add(stop, *report)
            self.step = done = end

        return dispatch

    def _traces(self, start: int, window: int) -> Iterator[contextlib.AbstractContextManager]:
        """With `config.profile` the second window is traced; the first one may still warm up."""
        if self.config.profile and start + window < self.config.train.steps:
            yield contextlib.nullcontext()
        if self.config.profile:
            yield self._profiled()
        while True:
            yield contextlib.nullcontext()

    @contextlib.contextmanager
    def _profiled(self) -> Iterator[None]:
        jax.block_until_ready(self.state)
        trace = jax.profiler.trace(str(self.files.profile))
        with trace, jax.profiler.StepTraceAnnotation("window", step_num=self.step):
            yield
            jax.block_until_ready(self.state)
        _LOG.info("a trace of some steps is in %s; open it with xprof", self.files.profile)

    def _compile(self, steps: int, streamed):
        """The program of up to `steps` steps of all members."""
        program = train_step.train_fn(self.model, self.method, self.config, self.mesh, steps)
        number = sharding.device_put(self.mesh, np.int32(0))
        arguments = (self.state, self.hyper, number, self.train_data.data, streamed)
        before = self.seconds["compile"]
        with self._timed("compile"):
            compiled = program.lower(*arguments).compile()
        trim_host_memory()
        flops = (compiled.cost_analysis() or {}).get("flops", float("nan"))
        _LOG.info(
            "compiled %d steps a dispatch in %.1f s; %.3g GFLOP a step%s",
            steps,
            self.seconds["compile"] - before,
            flops / 1e9,
            " of all members" if len(self.members) > 1 else "",
        )
        return compiled

    def _check_finite(self, log: MetricsLog) -> None:
        """Mark members of whom too many updates in a row were not finite; stop if no other is."""
        for member in np.flatnonzero(log.consecutive_skipped >= MAX_SKIPPED_IN_ROW):
            self._mark_diverged(int(member), log.step)
        log.diverged = np.array([step is not None for step in self.progress["diverged"]])
        if log.diverged.all():
            names = ", ".join(log.not_finite()) or "gradient"
            raise self._diverged(
                f"{log.consecutive_skipped.max()} updates in a row, the last ones up to step "
                f"{log.step}, were not finite ({names})"
            )

    def _diverged(self, how: str) -> JaxtalError:
        saved = self.checkpoints.latest_step()
        kept = "No checkpoint was saved" if saved is None else f"Step {saved} is the last one saved"
        return ConfigError(
            f"training diverged: {how}; lower config.optimizer.learning_rate. {kept} in "
            f"{self.files.path}"
        )

    def _mark_diverged(self, member: int, step: int) -> None:
        diverged = list(self.progress["diverged"])  # the one before may still be being saved
        if diverged[member] is not None:
            return
        diverged[member] = step
        self.progress = {**self.progress, "diverged": diverged}
        if len(self.members) > 1:
            _LOG.info(
                "member %d (seed %d) has diverged before step %d; the others go on",
                member,
                self.members[member].seed,
                step,
            )

    def _log_skipped_updates(self) -> None:
        if skipped := int(sharding.device_get(self.state.skipped).sum()):
            _LOG.info("%d updates so far were not finite and left out", skipped)

    def evaluate(self) -> "list[MemberEvaluation]":
        """Evaluate the present step on the test videos and save a checkpoint with the result."""
        step = self.step
        if self.latest and self.latest[0].step == step:
            return self.latest
        with self._timed("evaluate"):
            outputs = self.inference(self._variables())
            self.latest = [self._assess(step, *member) for member in enumerate(outputs)]
        results = [assessment.result for assessment in self.latest]
        if not any(results):
            raise self._diverged(f"at step {step} no member's outputs are finite any more")
        if self._is_evaluated(step):
            return self.latest  # the checkpoint's own evaluation, done again
        best = [
            _better(now, before) for now, before in zip(results, self.progress["best"], strict=True)
        ]
        self.progress = {**self.progress, "evaluation": results, "best": best}
        line = population.summary(results)
        if self.records:
            if not any(known["step"] == step and "map" in known for known in self.files.metrics()):
                self.files.append_metrics(line)
            self.checkpoints.save(self.state, step, self.progress, selection_metric(line))
        _LOG.info("%s", _in_one_line(line))
        return self.latest

    def _is_evaluated(self, step: int) -> bool:
        return step in [result["step"] for result in self.progress["evaluation"] if result]

    def _assess(self, step: int, member: int, outputs) -> "MemberEvaluation":
        """A member's result and detections; of one that has diverged there are none."""
        if self.progress["diverged"][member] is None:
            try:
                result, detections = evaluate_outputs(
                    self.method, self.config, self.dataset, outputs
                )
                return MemberEvaluation(step, {"step": step, **result}, detections, outputs)
            except NonFiniteError:
                if len(self.members) == 1:
                    raise
                self._mark_diverged(member, step)
        return MemberEvaluation(step, None, concatenate([]), outputs)

    def finish(self) -> dict[str, Any]:
        """Evaluate the last step and write result.json, detections.json, plots, activations."""
        assessments = self.evaluate()
        grouped = population.groups(self.members, self.config)
        ensembles = [self._ensemble([assessments[i] for i in numbers]) for _, numbers in grouped]
        result = {
            "method": self.method.name,
            "data": self.dataset.name,
            **self._result(assessments, grouped, ensembles),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }
        self.files.write_annotations(self.dataset)
        for member, assessment in enumerate(assessments):
            self._write(self._folder(member), assessment)
        if len(self.members) > 1 and len(ensembles) == 1:
            self._write(self.files.ensemble_dir(), ensembles[0])
        self.files.write_result(result)
        self._draw(next(assessment for assessment in assessments if assessment.result))
        return result

    def _draw(self, shown: "MemberEvaluation") -> None:
        if not self.files.writes:
            return
        plots.draw(
            self.files, self.config, self.dataset, self.method, shown.outputs, shown.detections
        )

    def _ensemble(self, assessments: "list[MemberEvaluation]") -> "MemberEvaluation | None":
        """What the mean of several members' outputs does; those that diverged have no part."""
        outputs = [assessment.outputs for assessment in assessments if assessment.result]
        if len(outputs) < 2:
            return None
        mean = average_outputs(outputs)
        result, detections = evaluate_outputs(self.method, self.config, self.dataset, mean)
        return MemberEvaluation(self.step, {"members": len(outputs), **result}, detections, mean)

    def _result(
        self,
        assessments: "list[MemberEvaluation]",
        grouped: list,
        ensembles: "list[MemberEvaluation | None]",
    ) -> dict[str, Any]:
        """A single run's result, or the population's with every member's."""
        members = [
            self._member_result(member, assessment.result)
            for member, assessment in enumerate(assessments)
        ]
        if len(members) == 1:
            return members[0]
        for member, result in zip(self.members, members, strict=True):
            result["values"] = population.values_of(member, self.config)
        of_groups = [ensemble and ensemble.result for ensemble in ensembles]
        return population.result(members, grouped, of_groups)

    def _member_result(self, member: int, result: dict | None) -> dict[str, Any]:
        best, diverged = (self.progress[name][member] for name in ("best", "diverged"))
        shown: dict[str, Any] = {"step": self.step}
        if result is not None:
            shown = {**result, "best_on_test": {"selected_by": selection_metric_name(best), **best}}
        told = {} if diverged is None else {"diverged": diverged}
        skipped = int(sharding.device_get(self.state.skipped)[member])
        return {"seed": self.members[member].seed, **shown, **told, "skipped_updates": skipped}

    def _folder(self, member: int) -> Workdir:
        return self.files if len(self.members) == 1 else self.files.member_dir(member)

    def _write(self, files: Workdir, assessment: "MemberEvaluation | None") -> None:
        if not files.writes:
            return
        if not assessment or not assessment.result:  # what an earlier end of this run had found
            shutil.rmtree(files.path)
            return
        files.write_detections(assessment.detections, self.dataset)
        if self.config.evaluation.save_activations:
            files.write_activations(
                assessment.outputs, self.dataset, self.method.localization_inputs
            )


class Timer:
    """Add the seconds of a `with` block to `seconds[what]`."""

    def __init__(self, seconds: dict[str, float], what: str):
        self._seconds, self._what = seconds, what

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._what] += time.perf_counter() - self._start


def _in_one_line(result: dict[str, Any]) -> str:
    """Return the averages of an evaluation in one line, per cent."""
    averages = "  ".join(f"{name} {100 * v:.1f}" for name, v in result["average"].items())
    return f"step {result['step']}: mAP {averages} ({result['protocol']})"


def _shape_of(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


class MemberEvaluation(NamedTuple):
    """What a member does on the test videos at a step.

    Attributes:
        step: updates done.
        result: as of `evaluator.evaluate_outputs`, with the step; None if the member has diverged.
        detections: in seconds; none if it has diverged.
        outputs: the model's, for every test video.
    """

    step: int
    result: dict[str, Any] | None
    detections: Segments
    outputs: list[dict[str, np.ndarray]]


def _better(now: dict | None, before: dict | None) -> dict | None:
    """The one with the higher criterion; at a tie the earlier one."""
    if now is None or before is None:
        return now or before
    return now if selection_metric(now) > selection_metric(before) else before
