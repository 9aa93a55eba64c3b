r"""Localize actions from saved activations, without a model or an accelerator.

    jaxtal train --config co2net_demo --config.evaluation.save_activations=True
    jaxtal localize --activations runs/co2net_demo/activations.npz --config co2net_demo \
        --config.localization.class_threshold=0.1 --output detections.json
    jaxtal evaluate --annotations runs/co2net_demo/annotations.json \
        --detections detections.json --protocol co2

The command is meant for tuning thresholds. The docstring of `jaxtal/data/activations.py` specifies
the file, for activations from other programs.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtal.cli import flags
from jaxtal.cli.command import Command
from jaxtal.errors import JaxtalError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from jaxtal.data.activations import Activations
    from jaxtal.methods.base import Method


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    flags.add_config(parser, "Config of the method, a Python file with get_config() or a name.")
    parser.add_flag("activations", "File activations.npz of a run.")
    parser.add_flag(
        "output", "JSON file in ActivityNet form, times in seconds.", default="detections.json"
    )


def run(args: argparse.Namespace) -> int:
    """Write the detections in all videos of an activations file."""
    activations = Path(flags.required(args, "activations"))
    flags.check_outputs(args, ["output"], [activations])
    localize(args.loaded_config, activations, Path(flags.required(args, "output")))
    return 0


def localize(config: "ConfigDict", path: Path, output: Path) -> None:
    """Localize actions from saved activations, and write the detections.

    Args:
        config: Config with the method and the fields of `config.localization`.
        path: File activations.npz.
        output: JSON file to write, in ActivityNet form.

    Raises:
        JaxtalError: The config or the activations are invalid, or they do not match.
    """
    from jaxtal import methods
    from jaxtal.data import detections
    from jaxtal.data.activations import read
    from jaxtal.data.io import json_files
    from jaxtal.data.segments import clip
    from jaxtal.training import evaluator
    from jaxtal.visualization import console

    method = methods.get(config.method)
    method.validate_config(config)
    saved = read(path, method.localization_inputs)
    _check_classes(path, saved, method, config)
    found = evaluator.localize(method, config, saved.outputs, saved.snippets, saved.grid)
    found = clip(found, saved.durations)
    json_files.write(output, detections.to_json(found, saved.videos, saved.classes))
    console.print_message(
        f"{len(found)} detections in {len(saved.videos)} videos are in {output}; "
        "evaluate them with jaxtal evaluate (see its --help)"
    )


def _check_classes(
    path: Path, saved: "Activations", method: "Method", config: "ConfigDict"
) -> None:
    """Raise JaxtalError unless the activations have one column per class name."""
    video = next(filter(None, saved.outputs), None)  # all videos have the same columns
    if video is None:
        return
    columns = method.score_spec(config).activations(video).shape[1]
    if columns != len(saved.classes):
        raise JaxtalError(
            f"{path}: activations of {columns} classes, but {len(saved.classes)} class names; "
            f"wanted {method.name}'s outputs: {', '.join(method.localization_inputs)}"
        )


COMMAND = Command("localize", __doc__, add_flags, run)
