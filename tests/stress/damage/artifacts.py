"""One small artifact of each kind that the program writes and reads back."""

from pathlib import Path

import jaxtal
from jaxtal.data import conversion, layouts
from jaxtal.training.trainer import train_and_evaluate
from tests.helpers import layout_cases

STEPS, EVERY = 4, 2
_VIDEOS = {
    "num_train": 6, "num_test": 3, "num_classes": 3, "feature_width": 4, "max_snippets": 40
}  # fmt: skip
LAYOUTS = ("wtalc", "basnet", "acmnet")


def config():
    """Return the config of the run."""
    changes = {
        "data.generator": "demo " + " ".join(f"{name}={value}" for name, value in _VIDEOS.items()),
        "data.num_snippets": 16,
        "train.steps": STEPS,
        "train.eval_every": EVERY,
        "train.log_every": 1,
        "train.batch_size": 6,
        "evaluation.save_activations": True,
        "evaluation.plot_videos": 1,
    }
    return jaxtal.get_config("co2net_demo", overrides=changes)


def make(folder: Path) -> None:
    """Write a run with an evaluation, an exported model, predictions and converted data sets.

    Args:
        folder: an empty folder.
    """
    run = folder / "run"
    train_and_evaluate(config(), run)
    train_and_evaluate(config(), run, "eval")
    model = jaxtal.load_model(run)
    model.export(folder / "model.jaxtal")
    data = jaxtal.generate_dataset(**_VIDEOS)
    features = {video.name: video.features for video in data.test}
    model.predict(features).to_json(folder / "predicted.json")
    source = layout_cases.source(data)
    for layout in LAYOUTS:
        conversion.convert(source, layout, folder / layout)
    whole = layouts.read(folder / LAYOUTS[0])
    conversion.convert(whole, "activitynet", folder / "activitynet")
