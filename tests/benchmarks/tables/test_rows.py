"""Configs of the table rows."""

import re

import pytest
from flax.traverse_util import flatten_dict

from benchmarks.tables import rows as table_rows
from benchmarks.tables import train
from benchmarks.tables.published import TABLES
from configs import twostream_demo
from jaxtal.errors import JaxtalError
from tests.benchmarks.tables.made import DEMO, NOTHING


def differing(one, other) -> dict:
    """The fields of `one` that `other` lacks or that have another value there."""
    first, second = (flatten_dict(config.to_dict(), sep=".") for config in (one, other))
    return {field: value for field, value in first.items() if second.get(field, NOTHING) != value}


@pytest.mark.parametrize("key", [*TABLES, "hybrid/1"])
def test_rows_differ_from_the_full_config_in_their_overrides_only(key):
    """`rows_of` also validates the configs."""
    rows = table_rows.rows_of(key, DEMO)
    table = TABLES.get(key) or table_rows.OWN[key]
    assert [row.name for row in rows] == list(table.rows)
    name = table_rows.ACTIVITYNET[table.method][0] if table.activitynet else ""
    full = table_rows.load(DEMO, name or f"{table.method}_demo")
    for row in rows:
        found = differing(row.config, full)
        if name:
            found = {f: v for f, v in found.items() if not f.startswith(OF_THE_DATA)}
            assert found.pop("evaluation.protocol").startswith("anet1")
        assert found == row.overrides
    assert len({train.identity(row.config) for row in rows}) == len(rows)


def test_two_stream_rows_are_the_presets_of_its_config():
    names = ["fg", "fg_bg", "fg_bg_ct", "fg_bg_ct_gui", "full"]
    presets = dict(zip(TABLES["twostream/3"].rows, names, strict=True))
    presets |= {"attention only": "attention", "MIL only": "mil", "both": "fg_bg_ct"}
    for key in ("twostream/3", "twostream/5"):
        for row in table_rows.rows_of(key, DEMO):
            config = twostream_demo.get_config(presets[row.name])
            assert train.identity(row.config) == train.identity(config)


OF_THE_DATA = ("seed", "data.", "train.", "optimizer.learning_rate", "loss.denoising_start",
               "loss.warmup_steps", "model.embedding", "localization.thresholds")  # fmt: skip


def test_an_activitynet_row_on_other_data():
    demo = table_rows.rows_of("twostream/1", DEMO)[0].config
    config = table_rows.rows_of("twostream/2", DEMO)[0].config
    assert config.data == demo.data
    assert config.train.steps == demo.train.steps
    assert (config.train.batch_size, demo.train.batch_size) == (32, 16)
    # ActivityNet's thresholds, 0.005 to 0.025, are for probabilities of 201 classes.
    assert config.localization.thresholds == demo.localization.thresholds
    assert (config.evaluation.protocol, demo.evaluation.protocol) == ("anet13", "")


def test_every_config_of_the_other_data_sets():
    for suffix in ("thumos", "audio"):
        setting = table_rows.setting_of(suffix, "table", {"data.dir": "somewhere"})
        for key in TABLES:
            for row in table_rows.rows_of(key, setting):
                assert row.config.data.dir == "somewhere"
    assert table_rows.rows_of("co2net/2", table_rows.setting_of("anet12", "config", {}))


def test_rows_of_a_preset():
    """Rows change the preset of a method; the hybrid has none."""
    paper = table_rows.setting_of("demo", "table", {}, "paper")
    for row in table_rows.rows_of("d2net/3", paper):
        assert row.config.train.batch_size == 10
        assert row.config.loss.denoising_start == 0  # not that of --scale table
    assert table_rows.rows_of("twostream/2", paper)[0].config.localization.outer == "padded"
    for scale, given, wanted in (
        ("config", {}, (100, 1300)),
        ("table", {}, (0, 800)),
        ("config", {"train.steps": 9}, (0, 9)),
    ):
        setting = table_rows.setting_of("thumos", scale, given, "paper")
        train_fields = table_rows.rows_of("twostream/1", setting)[0].config.train
        assert (train_fields.epochs, train_fields.steps) == wanted
    shared = {row.name: row.config for row in table_rows.rows_of("methods", paper)}
    assert shared["CO2-Net"].model.classifier == "paper"
    assert set(shared) == {"CO2-Net", "D2-Net", "two-stream"}  # the others have no presets
    for key in ("hybrid/1", "d2net/paper"):
        with pytest.raises(JaxtalError, match=f"--table {key} has its own presets"):
            table_rows.rows_of(key, paper)
    bad = table_rows.setting_of("demo", "table", {}, "papper")
    with pytest.raises(JaxtalError, match="preset 'papper'; wanted code"):
        table_rows.rows_of("d2net/3", bad)


def test_a_row_that_no_model_allows_has_the_reason():
    """The other rows of the table exist."""
    paper = table_rows.setting_of("demo", "table", {}, "paper")
    refused = {row.name: row.refused for row in table_rows.rows_of("co2net/6", paper)}
    assert [name for name, why in refused.items() if why] == ["Add", "SSMA"]
    assert "config.model.classifier=paper has none" in refused["Add"]


@pytest.mark.parametrize("method", ["co2net", "d2net", "twostream"])
def test_the_readings_together_are_the_preset(method):
    """The rows up to `paper` cover all fields of the preset, with its values."""
    rows = {row.name: row for row in table_rows.rows_of(f"{method}/paper", DEMO)}
    default, paper = rows["default"].config, rows["paper"].config
    changed = differing(paper, default).keys()
    alone = [row.overrides.keys() for row in rows.values() if "preset" not in row.overrides]
    assert changed <= set().union(*alone)
    for field in changed:
        values = [row.overrides[field] for row in rows.values() if field in row.overrides]
        branch, last = table_rows.branch_of(paper, field)
        wanted = -1e6 if field == "localization.min_contrast" else branch[last]  # None in TOML
        assert wanted in [tuple(v) if isinstance(v, list) else v for v in values], field


def test_setting_of_a_file_and_its_suffix():
    named = table_rows.setting_of("configs/d2net_demo.py", "table", {"seed": 3})
    assert (named.suffix, named.folder.resolve()) == ("demo", DEMO.folder.resolve())
    config = table_rows.rows_of("co2net/4", named)[0].config
    assert (config.seed, config.loss.mutual_metric, config.data.num_snippets) == (3, "mae", 40)


@pytest.mark.parametrize(
    ("table", "data", "given", "message"),
    [
        ("d2net/4", "configs/nothing_there.py", {}, "--data configs/nothing_there.py: no config"),
        ("d2net/4", "configs/d2net_demo.py:paper", {}, "and a preset with --preset"),
        ("co2net/1", "demo", {"evaluation.protocol": "anet12"}, "has the columns 0.1, 0.2, 0.3,"),
        ("d2net/4", "nothing", {}, "d2net_nothing.py: no such config file"),
        ("d2net/4", "anet12", {}, "--table d2net/4 has t-IoU thresholds from 0.1 on"),
        (
            "d2net/4",
            "demo",
            {"train.step": 3},
            "--set: the config of d2net has no field train.step",
        ),
        ("d2net/4", "demo", {"train.steps": "many"}, "train.steps that can be 'many'"),
        ("d2net/4", "demo", {"method.name": 3}, "no field method.name"),
        ("d2net/4", "demo", {"loss.reduction": "median"}, "config.loss.reduction is 'median'"),
    ],
)
def test_bad_settings(table, data, given, message):
    with pytest.raises(JaxtalError, match=re.escape(message)):
        table_rows.rows_of(table, table_rows.setting_of(data, "config", given))
