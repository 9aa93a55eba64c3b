"""Small work directories and toy models for the tests of predictions and exports."""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxtal.data.dataset import TimeGrid
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.inference.model import Model
from jaxtal.inference.restore import program_of
from tests.helpers.localizing import settings as localization_config
from tests.methods import toy
from tests.methods.toy_config import get_config as toy_config

WIDTH = 8

_TINY = {
    "data.num_snippets": 16,
    "data.generator": "demo num_train=4 num_test=6 num_classes=3 max_snippets=120 "
    f"feature_width={WIDTH // 2}",
    "train.steps": 0,
    "evaluation.plot_videos": 0,
}


def tiny(name: str, **fields):
    """Return a demo's config for 0 steps on few small videos; fields are a__b=value."""
    config = importlib.import_module(f"configs.{name}_demo").get_config()
    given = {field.replace("__", "."): value for field, value in fields.items()}
    config.update_from_flattened_dict(_TINY | given)
    return config


def toy_predictor(classes: int = 3, traces: list | None = None, **fields) -> Model:
    """Return a random toy model; `traces` receives the shape of every traced batch."""
    config = toy_config()
    model = toy.METHOD.build(config.model, classes)
    variables = model.init(
        jax.random.key(0), jnp.zeros((1, 1, WIDTH)), jnp.ones((1, 1), bool), train=False
    )
    program = program_of(toy.METHOD, model, "float32")

    def traced(variables, features, lengths):
        if traces is not None:
            traces.append(features.shape)
        return program(variables, features, lengths)

    given = {"min_snippets": 1, "test_length_limits": (1, None), **fields}
    return Model(
        method="toy",
        classes=tuple(f"class {index}" for index in range(classes)),
        time_grid=TimeGrid(),
        feature_width=WIDTH,
        score_spec=toy.METHOD.score_spec(config),
        localization_inputs=toy.METHOD.localization_inputs,
        localization=localization_config(class_threshold=0.1),
        variables=variables,
        apply_fn=jax.jit(traced),
        **given,
    )


def stored(lengths, seed: int = 0) -> list[FeatureFile]:
    """Return videos v0, v1, ... with random features, generated at every read."""
    return [
        FeatureFile(
            f"v{i}", (int(n), WIDTH), functools.partial(_draw, seed + i, int(n)), f"v{i}.npy"
        )
        for i, n in enumerate(lengths)
    ]


def _draw(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, WIDTH)).astype(np.float32)


def write(folder: Path, lengths) -> Path:
    """Write the videos of `stored` as .npy files."""
    folder.mkdir(exist_ok=True)
    for video in stored(lengths):
        np.save(folder / f"{video.name}.npy", video.read())
    return folder


def rows_of(results: dict) -> dict[str, list[tuple]]:
    """Return {video: [(label, start, end)]} of detections in the ActivityNet format."""
    return {
        name: [(entry["label"], *entry["segment"]) for entry in found]
        for name, found in results.items()
    }


def scores_of(results: dict) -> list[float]:
    """Return all scores, video by video."""
    return [entry["score"] for found in results.values() for entry in found]
