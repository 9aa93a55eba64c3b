"""Generated data sets: features of untrimmed videos from a seed, without files on disk.

In each modality a video is a sum of latent vectors times amplitudes over time: backgrounds, a
venue, a style, action instances, their context and nuisances. A fixed random projection with a soft
ReLU maps this sum to the D features of the modality. The video-level label is easy to predict,
because the venue is visible during the whole video. Localization is hard: context resembles the
action, and each modality has its own distractors. RGB and flow agree only during actions.

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
    """Generate untrimmed videos with features, as in the demo configs, without reading files.

    Args:
        seed: seed of all random numbers.
        num_classes: number of classes C.
        **options: other fields of `jaxtal.data.synthetic.config.SyntheticConfig`, e.g.
            `num_train=20`, `feature_width=64`; the defaults are those of the demos.

    Returns:
        The data set, with (T, 2D) features, RGB first, non-negative.

    Raises:
        ConfigError: an option does not exist.
        DataError: a value is invalid.
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
    """Parse the text of `config.data.generator`: a preset, and fields to replace.

    Args:
        text: the value of `config.data.generator`, e.g. "demo", "demo num_train=12 core=(1,1)
            smoothing=false", "thumos14 annotations='my videos.json'".

    Returns:
        The parameters of the generator.

    Raises:
        DataError: a preset or field does not exist, or a value is malformed.
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
            f"config.data.generator: {name!r:.80} is not a preset, only {', '.join(PRESETS)}; "
            f"{_FORM}{guess}"
        )
    return dataclasses.replace(PRESETS[name], **dict(map(_change, changes)))


_FORM = 'wanted a preset and fields to replace, such as "demo num_train=12 num_classes=3"'


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
    """Generate a data set.

    Args:
        config: parameters of the generator.

    Returns:
        Videos with features (T, 2D), T = floor(duration * fps / stride), RGB first, non-negative.

    Raises:
        DataError: a field of `config` or the file `config.annotations` is invalid.
    """
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))
    return dataset.map(lambda video: generate_video(config, world, video, dataset.grid))
