"""Evaluate the members of a run, and write the result files of a finished run."""

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxtal.data.segments import Segments
from jaxtal.evaluation.selection import selection_metric_name
from jaxtal.training import population
from jaxtal.training.evaluator import average_outputs, evaluate_outputs
from jaxtal.training.setup import Setup
from jaxtal.training.workdir import Workdir
from jaxtal.visualization import plots


class MemberEvaluation(NamedTuple):
    """The evaluation of a member on the test or the validation videos at a step.

    Attributes:
        step: number of training steps.
        result: as returned by `evaluator.evaluate_outputs`, with the step; None if the member has
            diverged.
        detections: detections in all videos, in seconds; empty if the member has diverged.
        outputs: outputs of the model, {name: (T, n)} for every video.
    """

    step: int
    result: dict[str, Any] | None
    detections: Segments
    outputs: list[dict[str, np.ndarray]]


def evaluate_member(setup: Setup, part: str, step: int, outputs: list[dict]) -> MemberEvaluation:
    """Localize and evaluate with the outputs of one member.

    Args:
        setup: the prepared inputs of the run.
        part: "test", or "validation" to evaluate its videos in the place of the test videos.
        step: number of training steps.
        outputs: outputs of the member, {name: (T, n)} for every video.

    Raises:
        NonFiniteError: an output is not finite.
    """
    dataset = setup.dataset.with_parts({"test": getattr(setup.dataset, part)})
    result, detections = evaluate_outputs(setup.method, setup.config, dataset, outputs)
    return MemberEvaluation(step, {"step": step, **result}, detections, outputs)


def evaluate_ensemble(
    setup: Setup, evaluations: Sequence[MemberEvaluation]
) -> MemberEvaluation | None:
    """Evaluate the mean outputs of several members, without diverged ones.

    Args:
        setup: the prepared inputs of the run.
        evaluations: evaluations of the members.

    Returns:
        The evaluation of the ensemble; None without test videos, or if fewer than two members have
        not diverged.
    """
    kept = [evaluation for evaluation in evaluations if evaluation.result]
    if len(kept) < 2 or not setup.dataset.test:
        return None
    mean = average_outputs([evaluation.outputs for evaluation in kept])
    result, detections = evaluate_outputs(setup.method, setup.config, setup.dataset, mean)
    return MemberEvaluation(kept[0].step, {"members": len(kept), **result}, detections, mean)


def write_results(
    setup: Setup,
    members: Sequence[ConfigDict],
    progress: dict[str, list],
    evaluations: Sequence[MemberEvaluation],
    test_of_best: dict[str, Any],
    skipped: np.ndarray,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Write annotations, detections, activations, result.json and plots of a finished run.

    Args:
        setup: the prepared inputs of the run.
        members: configs of the members.
        progress: see `Trainer.progress`.
        evaluations: evaluations of the members on the test videos at the last step.
        test_of_best: result on the test videos of the step that was best on the validation videos;
            {} if there is none.
        skipped: (M,) number of updates that were not finite.
        seconds: duration of the run's parts, in seconds.

    Returns:
        The content of result.json.
    """
    files = setup.results
    groups = population.groups(members, setup.config)
    ensembles = [evaluate_ensemble(setup, [evaluations[i] for i in group]) for _, group in groups]
    of_members = [
        _member_result(
            setup, member, evaluation, progress, test_of_best, index, int(skipped[index])
        )
        for index, (member, evaluation) in enumerate(zip(members, evaluations, strict=True))
    ]
    result = of_members[0]
    if len(members) > 1:
        of_groups = [ensemble and ensemble.result for ensemble in ensembles]
        result = population.result(of_members, groups, of_groups)
    result = {
        "method": setup.method.name,
        "data": setup.dataset.name,
        **result,
        **({"changed": setup.changed} if setup.changed else {}),
        **({"metrics_lines": len(files.intact_metrics())} if files is setup.files else {}),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    files.write_annotations(setup.dataset)
    for index, evaluation in enumerate(evaluations if setup.dataset.test else ()):
        _write(setup, files if len(members) == 1 else files.member_dir(index), evaluation)
    if len(members) > 1 and len(ensembles) == 1 and setup.dataset.test:
        _write(setup, files.ensemble_dir(), ensembles[0])
    files.write_result(result)
    if files.writes:
        shown = next(evaluation for evaluation in evaluations if evaluation.result)
        plots.draw(
            files, setup.config, setup.dataset, setup.method, shown.outputs, shown.detections
        )
    return result


def _member_result(
    setup: Setup,
    member: ConfigDict,
    evaluation: MemberEvaluation,
    progress: dict[str, list],
    test_of_best: dict[str, Any],
    index: int,
    skipped: int,
) -> dict[str, Any]:
    """Return a member's part of result.json; a diverged member has no numbers in it."""
    best, diverged = progress["best"][index], progress["diverged"][index]
    result: dict[str, Any] = {"seed": member.seed, "step": evaluation.step}
    if evaluation.result is not None:
        result |= evaluation.result
    if evaluation.result is not None and best is not None:
        result[f"best_on_{setup.judged}"] = {
            "selected_by": selection_metric_name(best),
            **best,
            **({"test": test_of_best} if test_of_best else {}),
        }
    if diverged is not None:
        result["diverged"] = diverged
    result["skipped_updates"] = skipped
    if setup.config.population > 1:
        result["values"] = population.values_of(member, setup.config)
    return result


def _write(setup: Setup, files: Workdir, evaluation: MemberEvaluation | None) -> None:
    """Write detections and activations; without a result remove those of an earlier run."""
    if not files.writes:
        return
    if not evaluation or not evaluation.result:
        shutil.rmtree(files.path)
        return
    files.write_detections(evaluation.detections, setup.dataset)
    if setup.config.evaluation.save_activations:
        files.write_activations(evaluation.outputs, setup.dataset, setup.method.localization_inputs)
