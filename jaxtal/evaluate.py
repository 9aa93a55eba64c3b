r"""Evaluate detections under named protocols, and say where they err; needs no model and no JAX.

    python -m jaxtal.evaluate --annotations thumos14.json --detections detections.json \
        --protocol thumos14 --protocol thumos_co2 --output scores.json --figure errors.png

Annotations: a JSON file in ActivityNet form, a data set in any layout that has annotations (as
python -m jaxtal.datasets lists them), or its folder <DS>-Annotations alone; of several, which must
have the same classes, each is evaluated against. Detections: JSON in that form, in seconds.
Published quirks are switches behind a protocol's name, as in thumos_d2+stop_at_empty_class.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from collections import Counter
from pathlib import Path

from absl import app, flags

from jaxtal import command_line, data
from jaxtal.data import detections as detection_files
from jaxtal.data.dataset import Dataset
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError, warn
from jaxtal.evaluation import detection_map, error_analysis, protocols
from jaxtal.visualization import console

_ANNOTATIONS = flags.DEFINE_multi_string(
    "annotations",
    None,
    "Ground truth: JSON file in ActivityNet form, or a folder in any layout that has annotations; "
    "may be repeated.",
)
_DETECTIONS = flags.DEFINE_string("detections", None, "JSON file in ActivityNet form.")
_PROTOCOLS = flags.DEFINE_multi_string(
    "protocol", None, f"May be repeated; one of {', '.join(protocols.PROTOCOLS)}."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for every number.")
_FIGURE = flags.DEFINE_string(
    "figure", None, "Picture (.png, .pdf, .svg) of the errors under the first protocol."
)
_ERRORS_AT = flags.DEFINE_float("errors_at", 0.5, "t-IoU at which errors are told apart.")
_TOP = flags.DEFINE_integer("top", 10, "How many false positives to list.", lower_bound=0)
_SKIP_UNKNOWN = flags.DEFINE_bool(
    "skip_unknown", False, "Leave out, and count, detections of unknown videos and classes."
)


def evaluate(annotations: list[Path], detections: Path, names: list[str]) -> dict:
    """What --output holds; writes the picture."""
    chosen = [protocols.get(name) for name in names]
    for protocol in chosen:
        error_analysis.check_threshold(protocol, _ERRORS_AT.value)
    datasets = [data.annotations(path) for path in annotations]
    _check_classes(annotations, datasets)
    rows: dict[str, dict] = {}
    shown = None
    for path, dataset in zip(annotations, datasets, strict=True):
        console.warn_of_defects(f"{path}", dataset.test)
        skipped: Counter = Counter()
        found = detection_files.read(detections, dataset, skipped if _SKIP_UNKNOWN.value else None)
        for what, count in skipped.items():
            warn(f"{detections}: {count} detections {what} are left out")
        for protocol in chosen:
            _warn_of_what_is_missing(path, dataset, protocol)
            result = detection_map.evaluate(
                dataset.test, found, protocol, len(dataset.classes), dataset.grid
            )
            errors = error_analysis.analyze_errors(result, _ERRORS_AT.value)
            shown = shown or (result, errors)
            report = result.report(dataset.classes)
            report["counts"]["detections_left_out"] |= dict(skipped)
            report["errors"] = errors.report()
            report["top_false_positives"] = error_analysis.top_false_positives(
                errors, result, found, dataset.test, dataset.classes, _TOP.value
            )
            rows[protocol.name + (f" @ {path}" if len(annotations) > 1 else "")] = report
    if _FIGURE.value and shown:
        _draw(Path(_FIGURE.value), *shown)
    return {
        "annotations": [str(path) for path in annotations],
        "detections": str(detections),
        "protocols": rows,
    }


def _warn_of_what_is_missing(path: Path, dataset: Dataset, protocol: protocols.Protocol) -> None:
    """THUMOS14's protocols need what many THUMOS14 files do not have, and then mean less."""
    if not protocol.name.startswith("thumos_"):
        return
    missing = []
    videos = dataset.test
    if protocol.ambiguous == "left_out" and not any(len(v.ambiguous) for v in videos):
        missing.append('no "ambiguous" intervals, so no detection is left out')
    if protocol.truth == "labeled" and all(
        set(v.labels.tolist()) == set(v.segment_labels.tolist()) for v in videos
    ):
        missing.append('no "video_labels" of their own, so no instance is left out for its label')
    if protocol.without and not {v.name for v in videos} & set(protocol.without):
        missing.append("none of the videos that it leaves out")
    if missing:
        warn(f"{protocol.name}: {path} has {'; '.join(missing)}")


def _check_classes(paths: list[Path], datasets: list[Dataset]) -> None:
    """Raise JaxtalError if the ground truths are not of the same classes."""
    first = set(datasets[0].classes)
    for path, dataset in zip(paths, datasets, strict=True):
        if differing := sorted(first ^ set(dataset.classes)):
            owner = paths[0] if differing[0] in first else path
            raise JaxtalError(
                f"{paths[0]} has {len(first)} classes, {path} has {len(dataset.classes)}, and they "
                f"differ in {len(differing)}: {differing[0]!r} is only in {owner}; give ground "
                "truths with the same class list, or evaluate against one after the other"
            )


def _draw(
    path: Path, result: detection_map.Evaluation, errors: error_analysis.ErrorAnalysis
) -> None:
    from jaxtal.visualization import (
        plots,  # here, because Matplotlib takes longer than the evaluation
    )

    try:
        plots.save(plots.draw_errors(result, errors), path)
    except (OSError, ValueError) as error:
        raise JaxtalError(f"--figure {path}: cannot be written ({error})") from None


def _run(_: list[str]) -> int:
    try:
        annotations = [*dict.fromkeys(map(Path, command_line.required(_ANNOTATIONS)))]
        detections = Path(command_line.required(_DETECTIONS))
        names = [*dict.fromkeys(command_line.required(_PROTOCOLS))]
        command_line.check_outputs([_OUTPUT, _FIGURE], [*annotations, detections])
        report = evaluate(annotations, detections, names)
        if _OUTPUT.value:  # first, whatever becomes of what is printed
            json_files.write(Path(_OUTPUT.value), json_files.to_text(report))
        console.print_evaluations(report["protocols"])
        console.print_errors(*next(iter(report["protocols"].items())))
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
