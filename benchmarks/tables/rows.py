"""Configs of the table rows: a method's config file with the changes of rows.toml."""

import dataclasses
import functools
import operator
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import configs
from benchmarks.tables.published import FOLDER, PAPERS, TABLES, Published
from jaxtal import methods
from jaxtal.config import get_config
from jaxtal.errors import JaxtalError
from jaxtal.evaluation import protocols

# Tables of no paper: all methods under one protocol; the hybrid without each of its parts; each
# method with what its paper prints, one by one and as a whole.
_METHODS = {
    "CO2-Net": "co2net",
    "D2-Net": "d2net",
    "two-stream": "twostream",
    "W-TALC": "wtalc",
    "BaS-Net": "basnet",
    "ACM-Net": "acmnet",
    "hybrid": "hybrid",
}
_PROTOCOL = "co2"
COMPARISON = Published(
    key="methods",
    title="All methods under one protocol",
    columns=("0.1:0.5", "0.1:0.7", "0.1:0.9"),
    rows=dict.fromkeys(_METHODS, ()),
    judged=("0.1:0.7",),
)
_FILE = tomllib.loads((FOLDER / "rows.toml").read_text("utf-8"))
PARTS = dataclasses.replace(
    COMPARISON,
    key="hybrid/1",
    title="The hybrid and its parts",
    rows=dict.fromkeys([*_FILE["rows"]["hybrid/1"], "hybrid"], ()),
)
READINGS = [
    dataclasses.replace(
        COMPARISON,
        key=f"{method}/paper",
        title=f"{name}: what the paper prints against the default",
        rows=dict.fromkeys(["default", *_FILE["rows"][f"{method}/paper"]], ()),
        base="default",
    )
    for method, name in PAPERS.items()
]
OWN = {table.key: table for table in (COMPARISON, PARTS, *READINGS)}
# Fields that differ from the config file, by scale and method.
SCALES: dict[str, dict[str, dict[str, Any]]] = _FILE["scale"]
_SAME_ROWS = {"twostream/4": "twostream/3", "twostream/6": "twostream/5"}


def _overrides(table: Published) -> dict[str, dict[str, Any]]:
    """Return for each row the fields that differ from the method's full config, or its preset."""
    changed = _FILE["rows"].get(_SAME_ROWS.get(table.key, table.key), {})
    found: dict[str, dict[str, Any]] = {}
    for name in table.rows:
        fields = dict(changed.get(name, {}))
        without = fields.pop("without", "").split()
        found[name] = fields | {f"loss.weights.{term}": 0.0 for term in without}
    return found


OVERRIDES = {table.key: _overrides(table) for table in (*TABLES.values(), PARTS, *READINGS)}

# ActivityNet config of each method, and the protocol of its table.
ACTIVITYNET = {
    "co2net": ("co2net_anet12", "anet12_co2"),
    "d2net": ("d2net_anet12", "anet12_d2"),
    "twostream": ("twostream_anet13", "anet13"),
}
# On other data a row of an ActivityNet table has ActivityNet's model, losses, localization, batch
# size and weight decay, but keeps these fields, which depend on the videos or count steps.
_OF_THE_DATA = (
    "seed",
    "data",
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "optimizer.learning_rate",
    "loss.denoising_start",
    "loss.warmup_steps",
    "model.embedding",
    "model.attention",
    "localization.thresholds",  # of probabilities, so they depend on the number of classes
)


class NoConfigError(JaxtalError):
    """A row needs a config file that does not exist."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Data and scale of all rows.

    Attributes:
        folder: folder of the config files METHOD_SUFFIX.py.
        suffix: name of the data: demo, thumos, audio, ...
        scale: key of `SCALES`.
        preset: preset of the config files; "": none.
        given: fields and values of every row, unless the row overrides them.
    """

    folder: Path
    suffix: str
    scale: str = "config"
    preset: str = ""
    given: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """Row of a table with its config.

    Attributes:
        table: key of the table.
        name: name of the row in the table.
        config: config of a single run with the first seed.
        overrides: fields that differ from the method's full config.
        refused: why no such model exists, in words; "" if it does.
    """

    table: str
    name: str
    config: ConfigDict
    overrides: dict[str, Any]
    refused: str = ""

    @property
    def ensemble(self) -> bool:
        """Return True if the table also has the ensemble of the seeds."""
        return self.table == COMPARISON.key

    @property
    def label(self) -> str:
        """Table and name, for messages."""
        return f"{self.table} {self.name}"


def setting_of(data: str, scale: str, given: dict[str, Any], preset: str = "") -> Setting:
    """Parse `--data`.

    Args:
        data: a config file METHOD_SUFFIX.py of any method, or the suffix alone.
        scale: key of `SCALES`.
        given: fields and values of every row.
        preset: preset of the config files.

    Raises:
        JaxtalError: `data` is neither.
    """
    path = Path(data)
    if path.suffix != ".py" and data.isidentifier():
        return Setting(Path(configs.__path__[0]), data, scale, preset, given)
    suffix = path.stem.partition("_")[2]
    if not suffix or not path.is_file():
        raise JaxtalError(
            f"--data {data}: no config file METHOD_SUFFIX.py; give one such as "
            "configs/co2net_demo.py, or the suffix alone, and a preset with --preset"
        )
    return Setting(path.parent, suffix, scale, preset, given)


