"""The papers' tables: as printed, as configs, trained, and what is said of them."""

import csv
import json
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from benchmarks import (
    end_to_end,
    table_figure,
    table_report,
    table_rows,
    table_runs,
    table_text,
    tables,
)
from benchmarks.published import PAPERS, TABLES
from configs import twostream_demo
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError
from jaxtal.train import population, trainer
from tests.helpers.command import TINY

DEMO = table_rows.setting_of("demo", "config", {})
NOTHING = table_runs.Found({}, {})
# Averages that are not the mean of their columns, as the papers have them.
MISPRINTED = {
    ("co2net/1", "S-CNN (2016)"), ("co2net/1", "STAR (2019)"), ("co2net/1", "PreTrimNet (2020)"),
    ("co2net/1", "HAM-Net (2021)"), ("twostream/1", "PreTrimNet"),
}  # fmt: skip


@pytest.fixture(scope="module")
def methods_text(shared) -> tuple[str, str]:
    """METHODS, sections 6 and 7."""
    text = (shared / "METHODS.md").read_text()
    return re.findall(r"^## [67] .*?(?=^## )", text, re.MULTILINE | re.DOTALL)


def number(cell: str) -> float:
    return math.nan if cell.strip() == "-" else float(cell)


def same(got, wanted) -> bool:
    return list(map(repr, got)) == list(map(repr, wanted))


@pytest.mark.parametrize("key", [key for key, table in TABLES.items() if table.others])
def test_other_methods_are_transcribed(key, methods_text):
    paper = PAPERS[TABLES[key].method]
    part = re.search(rf"^{paper} Table {key[-1]},.*?\n\n(.*?)\n\n", methods_text[1], re.M | re.S)[1]
    wanted = []
    for line in part.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if paper == "D2-Net":  # + is strong supervision
            name, plus, _ = cells[0].partition(" +")
            cells[:1] = ["Fully" if plus else "Weakly", name]
        wanted.append((*cells[:2], tuple(map(number, cells[2:]))))
    assert len(TABLES[key].others) == len(wanted) > 8
    assert same(TABLES[key].others, wanted)


def in_rows(text: str) -> dict[str, list[float]]:
    """Rows of Markdown tables."""
    rows = re.findall(r"^\| ([^|]+?) \|((?: [\d.]+ \|)+)$", text, re.MULTILINE)
    return {name: [float(cell) for cell in cells.split("|")[:-1]] for name, cells in rows}


def in_line(text: str, start: str) -> dict[str, list[float]]:
    """What follows `start` in a line, things like `Add 39.9 · a/b 1.0 2.0.`"""
    line = text.partition(start)[2].partition("\n")[0]
    line = re.split(r"\.? \(|\. ", line.replace("AVG (0.5:0.05:0.95)", "AVG"))[0].rstrip(".")
    found = (re.fullmatch(r"(.+?):? ((?:\d+\.\d ?)+)", piece) for piece in line.split(" · "))
    return {match[1]: [*map(float, match[2].split())] for match in found}


