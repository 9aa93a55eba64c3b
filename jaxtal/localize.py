r"""Localize from saved activations: tune thresholds without a model or an accelerator.

    python -m jaxtal.main --config configs/co2net_demo.py --mode=eval \
        --config.evaluation.save_activations=True
    python -m jaxtal.localize --activations runs/co2net_demo/activations.npz \
        --config configs/co2net_demo.py --config.localization.class_threshold=0.1 \
        --output detections.json
    python -m jaxtal.evaluate --annotations runs/co2net_demo/annotations.json \
        --detections detections.json --protocol co2

What the file holds is in `jaxtal/data/activations.py`, for who has activations from elsewhere.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxtal import command_line
from jaxtal.errors import JaxtalError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file of the method, a Python file with get_config(); see configs/."
)
_ACTIVATIONS = flags.DEFINE_string("activations", None, "The .npz file.")
_OUTPUT = flags.DEFINE_string("output", "detections.json", "JSON file in ActivityNet form.")


def localize(config, path: Path, output: Path) -> None:
    """Write the detections in the videos of a file of activations."""
    # Imported here, so that --help and bad flags answer at once.
    from jaxtal import methods
    from jaxtal.data import detections
    from jaxtal.data.activations import read
    from jaxtal.data.io import json_files
    from jaxtal.train import evaluator
    from jaxtal.visualization import console

    method = methods.get(config.method)
    method.validate_config(config)
    saved = read(path, method.localization_inputs)
    for video in filter(None, saved.outputs):
        columns = method.score_spec(config).activations(video).shape[1]
        if columns != len(saved.classes):
            raise JaxtalError(
                f"{path}: activations of {columns} classes, but the file names "
                f"{len(saved.classes)}; wanted {method.name}'s outputs: "
                f"{', '.join(method.localization_inputs)}"
            )
        break  # all videos have the same columns
    found = evaluator.localize(method, config, saved.outputs, saved.snippets, saved.grid)
    json_files.write(output, detections.to_json(found, saved.videos, saved.classes))
    console.say(
        f"{len(found)} detections in {len(saved.videos)} videos are in {output}; "
        "python -m jaxtal.evaluate --help says how to evaluate them"
    )


def _run(_: list[str]) -> int:
    try:
        activations = Path(command_line.required(_ACTIVATIONS))
        command_line.check_outputs([_OUTPUT], [activations])
        localize(_CONFIG.value, activations, Path(command_line.required(_OUTPUT)))
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse)
