"""Train and evaluate a run of any method."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxtal.data.dataset import Dataset
from jaxtal.data.io.files import storage_fault
from jaxtal.data.segments import concatenate
from jaxtal.errors import JaxtalError, NonFiniteError
from jaxtal.evaluation.selection import selection_metric
from jaxtal.parallel import preemption, sharding
from jaxtal.parallel.mesh import MEMBER_SPEC
from jaxtal.training import population, train_step
from jaxtal.training.checkpoints import Checkpoints
from jaxtal.training.comparison import as_json
from jaxtal.training.dispatch import Dispatcher, Timer, dispatch_ends, steps_per_dispatch
from jaxtal.training.evaluator import Evaluator
from jaxtal.training.metrics_log import MetricsLog
from jaxtal.training.results import MemberEvaluation, evaluate_member, write_results
from jaxtal.training.setup import Setup, check_kept, model_of, prepare
from jaxtal.training.train_state import TrainState
from jaxtal.training.unfinished import remove_unfinished
from jaxtal.training.workdir import Workdir

_LOG = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 10

# (first step, last step) -> a context that yields show(step, loss terms), e.g. a progress bar.
Progress = Callable[[int, int], contextlib.AbstractContextManager[Callable[[int, dict], None]]]


@contextlib.contextmanager
def no_progress(start: int, steps: int) -> Iterator[Callable[[int, dict], None]]:
    """Show no progress; the default.

    Args:
        start: first step.
        steps: last step.
    """
    yield lambda step, terms: None


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    mode: str = "train",
    *,
    dataset: Dataset | None = None,
    checkpoint: int | str = "last",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Run a config in a work directory; resume from its latest checkpoint if there is one.

    All processes of a job call this with the same arguments; only the primary process writes files.

    A checkpoint restores, for every member, the parameters, Adam's moments, the model's other
    variables, the step (every random key is derived from it and the seed), the counters of skipped
    updates, the divergence mark and the best evaluation.

    Args:
        config: the whole config, for example of configs/co2net_thumos.py.
        workdir: folder for everything that the run writes.
        mode: "train", or "eval" to only evaluate a checkpoint. The results are then in the folder
            `evaluations/`, beside those of training. Localization, protocol and time grid may
            differ from those of the run, as training does not depend on them: "changed" in the
            results lists them.
        dataset: data set with all features, in place of the one that `config.data` names. Its name
            selects the protocol, as `config.data.name` does otherwise.
        checkpoint: the checkpoint to evaluate with mode "eval": "last", "best" (see
            `best_checkpoint.best_step`) or its step.
        progress: returns a context that shows the progress, see `console.progress`.

    Returns:
        The content of result.json.

    Raises:
        ConfigError: the config is invalid, or does not fit the data or the devices.
        DataError: the data set cannot be read.
        CheckpointError: the work directory belongs to a different run, or the checkpoint to
            evaluate is damaged. Training sets damaged checkpoints aside, with a warning.
        NonFiniteError: training has diverged.
        Interrupted: SIGTERM was received, and a checkpoint has been saved.
    """
    with opened(config, workdir, mode, dataset, checkpoint) as trainer:
        if mode == "train":
            trainer.train(progress)
        return trainer.evaluate_and_write_results()


@contextlib.contextmanager
def opened(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    mode: str = "train",
    dataset: Dataset | None = None,
    checkpoint: int | str = "last",
) -> Iterator["Trainer"]:
    """Prepare a run, and yield its trainer; arguments and errors as of `train_and_evaluate`."""
    setup = prepare(config, workdir, mode, dataset, checkpoint)
    files = setup.files
    run = {"config": as_json(config.to_dict()), "model": model_of(setup.dataset).to_json()}
    with (
        _translate_resource_errors(files),
        Checkpoints(files.checkpoints, setup.save_results, run) as checkpoints,
    ):
        yield Trainer(setup, checkpoints)


