"""The embedded default data set: untrimmed videos generated from a seed, no files on disk.

A video is a sum of things that last for a while, each a vector of a modality's latent space times
an amplitude over time: backgrounds, a venue, a style, action instances, their context, nuisances.
A fixed random projection with a soft ReLU makes the D features of a modality from them. The video
label is easy to tell (the venue lasts), the location hard: context shows what only the action
should, and each modality has distractors of its own. What marks the action is that RGB and flow
agree.

Shapes: modalities (RGB, flow) are the leading axis of 2; L is the latent width, M sub-modes.
"""

import dataclasses
import difflib
import shlex
from typing import Any, get_args

from jaxtal.config import parse_value
from jaxtal.data.dataset import Dataset
from jaxtal.data.synthetic.annotations import annotations
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.data.synthetic.features import World, generate_video
from jaxtal.errors import ConfigError, DataError


def generate_dataset(*, seed: int = 0, num_classes: int = 10, **options: Any) -> Dataset:
    """Generate untrimmed videos with features, as the demo configs train on; nothing is read.

    Args:
        seed: everything is a function of it.
        num_classes: C.
        options: other fields of `jaxtal.data.synthetic.config.SyntheticConfig`, e.g.
            `num_train=20`, `feature_width=64`; by default those of the demos.

    Raises:
        ConfigError: there is no such option, or a value cannot be used.
    """
    known = [field.name for field in dataclasses.fields(SyntheticConfig)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            guess = f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(known)}"
            raise ConfigError(f"generate_dataset has no option {option!r}; {guess}")
    chosen = {"seed": seed, "num_classes": num_classes, **options}
    return generate(dataclasses.replace(PRESETS["demo"], **chosen))


def parse(text: str) -> SyntheticConfig:
    """Return the preset that `text` begins with, and with what follows changed.

    Args:
        text: as `config.data.generator`: "demo", "demo num_train=12 core=(1,1) smoothing=false",
            "thumos14 annotations='my videos.json'".

    Raises:
        DataError: there is no such preset or field, or a value cannot be read.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars="")
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        name, *changes = lexer
    except ValueError as error:
        why = "it is empty" if not text.strip() else str(error)
        raise DataError(f"config.data.generator is {text!r:.80}: {why}; {_FORM}") from None
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        guess = f"; did you mean {near[0]}?" if near else ""
        raise DataError(
            f"config.data.generator: {name!r:.80} is no preset, only {', '.join(PRESETS)}; "
            f"{_FORM}{guess}"
        )
    return dataclasses.replace(PRESETS[name], **dict(map(_change, changes)))


_FORM = 'wanted a preset and what differs from it, such as "demo num_train=12 num_classes=3"'


def _change(word: str) -> tuple[str, Any]:
    """Return the field and the value of FIELD=VALUE."""
    kinds = {field.name: field.type for field in dataclasses.fields(SyntheticConfig)}
    name, equals, text = word.partition("=")
    if not equals:
        raise DataError(f"config.data.generator: {word!r:.80} is not FIELD=VALUE; {_FORM}")
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, 1)
        guess = f"; did you mean {near[0]}?" if near else f", only {', '.join(kinds)}"
        raise DataError(f"config.data.generator has no field {name!r:.80}{guess}")
    kind = kinds[name]
    try:
        return name, _read(text, kind)
    except (TypeError, ValueError):
        wanted = "true or false" if kind is bool else getattr(kind, "__name__", str(kind))
        wanted = f"two of {get_args(kind)[0].__name__}" if get_args(kind) else wanted
        raise DataError(
            f"config.data.generator.{name} is {text!r:.80}; wanted {wanted}, as in "
            f"{name}={_written(getattr(SyntheticConfig, name))}"
        ) from None


def _read(text: str, kind: Any) -> Any:
    if not (parts := get_args(kind)):
        return parse_value(text, kind)
    values = parse_value(text, tuple)
    if len(values) != len(parts):
        raise ValueError(text)
    return tuple(parse_value(str(v), part) for v, part in zip(values, parts, strict=True))


def _written(value: Any) -> str:
    return str(value).replace(" ", "").lower() if isinstance(value, tuple | bool) else repr(value)


def generate(config: SyntheticConfig) -> Dataset:
    """The data set that `config` describes.

    Returns:
        Videos with features (T, 2D), T = floor(duration * fps / stride), RGB first, non-negative.

    Raises:
        DataError: a field of `config` or the file `config.annotations` cannot be used.
    """
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))
    train, test = (
        tuple(generate_video(config, world, video, dataset.grid) for video in videos)
        for videos in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)
