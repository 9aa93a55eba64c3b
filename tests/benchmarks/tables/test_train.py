"""Rows are trained as populations, each row once."""

import json

from ml_collections import ConfigDict

from benchmarks.tables import rows as table_rows
from benchmarks.tables import train
from jaxtal.data.io import json_files
from jaxtal.training import population
from tests.benchmarks.tables.made import DEMO, NOTHING, result


def plan(*keys: str, seeds: int = 2, most: int = 10, found=NOTHING):
    rows = [row for key in keys for row in table_rows.rows_of(key, DEMO)]
    return train.plan(rows, seeds, most, found)


def test_equal_rows_are_trained_once():
    """Rows that differ only in loss weights share a population."""
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
        assert population._fields(job.config) == ["seed", *train.varied_fields(job.config)]


def test_added_seeds_and_a_single_seed():
    """Members of different rows may have the same seed."""
    (job, *_) = plan("co2net/3", seeds=1)
    assert [m.seed for m in population.members_of(job.config)] == [0] * 6
    rows = table_rows.rows_of("co2net/3", DEMO)
    members = [m for row in rows for m in train.with_seeds(row.config, 2)]
    found = train.Found({train.identity(m): result(0, 50.0) for m in members}, {})
    (job,) = plan("co2net/3", seeds=3, found=found)
    assert [m.seed for m in population.members_of(job.config)] == [2] * 6
    assert [m.to_dict() for m in population.members_of(job.config)] == [
        m.to_dict() for m in job.members
    ]


def test_fields_without_effect_on_the_numbers_train_nothing_again():
    (one,) = table_rows.rows_of("co2net/1", DEMO)
    given = {"evaluation.save_activations": True, "evaluation.plot_videos": 0}
    (other,) = table_rows.rows_of("co2net/1", table_rows.setting_of("demo", "config", given))
    assert train.identity(one.config) == train.identity(other.config)


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
        assert train.identity(ConfigDict(written)) == train.identity(row.config)


def test_results_of_a_single_run_and_of_a_run_that_is_continued(tmp_path):
    """A single run's result.json has no members."""
    for name, steps in (("done", 1400), ("continued", 1500)):
        config = table_rows.rows_of("co2net/1", DEMO)[0].config
        config.train.steps = steps
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json_files.to_text(config.to_dict()))
        content = {**result(0, 50.0), "step": 1400}
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    found = train.find(tmp_path)
    assert len(found.members) == 1
    assert train.plan(table_rows.rows_of("co2net/1", DEMO), 1, 10, found) == []
    (job,) = plan("co2net/1", seeds=2, found=found)
    assert (job.members[0].seed, job.config.population, job.config.vary) == (1, 1, "")