@contextlib.contextmanager
def _translate_resource_errors(files: Workdir) -> Iterator[None]:
    """Raise JaxtalError for errors of full device memory or of the disk."""
    try:
        yield
    except JaxtalError:
        raise
    except Exception as error:
        check_kept(files)
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            raise JaxtalError(
                f"device memory is full: {str(error)[:200]}; lower config.population, "
                "config.train.batch_size, or config.data.device_share, so that features are "
                "streamed"
            ) from None
        if (fault := storage_fault(error)) is None:
            raise
        remove_unfinished(files)
        last = files.latest_step()
        kept = "nothing was saved yet" if last is None else f"the checkpoint of step {last} is good"
        raise JaxtalError(
            f"{files.path}: {fault.what}; {kept}; {fault.fix}, and the same command resumes from "
            "there"
        ) from None


class Trainer:
    """One run: the training state of all members, the loop, and the saved progress.

    Attributes:
        setup: the prepared inputs of the run.
        checkpoints: the folder of checkpoints.
        members: configs of the members, see `population.members_of`.
        state: training state of all members at `step`, arrays [M, ...].
        step: last step that was dispatched.
        progress: for each member the evaluation at the last checkpoint ("evaluation"), the best one
            so far ("best"), and the step before which it diverged ("diverged"), or None.
        seconds: duration of the run's parts, "compile", "train" and "evaluate", in seconds.
    """

    def __init__(self, setup: Setup, checkpoints: Checkpoints):
        config, method, mesh = setup.config, setup.method, setup.mesh
        self.setup, self.checkpoints = setup, checkpoints
        self.members = population.members_of(config)
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.progress: dict[str, list] = {
            name: [None] * len(self.members) for name in ("evaluation", "best", "diverged")
        }
        self.step = max(setup.saved_step, 0)
        dataset = setup.dataset
        self._model = method.build(config.model, len(dataset.classes), dataset.stream_widths)
        self._hyper = sharding.device_put(mesh, population.hypers(self.members), MEMBER_SPEC)
        self._evaluators = {
            part: Evaluator(method, self._model, placed.videos, config, placed, mesh)
            for part, placed in setup.placed.items()
            if part != "train"
        }
        self._latest: list[MemberEvaluation] | None = None
        self.state = self._initial_state()
        with self._timed("compile"):
            for evaluator in self._evaluators.values():
                evaluator.compile(_variables(self.state))

    def _timed(self, what: str) -> Timer:
        return Timer(self.seconds, what)

    def _initial_state(self) -> TrainState:
        """Return the state of the latest checkpoint; without one, initialize it from the seeds."""
        setup = self.setup
        width = setup.dataset.feature_width
        with self._timed("compile"):
            init = train_step.init_fn(self._model, setup.config, setup.mesh, width)
            state = init(self._hyper)
        if setup.save_results:
            setup.files.repair_metrics(setup.saved_step)
        if setup.saved_step < 0:
            params = setup.method.initialize(state.params, setup.dataset, setup.config)
            return state._replace(params=sharding.reshard(setup.mesh, params, MEMBER_SPEC))
        state, saved = self.checkpoints.restore(setup.saved_step, state)
        if setup.changed:  # the saved evaluations are those of other settings
            saved = {**self.progress, "diverged": saved["diverged"]}
        self.progress = saved
        doing = "resuming from" if setup.save_results else "evaluating"
        _LOG.info("%s step %d", doing, setup.saved_step)
        return state

    def train(self, progress: Progress = no_progress) -> None:
        """Train to `config.train.steps`; evaluate and save every `config.train.eval_every` steps.

        Args:
            progress: returns a context that shows the progress.

        Raises:
            Interrupted: SIGTERM was received, and a checkpoint has been saved.
            NonFiniteError: training has diverged.
        """
        settings = self.setup.config.train
        if self.step == settings.steps:
            return
        dispatcher = Dispatcher(self.setup, self._model, self._hyper, self.state, self.seconds)
        window = steps_per_dispatch(settings)
        if settings.tensorboard:
            self.setup.files.open_tensorboard(self.step)
        log = MetricsLog(self.setup.files, len(self.members))
        if self.step and self.step % settings.eval_every == 0 and not self._is_evaluated(self.step):
            self.evaluate()  # the run was interrupted between the step and its evaluation
        with progress(self.step, settings.steps) as show, preemption.defer_sigterm():
            while self.step < settings.steps:
                next_evaluation = (self.step // settings.eval_every + 1) * settings.eval_every
                stop = min(settings.steps, next_evaluation)
                with self._timed("train"):
                    for end in dispatch_ends(self.step, stop, window):
                        self.state = dispatcher.run_to(self.state, end, log)
                        self.step = end
                        # Metrics arrive one window late, while the device computes the next one.
                        show(end, log.flush())
                        self._check_finite(log)
                        if preemption.preemption_requested():
                            self._interrupt(log)
                    show(stop, log.flush(wait=True))
                    self._check_finite(log)
                self._log_skipped_updates()
                self.evaluate()
            self.checkpoints.wait()

    def _interrupt(self, log: MetricsLog) -> None:
        """Save the current step without an evaluation, and raise Interrupted."""
        log.flush(wait=True)
        self._check_finite(log)
        check_kept(self.setup.files)
        self.checkpoints.save(self.state, self.step, self.progress)
        self.checkpoints.wait()
        name = preemption.signal_name()
        raise preemption.Interrupted(f"stopped by {name}; step {self.step} is saved")

    def _check_finite(self, log: MetricsLog) -> None:
        """Mark members with too many consecutive non-finite updates; stop if none remains."""
        for member in np.flatnonzero(log.consecutive_skipped >= MAX_SKIPPED_IN_ROW):
            self._mark_diverged(int(member), log.step)
        log.diverged = np.array([step is not None for step in self.progress["diverged"]])
        if log.diverged.all():
            names = ", ".join(log.not_finite()) or "gradient"
            raise self._divergence_error(
                f"{log.consecutive_skipped.max()} consecutive updates up to step {log.step} were "
                f"not finite ({names})"
            )

    def _divergence_error(self, how: str) -> NonFiniteError:
        saved = self.checkpoints.latest_step()
        kept = "No checkpoint was saved" if saved is None else f"Step {saved} is the last one saved"
        return NonFiniteError(
            f"training diverged: {how}; lower config.optimizer.learning_rate. {kept} in "
            f"{self.setup.files.path}"
        )

    def _mark_diverged(self, member: int, step: int) -> None:
        diverged = list(self.progress["diverged"])  # the old list may still be in a pending save
        if diverged[member] is not None:
            return
        diverged[member] = step
        self.progress = {**self.progress, "diverged": diverged}
        if len(self.members) > 1:
            _LOG.info(
                "member %d (seed %d) diverged before step %d; the others continue",
                member,
                self.members[member].seed,
                step,
            )

    def _log_skipped_updates(self) -> None:
        if skipped := int(sharding.device_get(self.state.skipped).sum()):
            _LOG.info("skipped %d updates so far that were not finite", skipped)

    def evaluate(self) -> list[MemberEvaluation]:
        """Evaluate the current step and save a checkpoint with the result.

        The videos are the validation videos, or else the test videos if they have annotations.

        Returns:
            The evaluation of each member.

        Raises:
            NonFiniteError: the outputs of no member are finite.
        """
        check_kept(self.setup.files)
        step = self.step
        if self._latest and self._latest[0].step == step:
            return self._latest
        self._latest = self._evaluate_on(self.setup.judged, step, self.state)
        found = [evaluation.result for evaluation in self._latest]
        if not any(found):
            raise self._divergence_error(f"at step {step} the outputs of no member are finite")
        if self._is_evaluated(step):  # the checkpoint of this step has the same evaluation
            return self._latest
        self.progress = {**self.progress, "evaluation": found}
        criterion = self._record(found) if self.setup.judged else -1
        if self.setup.save_results:
            self.checkpoints.save(self.state, step, self.progress, criterion)
        return self._latest

    def _record(self, found: list[dict | None]) -> float:
        """Log an evaluation and update the best one; return the criterion of its checkpoint."""
        before = self.progress["best"]
        best = [_better(*pair) for pair in zip(found, before, strict=True)]
        self.progress = {**self.progress, "best": best}
        line, files = population.summary(found), self.setup.files
        criterion = selection_metric(line)
        _LOG.info("%s", _in_one_line(line, self.setup))
        if self.setup.judged == "validation":
            line = {**line, "on": "validation"}
            # Of equal checkpoints Orbax keeps the last one, but the best step is the first one.
            criterion -= 1e-9 * line["step"] / self.setup.config.train.steps
        logged = files.intact_metrics() if self.setup.save_results else [line]
        if not any(known["step"] == line["step"] and "map" in known for known in logged):
            files.append_metrics(line)
        return criterion

    def _evaluate_on(self, part: str, step: int, state: TrainState) -> list[MemberEvaluation]:
        """Evaluate all members on the videos of a part; "" for no videos."""
        if not part:
            empty, diverged = concatenate([]), self.progress["diverged"]
            results = [{"step": step} if one is None else None for one in diverged]
            return [MemberEvaluation(step, result, empty, []) for result in results]
        with self._timed("evaluate"):
            outputs = self._evaluators[part](_variables(state))
            return [self._evaluate_member(part, step, *each) for each in enumerate(outputs)]

    def outputs(self, part: str) -> list[list[dict[str, np.ndarray]]]:
        """Compute the outputs of all members for the videos of a part, "test" or "validation"."""
        return [*self._evaluators[part](_variables(self.state))]

    def _is_evaluated(self, step: int) -> bool:
        return step in [result["step"] for result in self.progress["evaluation"] if result]

    def _evaluate_member(
        self, part: str, step: int, member: int, outputs: list[dict]
    ) -> MemberEvaluation:
        """Evaluate one member; a diverged member has neither result nor detections."""
        if self.progress["diverged"][member] is None:
            try:
                return evaluate_member(self.setup, part, step, outputs)
            except NonFiniteError:
                if len(self.members) == 1:
                    raise
                self._mark_diverged(member, step)
        return MemberEvaluation(step, None, concatenate([]), outputs)

    def evaluate_and_write_results(self) -> dict[str, Any]:
        """Evaluate the last step, write the result files, and return the content of result.json."""
        setup, evaluations, test_of_best = self.setup, self.evaluate(), {}
        if setup.judged != "test":
            part = "test" if setup.dataset.test else ""
            evaluations = self._evaluate_on(part, self.step, self.state)
            if setup.judged and part and setup.dataset.has_ground_truth:
                found = population.summary([evaluation.result for evaluation in evaluations])
                _LOG.info("%s", _in_one_line(found, setup, "test"))
                test_of_best = self._test_best_on_validation(evaluations)
        skipped = sharding.device_get(self.state.skipped)
        return write_results(
            setup, self.members, self.progress, evaluations, test_of_best, skipped, self.seconds
        )

    def _test_best_on_validation(self, last: list[MemberEvaluation]) -> dict[str, Any]:
        """Return the test result of the step that was best on the validation videos.

        The members of a population have different best steps, whose checkpoints are not kept: {}.
        """
        if len(self.members) > 1:
            return {}
        step = self.progress["best"][0]["step"]
        if step not in (self.step, *self.checkpoints.steps()):
            return {}
        if step == self.step:
            return last[0].result or {}
        state, _ = self.checkpoints.restore(step, self.state)
        return self._evaluate_on("test", step, state)[0].result or {}


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, **state.model_state}


def _in_one_line(result: dict[str, Any], setup: Setup, part: str = "") -> str:
    """Format the average mAPs of an evaluation as one line, in percent.

    The part is named if there are validation and test videos.
    """
    averages = "  ".join(f"{name} {100 * v:.1f}" for name, v in result["average"].items())
    named = f"{part or setup.judged} " if setup.judged == "validation" else ""
    return f"step {result['step']}: {named}mAP {averages} ({result['protocol']})"


def _better(now: dict | None, before: dict | None) -> dict | None:
    """Return the evaluation with the higher selection metric, the earlier one for a tie."""
    if now is None or before is None:
        return now or before
    return now if selection_metric(now) > selection_metric(before) else before
