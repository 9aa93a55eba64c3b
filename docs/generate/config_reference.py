"""The reference of config fields, from the shipped config files and the comments in them."""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from docs.generate.markdown import NONE, escape
from jaxtal.config import ConfigField, config_names, describe_config, locate_config

ROOT = Path(__file__).resolve().parents[2]
METHODS = {
    "co2net": "CO2-Net",
    "d2net": "D2-Net",
    "twostream": "Two-stream network",
    "hybrid": "Hybrid",
    "wtalc": "W-TALC",
    "basnet": "BaS-Net",
    "acmnet": "ACM-Net",
}
PRESETS = {
    "co2net": ("paper",),
    "d2net": ("paper",),
    "twostream": ("fg", "fg_bg", "fg_bg_ct", "fg_bg_ct_gui", "attention", "mil"),
    "hybrid": (),
    "wtalc": (),
    "basnet": (),
    "acmnet": (),
}

_UNIT = re.compile(r"\[([^]]+)\] ")
_HEAD = """# Config fields

Every number that a run uses is a field of its config. On the command line `--config.FIELD=VALUE`
overrides a field, in Python `jaxtal.get_config(name, overrides={"FIELD": VALUE})` does. The command
`jaxtal train --config NAME --help` prints the fields of one config with their values. The guide
[Training options](../guides/training.md) describes how configs are used.

This page is generated from the files in `configs/` when the site is built.
"""


class Description(NamedTuple):
    """The parts of a field's row.

    Attributes:
        type: "int", "float or None", ...
        unit: "snippets", for example; "" for numbers without unit.
        meaning: the comment without its unit.
    """

    type: str
    unit: str
    meaning: str


def describe(field: ConfigField) -> Description:
    """Return the type, unit and meaning of a field."""
    unit = _UNIT.match(field.comment)
    meaning = field.comment[unit.end() :] if unit else field.comment
    kind = "float or None" if field.value is None else type(field.value).__name__
    return Description(kind, unit[1] if unit else "", meaning)


def page() -> str:
    """Return the page: the shared fields, each method's own fields, the shipped configs."""
    common = {field.field: field for field in describe_config(ROOT / "configs" / "common.py")}
    fields = {method: _fields(f"{method}_thumos") for method in METHODS}
    shared = [name for name in common if all(name in own for own in fields.values())]
    lines = [_HEAD, "## All methods { #config-all }\n"]
    lines += _tables(common[name] for name in shared if name != "method")
    for method, title in METHODS.items():
        own = [field for name, field in fields[method].items() if name not in shared]
        values = {name: common[name].value for name in shared}
        lines += [f"## {title} {{ #config-{method} }}\n"]
        lines += ["Fields that only this method has, with their values for THUMOS14.\n"]
        lines += [*_tables(own), *_changes("Shared fields with other values:", values, method)]
    return "\n".join([*lines, *_shipped(fields)])


def _fields(name: str) -> dict[str, ConfigField]:
    return {field.field: field for field in describe_config(name)}


def _tables(fields: Iterable[ConfigField]) -> Iterator[str]:
    """Yield a table for each part of the config."""
    parts = sorted(fields, key=lambda field: "." in field.field)  # those of no part come first
    for part, group in itertools.groupby(parts, lambda field: field.field.rpartition(".")[0]):
        yield f"**`{part}`**\n" if part else "**Run**\n"
        yield "| Field | Type | Default | Unit | Meaning |\n|---|---|---|---|---|"
        for field in group:
            kind, unit, meaning = describe(field)
            cells = (f"`{field.field}`", kind, _code(field.value), unit or NONE, _text(meaning))
            yield f"| {' | '.join(cells)} |"
        yield ""


def _changes(head: str, values: Mapping[str, Any], method: str, name: str = "") -> Iterator[str]:
    """Yield a table of the fields whose values differ in a config."""
    fields = _fields(name or f"{method}_thumos")
    changed = {
        path: field.value
        for path, field in fields.items()
        if path != "method" and path in values and field.value != values[path]
    }
    if changed:
        yield f"{head}\n\n| Field | Value |\n|---|---|"
        yield from (f"| `{path}` | {_code(value)} |" for path, value in changed.items())
        yield ""


def _shipped(fields: Mapping[str, Mapping[str, ConfigField]]) -> Iterator[str]:
    """Yield the purpose of each shipped config and its differences to the THUMOS14 config."""
    yield "## Shipped configs { #config-shipped }\n"
    for method, (name, preset) in _configs():
        if not preset:
            source = locate_config(name).read_text(encoding="utf-8")
            yield f"### `{name}` {{ #config-{name.replace('_', '-')} }}\n"
            yield f"{(ast.get_docstring(ast.parse(source)) or '').partition(chr(10))[0]}\n"
        base = f"{method}_thumos" if not preset else name
        values = {path: field.value for path, field in _fields(base).items()}
        full = f"{name}:{preset}" if preset else name
        yield from _changes(f"`{full}` differs from `{base}` in:", values, method, full)


def _configs() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (method, (config, preset)); presets of the THUMOS14 configs only."""
    for method in METHODS:
        names = sorted(name for name in config_names() if name.partition("_")[0] == method)
        for name in sorted(names, key=lambda name: not name.endswith("_thumos")):
            presets = PRESETS[method] if name.endswith("_thumos") else ()
            yield from ((method, (name, preset)) for preset in ("", *presets))


def _code(value: Any) -> str:
    return f"`{value!r}`"


def _text(comment: str) -> str:
    """Escape a comment for a Markdown table, but for the parts in backticks."""
    parts = comment.split("`")
    parts[::2] = (escape(part) for part in parts[::2])
    return "`".join(parts) or NONE
