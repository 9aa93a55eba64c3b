"""Configs: loading by path or name, overriding, describing and validating fields."""

import ast
import contextlib
import difflib
import functools
import inspect
import math
import os
import re
import runpy
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference

from jaxtal import configs
from jaxtal.config_comments import comments_of
from jaxtal.errors import ConfigError, JaxtalError


def get_config(
    name: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ConfigDict:
    """Load a config by the path of its file or by the name of a shipped config.

    Args:
        name: Path of a Python file with `get_config()`, or a shipped name, such as "co2net_demo" or
            "configs/co2net_demo.py", which works in any folder. ":PRESET" may follow.
        preset: Preset that is passed to `get_config()`, like ":PRESET".
        overrides: Values by field, such as {"train.steps": 2000}; text as on a command line.

    Returns:
        The locked config: fields can be changed but not added.

    Raises:
        ConfigError: The config does not exist or cannot be loaded, or it does not have the preset
            or a field of `overrides`.

    Examples:
        >>> config = jaxtal.get_config("co2net_thumos", overrides={"data.dir": "data/thumos14"})
        >>> config.train.steps = 2000
    """
    filename, of_name = split_name(name)
    if preset is not None and of_name is not None:
        raise ConfigError(
            f"{os.fspath(name)!r} names the preset {of_name!r}, and preset={preset!r}; give one"
        )
    config = _load(locate_config(filename), of_name if preset is None else preset)
    for field, value in _flat(overrides or {}):
        _set(config, field, value)
    return config.lock()


def config_names() -> list[str]:
    """Return the names of the shipped configs, sorted."""
    return sorted(_shipped())


def split_name(name: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split FILE:PRESET into the file and the preset.

    Args:
        name: Path or shipped name of a config, with or without preset.

    Returns:
        The file or name, and the preset, or None without a preset.
    """
    drive, path = os.path.splitdrive(os.fspath(name))
    filename, colon, preset = path.partition(":")
    return drive + filename, preset if colon else None


def locate_config(filename: str) -> Path:
    """Return the path of a config file: `filename` if it exists, else that of a shipped config.

    Args:
        filename: Path or shipped name, without preset.

    Returns:
        The path of an existing file.

    Raises:
        ConfigError: The file does not exist and is not the name of a shipped config.
    """
    path, shipped = Path(filename), _shipped()
    if path.is_file():
        return path
    # Only configs/NAME.py: a mistyped folder must not load a shipped config.
    is_name = path.parent in (Path(), Path("configs")) and path.suffix in ("", ".py")
    if is_name and path.stem in shipped:
        return shipped[path.stem]
    why = "Is a directory" if filename and path.is_dir() else "No such file or directory"
    near = difflib.get_close_matches(path.stem, shipped, 3)
    known = f"did you mean {' or '.join(near)}?" if near else f"shipped are {', '.join(shipped)}"
    raise ConfigError(
        f"{filename or repr(filename)}: {why}; wanted a file such as configs/co2net_demo.py, or "
        f"the name of a shipped config; {known}"
    )


def _shipped() -> dict[str, Path]:
    return {name: path for name, path in _modules().items() if name != "common"}


def _modules() -> dict[str, Path]:
    """Return the files of `jaxtal.configs` by name."""
    files = sorted(path for folder in configs.__path__ for path in Path(folder).glob("*.py"))
    return {path.stem: path for path in files if path.stem != "__init__"}


def _load(path: Path, preset: str | None) -> ConfigDict:
    """Return the result of a file's `get_config()`, called with the preset, if there is one."""
    with _naming_the_line(path):
        function = runpy.run_path(str(path))["get_config"]
        has_presets = len(inspect.signature(function).parameters) > 0
    if preset is not None and not has_presets:
        raise ConfigError(f"{path} has no presets; remove {preset!r}")
    with _naming_the_line(path):
        config = function(*([] if preset is None else [preset]))
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config() returns {config!r:.40}; wanted a ConfigDict")
    return config


@contextlib.contextmanager
def _naming_the_line(path: Path) -> Iterator[None]:
    """Report any exception of a config file, which is a user's program, as a ConfigError."""
    try:
        yield
    except Exception as error:
        raise _failure(path, error) from None


def _failure(path: Path, error: Exception) -> JaxtalError:
    """Return the ConfigError that reports an exception of a config file."""
    if isinstance(error, OSError) and error.filename == str(path):
        return ConfigError(f"{path}: {error.strerror}; wanted a config file that can be read")
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = lines[-1] if lines else getattr(error, "lineno", None) or 1
    return ConfigError(
        f"{path}, line {line}: {type(error).__name__}: {error}; wanted a Python file with "
        "get_config()"
    )


def override(config: ConfigDict, field: str, text: str) -> None:
    """Set a field of a config from text, as on a command line.

    Args:
        config: The config, which is modified.
        field: Path of the field, such as "train.steps".
        text: Value as text, parsed according to the type of the field.

    Raises:
        ConfigError: The field does not exist, or the text is not a value of its type.
    """
    parent, name = find_field(config, field)
    kind = parent.get_type(name)
    reference = dict(parent.items(preserve_field_references=True))[name]
    try:
        if isinstance(reference, FieldReference) and text.lower() == "none" and kind is not str:
            parent[name] = None  # the config file made it a placeholder
        else:
            parent[name] = parse_value(text, kind)
    except (TypeError, ValueError):
        raise _wrong_type(parent, field, text) from None
    if field == "train.steps" and config.train.get("epochs"):  # they would replace the steps
        config.train.epochs = 0


def find_field(config: ConfigDict, field: str) -> tuple[ConfigDict, str]:
    """Find a field of a config.

    Args:
        config: The config.
        field: Path of the field, such as "train.steps".

    Returns:
        The section that contains the field, such as `config.train`, and the field's name in it.

    Raises:
        ConfigError: The field does not exist; the message suggests the most similar one.
    """
    here: Any = config
    path = parent = "config"
    for name in field.split("."):
        known = list(here) if isinstance(here, ConfigDict) else []
        if name not in known:
            guess = _nearest(config, path, known, name)
            raise ConfigError(
                f"config.{field}: {path} has no field {name!r}, only "
                f"{', '.join(known) or 'a value'}{guess}"
            )
        parent, here, path = here, here[name], f"{path}.{name}"
    return parent, name


def _nearest(config: ConfigDict, path: str, known: list[str], name: str) -> str:
    """Return a suggestion: a similar field of the section, else one of that name elsewhere."""
    if near := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {path}.{near[0]}?"
    elsewhere = [field for field, _ in _flat(config) if field.rpartition(".")[2] == name]
    return f"; did you mean config.{elsewhere[0]}?" if len(elsewhere) == 1 else ""


def _set(config: ConfigDict, field: str, value: Any) -> None:
    parent, name = find_field(config, field)
    is_text = isinstance(value, str) and parent.get_type(name) is not str
    if is_text or (field, type(value)) == ("train.steps", int):
        return override(config, field, str(value))
    try:
        parent[name] = value
    except (TypeError, ValueError):
        raise _wrong_type(parent, field, value) from None


def _wrong_type(parent: ConfigDict, field: str, value: Any) -> JaxtalError:
    name = field.rpartition(".")[2]
    kind = _KINDS.get(parent.get_type(name), ("a value of the same type", None))[0]
    return ConfigError(
        f"config.{field} is {value!r:.80}; wanted {kind}, as in the config file: "
        f"{str(parent[name])[:80]}"
    )


def _flat(tree: Mapping[str, Any] | ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields "a.b" and values of a nested mapping."""
    for name, value in tree.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def parse_value(text: str, kind: Any) -> Any:
    """Parse text as a value of a type.

    Args:
        text: The text, as on a command line.
        kind: Type of the value.

    Returns:
        A value of this type; for `object` and `NoneType` any Python literal, or the text itself.

    Raises:
        ValueError: The text is not a value of the type; for some types TypeError.
    """
    return _KINDS[kind][1](text) if kind in _KINDS else kind(_literal(text))


_UNREADABLE = (MemoryError, RecursionError, SyntaxError, TypeError, ValueError)


def _bool(text: str) -> bool:
    known = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _int(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _tuple(text: str) -> tuple:
    """Parse "(1, 2)", "1,2" or "a,b"; any other value becomes a tuple of one entry."""
    value = _literal(text)
    if value == text and re.fullmatch(r"[^\W\d][\w -]*(,[^\W\d][\w -]*)*", text):
        return tuple(text.split(","))  # names, also with blanks
    if value == text and set(text) & {",", " "}:
        raise ValueError(text)
    return tuple(value) if isinstance(value, tuple | list | set | dict) else (value,)


def _fields(text: str) -> ConfigDict:
    value = _literal(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return ConfigDict(value)


def _literal(text: str) -> Any:
    """Parse a Python literal; return any other text as it is."""
    try:
        return ast.literal_eval(text)
    except _UNREADABLE:
        return text


# Type of a field -> (its name in messages, the parser of its values).
_KINDS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _bool),
    int: ("an integer", _int),
    float: ("a number", float),
    str: ("a text", str),
    tuple: ("a tuple", _tuple),
    ConfigDict: ("its fields, each set separately", _fields),
    type(None): ("a value", _literal),
    object: ("a value", _literal),
}


# Fields that were added after the first configs. A run whose config.json lacks one of them behaved
# as with the value in the method's THUMOS14 config.
_ADDED = (
    "data.layout", "data.generator", "data.fps", "data.stride", "data.window", "data.skip_damaged",
    "data.time", "data.unit", "data.annotation_fps", "data.axes", "data.streams",
    "data.stream_widths", "data.modality", "data.train_subset", "data.validation_subset",
    "data.test_subset", "data.strict", "data.verify",
    "model.fusion", "model.ccm_main", "model.ccm_auxiliary",
    "localization.inclusive", "localization.upsample", "localization.min_length",
    "localization.drop_first_snippet_only", "localization.class_rule", "localization.topk_divisor",
    "localization.outer", "localization.min_contrast", "localization.sigma",
    "localization.relative_score", "localization.relative_to",
    "train.epochs", "loss.denoising_video", "loss.guide_background", "localization.topk_rounding",
)  # fmt: skip


def complete(saved: dict[str, Any]) -> dict[str, Any]:
    """Add the fields that earlier versions did not have to the content of a config.json.

    Args:
        saved: Content of the file, which is not modified.

    Returns:
        A copy with all fields; added ones have the values of the method's THUMOS14 config.
    """
    # Only a shipped name is loaded: an untrusted file must not choose the code that is executed.
    name = f"{saved.get('method')}_thumos"
    defaults = _load(_modules()[name if name in _shipped() else "common"], None)
    result = {key: {**part} if isinstance(part, dict) else part for key, part in saved.items()}
    for field in _ADDED:
        section, _, key = field.partition(".")
        if isinstance(result.get(section), dict) and key in defaults[section]:
            result[section].setdefault(key, defaults[section][key])
    return result


class ConfigField(NamedTuple):
    """A field of a config.

    Attributes:
        field: Path of the field, such as "train.steps".
        value: Value in the config.
        comment: Comment on the field in the config files, or "".
    """

    field: str
    value: Any
    comment: str


def describe_config(name: str | os.PathLike[str]) -> list[ConfigField]:
    """Return all fields of a config with their values and their comments in the source.

    Args:
        name: Path or name of the config, as for `get_config`.

    Returns:
        The fields, section by section.

    Raises:
        ConfigError: The config does not exist or cannot be loaded.
    """
    filename, preset = split_name(name)
    path = locate_config(filename)
    values = dict(_flat(_load(path, preset)))
    comments = comments_of(path, _modules())
    order = [*comments, *values]
    parts = [field.partition(".")[0] for field in order]
    fields = dict.fromkeys(field for field in order if field in values)
    by_part = sorted(fields, key=lambda field: parts.index(field.partition(".")[0]))
    return [ConfigField(field, values[field], comments.get(field, "")) for field in by_part]


def _get(config: Any, field: str) -> Any:
    try:
        return functools.reduce(getattr, field.split("."), config)
    except AttributeError:
        raise ConfigError(
            f"the config has no field {field}; add it (the method's THUMOS14 config lists all)"
        ) from None


def at_least(config: Any, minimums: Mapping[str, float]) -> None:
    """Raise ConfigError unless fields of a config are finite and not below their minimums.

    Args:
        config: The config.
        minimums: Smallest value by field, such as "train.steps".
    """
    for field, minimum in minimums.items():
        value = _get(config, field)
        if value is None or not minimum <= value < math.inf:
            raise ConfigError(f"config.{field} is {value}; it must be at least {minimum}")


def finite(config: Any, limits: Mapping[str, float]) -> None:
    """Raise ConfigError unless fields of a config are None or within their limits.

    Args:
        config: The config.
        limits: Largest absolute value by field, such as "train.steps".
    """
    for field, limit in limits.items():
        value = _get(config, field)
        if value is not None and not abs(value) <= limit:
            raise ConfigError(f"config.{field} is {value}; it must be a number within +-{limit:g}")


def at_most(config: Any, maximums: Mapping[str, float]) -> None:
    """Raise ConfigError unless fields of a config are not above their maximums.

    Args:
        config: The config.
        maximums: Largest value by field, such as "train.steps".
    """
    for field, maximum in maximums.items():
        if not (value := _get(config, field)) <= maximum:
            raise ConfigError(f"config.{field} is {value}; it must be at most {maximum}")


def below(config: Any, limits: Mapping[str, float]) -> None:
    """Raise ConfigError unless fields of a config are below their limits.

    Args:
        config: The config.
        limits: Exclusive upper bound by field, such as "train.steps".
    """
    for field, limit in limits.items():
        if not (value := _get(config, field)) < limit:
            raise ConfigError(f"config.{field} is {value}; it must be below {limit}")


def one_of(config: Any, options: Mapping[str, Collection[str]]) -> None:
    """Raise ConfigError unless fields of a config have one of the allowed values.

    Args:
        config: The config.
        options: Allowed values by field, such as "train.steps".
    """
    for field, known in options.items():
        if (value := _get(config, field)) not in known:
            raise ConfigError(f"config.{field} is {value!r}; it must be one of {', '.join(known)}")