def test_own_rows_are_transcribed(methods_text):
    co2, d2, two = re.split(r"^### .*\n", methods_text[0], flags=re.MULTILINE)[1:]
    thumos, anet = (
        {re.sub("^structure.*: ", "", name): numbers for name, numbers in in_rows(part).items()}
        for part in two.split("ActivityNet 1.3 (Tables 2, 4, 6):")
    )
    full = "full (fg+bg+ct+gui+smt)"

    def one(name: str, cells: dict[str, list[float]]) -> dict[str, list[float]]:
        return {name: [value for values in cells.values() for value in values]}

    def of_loss_terms(rows: dict, whole: str) -> dict[str, list[float]]:
        terms = ["fg", "fg+bg", "fg+bg+ct", "fg+bg+ct+gui"]
        return {name: rows[name] for name in terms} | {"fg+bg+ct+gui+smt": rows[whole]}

    def of_branches(rows: dict) -> dict[str, list[float]]:
        alone = {name: rows[name] for name in ("attention only", "MIL only")}
        return alone | {"both": rows["fg+bg+ct"]}

    metrics = in_rows(co2)
    wanted = {
        "co2net/1": {"CO2-Net": metrics.pop("CO2-Net")},
        "co2net/2": one("CO2-Net", in_line(co2, "ActivityNet 1.2 (Table 2): ")),
        "co2net/3": in_line(co2, "(Table 3, avg 0.1:0.7): "),
        "co2net/4": metrics,
        "co2net/5": in_line(co2, "AVG): "),
        "co2net/6": in_line(co2, "(Table 6, avg 0.1:0.7): "),
        "d2net/1": one("D2-Net", in_line(d2, "THUMOS14 (Table 1): ")),
        "d2net/2": one("D2-Net", in_line(d2, "ActivityNet 1.2 (Table 2): ")),
        "d2net/3": in_rows(d2),
        "d2net/4": in_line(d2, "mAP@0.5): "),
        "twostream/1": {"two-stream": thumos[full]},
        "twostream/2": {"two-stream": anet["full"]},
        "twostream/3": of_loss_terms(thumos, full),
        "twostream/4": of_loss_terms(anet, "full"),
        "twostream/5": of_branches(thumos),
        "twostream/6": of_branches(anet),
    }
    got = {
        key: {name: list(numbers) for name, numbers in table.rows.items()}
        for key, table in TABLES.items()
    }
    assert got == wanted
    assert [list(rows) for rows in got.values()] == [list(rows) for rows in wanted.values()]


@pytest.mark.parametrize("key", TABLES)
def test_averages_are_means(key):
    """To rounding, where all their columns are printed."""
    table = TABLES[key]
    compared = 0
    for name, numbers in [*table.rows.items(), *((name, n) for _, name, n in table.others)]:
        row = dict(zip(table.columns, numbers, strict=True))
        step = 0.05 if table.activitynet else 0.1
        for column in (column for column in row if ":" in column):
            low, high = map(float, column.split(":"))
            parts = [f"{low + i * step:g}" for i in range(round((high - low) / step) + 1)]
            values = [row.get(part, math.nan) for part in [*parts, column]]
            if (key, name) not in MISPRINTED and not any(map(math.isnan, values)):
                # The one of JS in CO2-Net's Table 4, 44.557, is printed as 44.5.
                assert values[-1] == pytest.approx(sum(values[:-1]) / len(parts), abs=0.06), name
                compared += 1
    whole = {"co2net/1", "co2net/4", "twostream/1", *(f"twostream/{n}" for n in range(2, 7))}
    assert (compared > 0) == (key in whole)


def differing(one, other) -> dict:
    """The fields of `one` that `other` has not, or otherwise."""
    first, second = (flatten_dict(config.to_dict(), sep=".") for config in (one, other))
    return {field: value for field, value in first.items() if second.get(field, NOTHING) != value}


@pytest.mark.parametrize("key", [*TABLES, "hybrid/1"])
def test_rows_are_the_full_config_but_for_what_they_state(key):
    """Also that each method accepts it, which `rows_of` asks."""
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
    assert len({table_runs.identity(row.config) for row in rows}) == len(rows)


def test_two_stream_rows_are_the_presets_of_its_config():
    names = ["fg", "fg_bg", "fg_bg_ct", "fg_bg_ct_gui", "full"]
    presets = dict(zip(TABLES["twostream/3"].rows, names, strict=True))
    presets |= {"attention only": "attention", "MIL only": "mil", "both": "fg_bg_ct"}
    for key in ("twostream/3", "twostream/5"):
        for row in table_rows.rows_of(key, DEMO):
            config = twostream_demo.get_config(presets[row.name])
            assert table_runs.identity(row.config) == table_runs.identity(config)


OF_THE_DATA = ("seed", "data.", "train.", "optimizer.learning_rate", "loss.denoising_start",
               "loss.warmup_steps", "model.embedding", "localization.thresholds")  # fmt: skip