def rows_of(table: str, setting: Setting) -> list[Row]:
    """Return the rows of a table in its order.

    Args:
        table: key of `TABLES` or `OWN`.
        setting: data and scale of the rows.

    A row whose change no model allows has the reason in `refused`. With a preset, the table of all
    methods has those of the papers only.

    Raises:
        NoConfigError: a config file is missing.
        JaxtalError: a field does not exist or has an invalid value.
    """
    if table == COMPARISON.key:
        chosen = [(name, m) for name, m in _METHODS.items() if not setting.preset or m in PAPERS]
        return [Row(table, name, _compared(method, setting), {}) for name, method in chosen]
    source = TABLES.get(table) or OWN[table]
    if setting.preset and table in OWN:
        raise JaxtalError(f"--table {table} has its own presets; run it without --preset")
    return [_row(source, setting, *item) for item in OVERRIDES[table].items()]


def _row(table: Published, setting: Setting, name: str, overrides: dict[str, Any]) -> Row:
    fields = dict(overrides)
    if preset := fields.pop("preset", ""):
        setting = dataclasses.replace(setting, preset=preset)
    row = Row(table.key, name, _of_paper(table, setting, fields, name), overrides)
    try:
        _check(row.config, table)
    except JaxtalError as error:
        if not fields:  # the full method: nothing of the table exists
            raise
        return dataclasses.replace(row, refused=str(error))
    return row


def _of_paper(
    table: Published, setting: Setting, overrides: Mapping[str, Any], name: str
) -> ConfigDict:
    """Return a row's config: the full method's on the setting's data with the row's changes."""
    on_activitynet = setting.suffix.startswith("anet")
    if on_activitynet and not table.activitynet:
        raise JaxtalError(
            f"--table {table.key} has t-IoU thresholds from 0.1 on (THUMOS14), but those of --data "
            f"{setting.suffix} begin at 0.5; choose another --table or --data"
        )
    config = load(setting, f"{table.method}_{setting.suffix}")
    if table.activitynet and not on_activitynet:
        config = _as_on_activitynet(config, setting)
    _scale(config, setting)
    return _override(config, overrides, f"{table.key} {name}")


def _compared(method: str, setting: Setting) -> ConfigDict:
    """Return a method's own config under the common protocol."""
    config = load(setting, f"{method}_{setting.suffix}")
    _scale(config, setting)
    chosen = setting.given.get("evaluation.protocol", _PROTOCOL)
    of_method = methods.get(config.method)
    own = of_method.protocols.get(config.data.name, of_method.default_protocol)
    # "" if it is the method's own protocol: the run is then the one of the paper's table.
    config.evaluation.protocol = "" if chosen == own else chosen
    _check(config, COMPARISON)
    return config


def _scale(config: ConfigDict, setting: Setting) -> None:
    fields = _fields_of_scale(config, setting.scale)
    _override(config, fields, f"--scale {setting.scale}")
    _override(config, setting.given, "--set")
    if "train.steps" in {**fields, **setting.given}:
        config.train.epochs = 0  # they would replace the steps


def _fields_of_scale(config: ConfigDict, scale: str) -> dict[str, Any]:
    fields = dict(SCALES[scale].get(config.method, {}))
    if config.loss.get("denoising_start") == 0:  # there is no start to scale
        fields.pop("loss.denoising_start", None)
    return fields


def load(setting: Setting, name: str) -> ConfigDict:
    """Load the config file `name`.py of the setting's folder.

    Args:
        setting: data and scale of the rows.
        name: METHOD_SUFFIX.

    Raises:
        NoConfigError: the file does not exist.
    """
    path = setting.folder / f"{name}.py"
    if not path.is_file():
        raise NoConfigError(
            f"{path}: no such config file, but a row needs it; add it, or choose another --table "
            "or --data"
        )
    has_presets = name.partition("_")[0] in PAPERS
    return get_config(path, preset=(setting.preset or None) if has_presets else None)


def _as_on_activitynet(own: ConfigDict, setting: Setting) -> ConfigDict:
    """Return the method's ActivityNet config on the data of `own`, its config for these data."""
    name, protocol = ACTIVITYNET[own.method]
    config = load(setting, name)
    config.evaluation.protocol = protocol
    for field in _OF_THE_DATA:
        source, last = branch_of(own, field)
        if last in source:
            branch_of(config, field)[0][last] = source[last]
    return config


def branch_of(config: ConfigDict, field: str) -> tuple[ConfigDict, str]:
    """Return the sub-config that has a field, and the field's name in it.

    Args:
        config: whole config.
        field: dotted name such as "train.steps".
    """
    *parents, last = field.split(".")
    return functools.reduce(operator.getitem, parents, config), last


def _override(config: ConfigDict, fields: Mapping[str, Any], where: str) -> ConfigDict:
    """Set fields of a config and return it.

    Raises:
        JaxtalError: the config has no such field, or a value has another type.
    """
    for field, value in fields.items():
        try:
            branch, last = branch_of(config, field)
            branch[last]  # KeyError for a field that does not exist
            branch[last] = value
        except (KeyError, TypeError):
            raise JaxtalError(
                f"{where}: the config of {config.method} has no field {field} that can be "
                f"{value!r}; see configs/{config.method}_thumos.py"
            ) from None
    return config


def _check(config: ConfigDict, table: Published) -> None:
    """Raise JaxtalError if a config is invalid or lacks columns of the table."""
    method = methods.get(config.method)
    method.validate_config(config)
    own = method.protocols.get(config.data.name, method.default_protocol)
    if name := config.evaluation.protocol or own:
        protocol = protocols.get(name)
        known = {f"{threshold:g}" for threshold in protocol.thresholds} | {"F1"}
        known |= {f"{low:g}:{high:g}" for low, high in protocol.averages}
        if lacking := [column for column in table.columns if column not in known]:
            raise JaxtalError(
                f"--table {table.key} has the columns {', '.join(lacking)}, but the protocol "
                f"{name} has {', '.join(sorted(known))}; choose another with "
                "--set evaluation.protocol=NAME"
            )