def test_an_activitynet_row_on_other_data():
    demo = table_rows.rows_of("twostream/1", DEMO)[0].config
    config = table_rows.rows_of("twostream/2", DEMO)[0].config
    assert config.data == demo.data
    assert config.train.steps == demo.train.steps
    assert (config.train.batch_size, demo.train.batch_size) == (32, 16)
    # ActivityNet's, 0.005 to 0.025, are of probabilities among 201 classes.
    assert config.localization.thresholds == demo.localization.thresholds
    assert (config.evaluation.protocol, demo.evaluation.protocol) == ("anet13", "")


def test_every_config_of_the_other_data_sets():
    for suffix in ("thumos", "audio"):
        setting = table_rows.setting_of(suffix, "table", {"data.dir": "somewhere"})
        for key in TABLES:
            for row in table_rows.rows_of(key, setting):
                assert row.config.data.dir == "somewhere"
    assert table_rows.rows_of("co2net/2", table_rows.setting_of("anet12", "config", {}))


def test_setting_of_a_file_and_its_suffix():
    named = table_rows.setting_of("configs/d2net_demo.py", "table", {"seed": 3})
    assert (named.suffix, named.folder.resolve()) == ("demo", DEMO.folder.resolve())
    config = table_rows.rows_of("co2net/4", named)[0].config
    assert (config.seed, config.loss.mutual_metric, config.data.num_snippets) == (3, "mae", 40)


@pytest.mark.parametrize(
    ("table", "data", "given", "message"),
    [
        ("d2net/4", "configs/nothing_there.py", {}, "--data configs/nothing_there.py: no config"),
        ("d2net/4", "configs/d2net_demo.py:paper", {}, "and no preset, as rows are variants"),
        ("co2net/1", "demo", {"evaluation.protocol": "anet12"}, "has the columns 0.1, 0.2, 0.3,"),
        ("d2net/4", "nothing", {}, "d2net_nothing.py: no such config file"),
        ("d2net/4", "anet12", {}, "--table d2net/4 has t-IoU from 0.1 on"),
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


def plan(*keys: str, seeds: int = 2, most: int = 10, found=NOTHING):
    rows = [row for key in keys for row in table_rows.rows_of(key, DEMO)]
    return table_runs.plan(rows, seeds, most, found)


def test_equal_rows_are_trained_once():
    """And those that differ in loss weights together."""
    jobs = plan("co2net/1", "co2net/3", "co2net/4")
    assert [job.rows for job in jobs] == [
        ["co2net/1 CO2-Net = co2net/3 all = co2net/4 MSE", "co2net/3 mil", "co2net/3 mil+oppo",
         "co2net/3 mil+oppo+ml", "co2net/3 mil+oppo+ml+cas"],
        ["co2net/3 mil+oppo+cas+norm"], ["co2net/4 MAE"], ["co2net/4 KL"], ["co2net/4 JS"],
    ]  # fmt: skip
    assert [job.config.population for job in jobs] == [10, 2, 2, 2, 2]


def test_a_population_has_the_rows_members():
    for job in plan("co2net/3", "twostream/5", seeds=3):
        members = population.members_of(job.config)
        assert [m.to_dict() for m in members] == [m.to_dict() for m in job.members]
        assert [m.seed for m in members] == [0, 1, 2] * (len(members) // 3)
        assert population._fields(job.config) == ["seed", *table_runs.varied_fields(job.config)]


def test_seeds_that_are_added_and_a_single_one():
    """Members of different rows may have the same seed."""
    (job, *_) = plan("co2net/3", seeds=1)
    assert [m.seed for m in population.members_of(job.config)] == [0] * 6
    rows = table_rows.rows_of("co2net/3", DEMO)
    members = [m for row in rows for m in table_runs.with_seeds(row.config, 2)]
    found = table_runs.Found({table_runs.identity(m): result(0, 50.0) for m in members}, {})
    (job,) = plan("co2net/3", seeds=3, found=found)
    assert [m.seed for m in population.members_of(job.config)] == [2] * 6
    assert [m.to_dict() for m in population.members_of(job.config)] == [
        m.to_dict() for m in job.members
    ]


def test_what_is_only_shown_trains_nothing_again():
    (one,) = table_rows.rows_of("co2net/1", DEMO)
    given = {"evaluation.save_activations": True, "evaluation.plot_videos": 0}
    (other,) = table_rows.rows_of("co2net/1", table_rows.setting_of("demo", "config", given))
    assert table_runs.identity(one.config) == table_runs.identity(other.config)


def test_a_row_s_seeds_stay_together():
    assert [job.config.population for job in plan("co2net/3", seeds=4, most=3)] == [4] * 6
    assert [job.config.population for job in plan("co2net/3", seeds=3, most=7)] == [6] * 3


def test_folders_do_not_depend_on_the_tables_asked_for(tmp_path):
    (job,) = plan("co2net/1")
    other = plan("co2net/4")[-1]
    assert job.folder(tmp_path).name.startswith("co2net_1_CO2_Net_")
    other.folder(tmp_path).mkdir()
    assert job.folder(tmp_path) == other.folder(tmp_path)


def test_identity_survives_json():
    for row in table_rows.rows_of("twostream/3", DEMO):
        written = json.loads(json_files.to_text(row.config.to_dict()))
        assert table_runs.identity(ConfigDict(written)) == table_runs.identity(row.config)


def test_what_is_found_of_one_seed_and_of_a_run_that_goes_on(tmp_path):
    """A single run's result.json has no members."""
    for name, steps in (("done", 1400), ("going_on", 1500)):
        config = table_rows.rows_of("co2net/1", DEMO)[0].config
        config.train.steps = steps
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json_files.to_text(config.to_dict()))
        content = {**result(0, 50.0), "step": 1400}
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    found = table_runs.find(tmp_path)
    assert len(found.members) == 1
    assert table_runs.plan(table_rows.rows_of("co2net/1", DEMO), 1, 10, found) == []
    (job,) = plan("co2net/1", seeds=2, found=found)
    assert (job.members[0].seed, job.config.population, job.config.vary) == (1, 1, "")


def result(seed: int, value: float) -> dict:
    """One of a member all of whose numbers are `value` per cent."""
    numbers = {
        "map": {f"{i / 20:g}": value / 100 for i in range(1, 20)},
        "average": dict.fromkeys(("0.1:0.5", "0.1:0.7", "0.1:0.9", "0.5:0.95"), value / 100),
        "f1": value / 100,
    }
    best = {
        "selected_by": "0.1:0.7",
        **numbers,
        "average": {name: v + 0.01 for name, v in numbers["average"].items()},
    }
    return {"seed": seed, "step": 7, "protocol": "co2", **numbers, "best_on_test": best}


def report_of(key: str, values: dict, failed=(), setting=DEMO, ensembles=None) -> dict:
    """A report in which the rows' members have the given values; those of None have diverged."""
    rows = table_rows.rows_of(key, setting)
    found, reasons = table_runs.Found({}, ensembles or {}), {}
    count = max(map(len, values.values()))
    for row in rows:
        members = table_runs.with_seeds(row.config, count)
        for member, value in zip(members, values.get(row.name, ()), strict=row.name in values):
            found.members[table_runs.identity(member)] = (
                {"seed": member.seed, "step": 7, "diverged": 5} if value is None
                else result(member.seed, value)
            )  # fmt: skip
        if row.name in failed:
            reasons |= {table_runs.identity(member): "out of luck" for member in members}
    about = {"data": "demo", "scale": "config", "command": ["--table", key]}
    table = TABLES.get(key, table_rows.COMPARISON)
    content = table_report.report(table, rows, count, found, reasons, about)
    return json.loads(json_files.to_text(content))


LADDER = {
    "mil": [30, 31, 32], "mil+oppo": [35, 35, 38], "mil+oppo+ml": [34, 36, 37],
    "mil+oppo+ml+cas": [40, 42, 41], "mil+oppo+cas+norm": [48, 49, 50], "all": [45, 44, 46],
}  # fmt: skip


def test_sentences_on_the_paper_s_order():
    count, holds, *reverse, unknown = table_text.sentences(report_of("co2net/3", LADDER))
    assert count == (
        "0.1:0.7: of 9 orders of the paper 5 hold here, 2 are reversed and 2 cannot be told apart "
        "(differences paired by seed, each with its own 95 % interval)."
    )
    assert holds.startswith("0.1:0.7, holds: ")
    assert "`all` > `mil` (14.0 [11.5, 16.5])" in holds
    assert reverse == [
        "0.1:0.7: the paper's order `all` > `mil+oppo+cas+norm` (44.6 > 42.6) does not hold here "
        "but the reverse: 45.0 and 49.0, difference -4.0 [-6.5, -1.5].",
        "0.1:0.7: the paper's order `mil+oppo+ml+cas` > `mil+oppo+cas+norm` (42.8 > 42.6) does not "
        "hold here but the reverse: 41.0 and 49.0, difference -8.0 [-10.5, -5.5].",
    ]
    # 45, 44, 46 less 40, 42, 41: 4 +- 1.73, Student's 4.303 * 1.73 / sqrt(3).
    assert unknown == (
        "0.1:0.7, cannot be told apart: `all` > `mil+oppo+ml+cas` (4.0 [-0.3, 8.3]), "
        "`mil+oppo+ml` > `mil+oppo` (-0.3 [-3.2, 2.5])."
    )


def test_all_pairs_may_hold_or_none():
    paper = {name: [numbers[0] + i for i in range(3)] for name, numbers in
             TABLES["co2net/6"].rows.items()}  # fmt: skip
    count, holds = table_text.sentences(report_of("co2net/6", paper))
    assert count.startswith("0.1:0.7: of 7 orders of the paper 7 hold here, 0 are reversed and 0 ")
    assert holds.count(">") == 7
    turned = {name: [100 - value for value in values] for name, values in paper.items()}
    count, *lines = table_text.sentences(report_of("co2net/6", turned))
    assert "0 hold here, 7 are reversed" in count
    assert len(lines) == 7
    assert all("does not hold here but the reverse" in line for line in lines)


def test_two_judged_columns_and_one_seed():
    """One seed tells nothing apart."""
    values = {"L_CE": [10.0], "L_F": [20.0], "L_Dis": [30.0], "L_Dis + L_D": [25.0]}
    lines = table_text.sentences(report_of("d2net/3", values))
    heads = ["0.5:", "0.5, cannot be told apart:", "F1 at 0.5:", "F1 at 0.5, cannot be told apart:"]
    for line, head in zip(lines, heads, strict=True):
        assert line.startswith(head)
    assert "of 5 orders of the paper 0 hold here, 0 are reversed and 5 cannot" in lines[0]
    assert "`L_Dis + L_D` > `L_Dis` (-5.0, one seed)" in lines[3]


def test_rows_and_members_that_failed():
    """A row without numbers is shown and compared with none; of one with some they count."""
    values = {"MAE": [None, 41, 44], "KL": [None, None, None], "MSE": [40, 43, 43]}
    content = report_of("co2net/4", values, failed=["JS"])
    text = table_text.markdown(content)
    assert "| KL | failed: seed 0 diverged before step 5; seed 1 diverged before step 5;" in text
    assert "| JS | failed: out of luck |" in text
    assert "- `MAE`: of 3 seeds 2; seed 0 diverged before step 5" in text
    (pair,) = content["order"]
    assert (pair["rows"], pair["n"]) == (["MSE", "MAE"], 2)
    assert pair["difference"] == pytest.approx((2 - 1) / 2)  # of seeds 1 and 2
    lines = [*csv.DictReader(table_text.to_csv(content).splitlines())]
    assert {(line["row"], line["source"]) for line in lines} == {
        ("MAE", "here"), ("MSE", "here"), *((name, "paper") for name in TABLES["co2net/4"].rows),
    }  # fmt: skip


@pytest.mark.parametrize("key", TABLES)
def test_markdown_and_csv_have_every_row(key):
    table = TABLES[key]
    values = {name: [40.0, 42.0, 43.0] for name in table.rows}
    content = report_of(key, values)
    text = table_text.markdown(content)
    assert text.startswith(f"### {table.heading}\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    own, others = lines[: 2 + 2 * len(table.rows)], lines[2 + 2 * len(table.rows) :]
    assert len(others) == (len(table.others) + 2 if table.others else 0)
    for part in (own, others):
        assert len({line.count("|") for line in part}) <= 1
    assert own[2].startswith(f"| {next(iter(table.rows))} | here | 41.7")
    assert " | 37.9 to 45.5" in own[2]  # Student's 4.303 * 1.53 / sqrt(3) = 3.79 on each side
    for here, paper in zip(own[2::2], own[3::2], strict=True):
        assert (here.split(" | ")[1], paper.split(" | ")[1]) == ("here", "paper")
    rows = [*csv.DictReader(table_text.to_csv(content).splitlines())]
    assert len(rows) == len(table.columns) * (2 * len(table.rows) + len(table.others))
    assert rows[0]["by_seed"] == "0:40.0 1:42.0 2:43.0"
    assert float(rows[0]["mean"]) == pytest.approx(125 / 3)
    assert {(row["data"], row["table"]) for row in rows} == {("demo", key)}


@pytest.fixture
def with_hybrid(tmp_path) -> table_rows.Setting:
    """Config files of four methods, the hybrid's being CO2-Net's with another learning rate."""
    for method in ("co2net", "d2net", "twostream"):
        text = f"from configs.{method}_demo import get_config"
        (tmp_path / f"{method}_toy.py").write_text(text)
    (tmp_path / "hybrid_toy.py").write_text(
        "from configs import co2net_demo\n"
        "def get_config():\n"
        "    config = co2net_demo.get_config()\n"
        "    config.optimizer.learning_rate = 7e-4\n"
        "    return config\n"
    )
    return table_rows.setting_of(str(tmp_path / "co2net_toy.py"), "config", {})


def test_methods_are_compared_under_one_protocol(with_hybrid):
    rows = table_rows.rows_of("methods", with_hybrid)
    protocols = {row.name: row.config.evaluation.protocol for row in rows}
    # "" is CO2-Net's own, which is the one; so this is its row of its paper's table.
    assert protocols == {"CO2-Net": "", "D2-Net": "co2", "two-stream": "co2", "hybrid": ""}
    of_paper = table_rows.rows_of("co2net/1", with_hybrid)[0]
    assert table_runs.identity(of_paper.config) == table_runs.identity(rows[0].config)
    given = {"evaluation.protocol": "official"}
    setting = table_rows.setting_of(str(with_hybrid.folder / "co2net_toy.py"), "config", given)
    rows = table_rows.rows_of("methods", setting)
    assert {row.config.evaluation.protocol for row in rows} == {"official"}
    (with_hybrid.folder / "hybrid_toy.py").unlink()
    with pytest.raises(JaxtalError, match=r"hybrid_toy\.py: no such config file"):
        table_rows.rows_of("methods", with_hybrid)


def test_methods_and_their_ensembles(with_hybrid):
    row = table_rows.rows_of("methods", with_hybrid)[0]
    names = frozenset(map(table_runs.identity, table_runs.with_seeds(row.config, 3)))
    values = {
        "CO2-Net": [50, 52, 54], "D2-Net": [40, 40, 43], "two-stream": [45, 55, 65],
        "hybrid": [56, 57, 58],
    }  # fmt: skip
    ensembles = {names: {"members": 3, **result(0, 60.0)}}
    content = report_of("methods", values, setting=with_hybrid, ensembles=ensembles)
    text = table_text.markdown(content)
    assert "| CO2-Net, ensemble of 3 | here | 60.0 | 60.0 | 60.0 |  | 1 |" in text
    assert "| 50.0, 52.0, 54.0 |" in text
    assert "paper" not in text
    assert table_text.sentences(content) == [
        "0.1:0.7: the mean of hybrid, 57.0, is above the 95 % interval of CO2-Net (47.0 to 57.0), "
        "above the 95 % interval of D2-Net (36.7 to 45.3), inside the 95 % interval of two-stream "
        "(30.2 to 79.8), 2.0 above the best single mean (two-stream, 55.0)."
    ]


def test_members_trained_apart_are_no_ensemble(with_hybrid):
    """Seeds that were added later are trained again with the others, for the ensemble."""
    rows = table_rows.rows_of("methods", with_hybrid)[:1]
    members = table_runs.with_seeds(rows[0].config, 3)
    found = table_runs.Found({table_runs.identity(m): result(0, 50.0) for m in members[:2]}, {})
    (job,) = table_runs.plan(rows, 3, 10, found)
    assert len(job.members) == 3
    (job,) = table_runs.plan(table_rows.rows_of("co2net/1", with_hybrid), 3, 10, found)
    assert [member.seed for member in job.members] == [2]


def test_block_of_a_readme(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- tables -->\nold\n<!-- /tables -->\nafter\n")
    texts = []
    for _ in range(2):
        table_text.replace_block(file, "new\n")
        texts.append(file.read_text())
    assert texts == ["before\n<!-- tables -->\n\nnew\n\n<!-- /tables -->\nafter\n"] * 2


@pytest.mark.parametrize(
    "text",
    ["", "<!-- tables -->", "<!-- /tables --><!-- tables -->",
     "<!-- tables --><!-- /tables --><!-- tables --><!-- /tables -->"],
)  # fmt: skip
def test_a_readme_without_its_markers(tmp_path, text):
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(JaxtalError, match="wanted one <!-- tables --> and after it one"):
        table_text.replace_block(file, "new")
    assert file.read_text() == text


def test_figure(tmp_path, monkeypatch):
    """Rows from top to bottom, half an interval on each side, the paper's number beside."""
    drawn = []
    monkeypatch.setattr(
        table_figure, "_panel", lambda *panel: drawn.append(panel) or original(*panel)
    )
    reports = [report_of("co2net/3", LADDER), report_of("co2net/1", {"CO2-Net": [1, 2, 3]})]
    table_figure.draw(reports, tmp_path / "tables.png")
    assert (tmp_path / "tables.png").read_bytes().startswith(b"\x89PNG")
    ((axis, _, column),) = drawn
    assert column == "0.1:0.7"
    here, paper = (line.get_xdata() for line in axis.lines[::3])
    assert list(here) == pytest.approx([31, 36, 107 / 3, 41, 49, 45])
    assert list(paper) == [38.1, 40.0, 41.4, 42.8, 42.6, 44.6]
    table_figure.draw(reports[1:], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


original = table_figure._panel


SMALL = [argument.removeprefix("--config.") for argument in [*TINY[1:], "train.steps=4"]]


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, arguments)])
    return tables.run(tables.parse())


def test_rows_are_trained_once_also_after_an_interruption(monkeypatch, tmp_path, capsys):
    """Real runs of rows that could be one population, if there were room for it."""
    rows = {"MIL only": {"optimizer.learning_rate": 1e-2}, "both": {}}
    monkeypatch.setitem(table_rows.OVERRIDES, "twostream/5", rows)
    trained = []

    def train(config, workdir):
        if len(trained) == 1 and not interrupted:
            interrupted.append(workdir)
            raise KeyboardInterrupt
        trained.append((config, workdir))
        return train_and_evaluate(config, workdir)

    interrupted: list[Path] = []
    train_and_evaluate = trainer.train_and_evaluate
    monkeypatch.setattr(trainer, "train_and_evaluate", train)
    output, readme = tmp_path / "output", tmp_path / "README.md"
    readme.write_text("<!-- tables -->\n<!-- /tables -->\n")
    arguments = [
        "--table", "twostream/5", "--seeds", 2, "--set", *SMALL, "--workdir", tmp_path / "runs",
        "--output", output, "--readme", readme, "--figure", tmp_path / "figure.png",
        "--members", 2,
    ]  # fmt: skip
    with end_to_end.compiled_programs_kept():  # the rows' are the same
        with pytest.raises(KeyboardInterrupt):
            run(monkeypatch, *arguments)
        assert not [*output.iterdir()]
        assert run(monkeypatch, *arguments) == 0
    (first, _), (second, folder) = trained
    assert (first.optimizer.learning_rate, second.optimizer.learning_rate) == (1e-2, 1e-4)
    assert first.population == second.population == 2
    assert interrupted == [folder]
    assert "training" in (folder / "log.txt").read_text()

    content = json.loads((output / "demo_twostream_5.json").read_text())
    other, both = content["rows"]
    assert other["mean"] != both["mean"]
    result = json.loads((folder / "result.json").read_text())
    values = [100 * member["average"]["0.1:0.7"] for member in result["members"]]
    assert [m["values"]["0.1:0.7"] for m in both["members"]] == pytest.approx(values)
    assert both["mean"]["0.1:0.7"] == pytest.approx(sum(values) / 2)
    assert content["command"][:4] == ["--table", "twostream/5", "--data", "demo"]
    assert str(tmp_path) not in (output / "demo_twostream_5.md").read_text()
    assert f"    python -m benchmarks.tables {shlex.join(content['command'])}" in readme.read_text()

    files = {path: path.read_bytes() for path in [*output.iterdir(), readme]}
    assert {path.suffix for path in files} == {".json", ".md", ".csv"}
    assert run(monkeypatch, *arguments) == 0
    assert len(trained) == 2
    assert {path: path.read_bytes() for path in files} == files
    assert "Table 5" in capsys.readouterr().out


def test_a_row_that_cannot_be_trained(monkeypatch, tmp_path, capsys):
    """Others go on; a table without any row leaves what is there."""

    def train(config, workdir):
        if config.loss.denoising in ("l1", "pdmi"):
            raise JaxtalError("out of luck")
        content = {"step": 4, "members": [result(m, 30.0 + m) for m in range(2)]}
        table_runs.Path(workdir / "result.json").write_text(json.dumps(content))
        (workdir / "config.json").write_text(json_files.to_text(config.to_dict()))

    monkeypatch.setattr(trainer, "train_and_evaluate", train)
    output = tmp_path / "output"
    code = run(
        monkeypatch, "--table", "d2net/4", "d2net/1", "--seeds", 2, "--set", *SMALL,
        "--workdir", tmp_path / "runs", "--output", output,
    )  # fmt: skip
    assert code == 1
    said = capsys.readouterr()
    assert "d2net/4 L1: failed: out of luck" in said.err
    assert "d2net/1: no row could be trained" in said.err
    assert {path.name for path in output.iterdir()} == {
        "README.md", *(f"demo_d2net_4.{suffix}" for suffix in ("json", "md", "csv"))
    }  # fmt: skip
    text = (output / "demo_d2net_4.md").read_text()
    assert (output / "README.md").read_text().endswith(text)
    assert "| BCE | here | 30.5 ± 0.7 | 24.1 to 36.9 | 2 | 30.5 |" in text
    assert "| pDMI | failed: out of luck |" in text


def test_misuse_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    arguments = ["--table", "d2net/4", "--set", "train.step=3", "--workdir", str(tmp_path / "w")]
    monkeypatch.setattr(sys, "argv", ["tables", *arguments])
    with pytest.raises(SystemExit) as stop:
        tables.main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --set: the config of d2net has no field train.step ")
    assert said.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [("--readme", "wanted one <!-- tables -->"), ("--figure", "wanted a file .png, .svg or .pdf")],
)
def test_outputs_are_checked_before_anything_is_trained(monkeypatch, tmp_path, option, message):
    file = tmp_path / "file"
    file.write_text("no markers")
    with pytest.raises(JaxtalError, match=message):
        run(monkeypatch, "--table", "d2net/4", "--workdir", tmp_path / "w", option, file)
    assert not (tmp_path / "w").exists()
