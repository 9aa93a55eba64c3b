"""Populations: the single runs that their members equal, and statistics over members."""

import math

import numpy as np
import pytest
from scipy import stats

from configs import co2net_demo
from jaxtal.errors import JaxtalError
from jaxtal.training import population


def config_of(members: int, vary: str = ""):
    config = co2net_demo.get_config()
    config.population, config.vary, config.seed = members, vary, 5
    return config


def test_members_are_single_runs_with_their_own_seeds_and_values():
    vary = "optimizer.learning_rate=1e-4,2e-4,3e-4 loss.weights.norm=0,1,0.5"
    config = config_of(3, vary)
    members = population.members_of(config)
    assert [member.seed for member in members] == [5, 6, 7]
    assert [member.optimizer.learning_rate for member in members] == [1e-4, 2e-4, 3e-4]
    assert [member.loss.weights.norm for member in members] == [0, 1, 0.5]
    assert all((member.population, member.vary) == (1, "") for member in members)
    assert population.values_of(members[1], config) == {
        "optimizer.learning_rate": 2e-4, "loss.weights.norm": 1.0
    }  # fmt: skip
    hyper = population.hypers(members)
    np.testing.assert_array_equal(hyper.seed, [5, 6, 7])
    np.testing.assert_allclose(hyper.loss_weights["norm"], [0, 1, 0.5])
    np.testing.assert_allclose(hyper.loss_weights["mutual"], [1, 1, 1])
    assert config.loss.weights.norm == 0.8  # the argument is unchanged


def test_seeds_can_be_given():
    members = population.members_of(config_of(2, "seed=3,3 loss.weights.norm=0,1"))
    assert [member.seed for member in members] == [3, 3]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("loss.weights.norm", "'loss.weights.norm' is not FIELD=VALUE,VALUE"),
        ("train.steps=1,2", "members cannot differ in 'train.steps', only in seed, optimizer"),
        ("loss.weights.nrm=1,2", "members cannot differ in 'loss.weights.nrm'"),
        ("seed=1,2 seed=1,2", "seed is given twice"),
        ("seed=1,x", "the values must be numbers"),
        ("seed=1.5,2", "the values must be numbers"),
        ("seed=1,2,3", "has 3 values, but config.population is 2; give one for each member"),
    ],
)
def test_errors_of_vary(vary, message):
    with pytest.raises(JaxtalError, match=message):
        population.members_of(config_of(2, vary))


def result(value: float, **more) -> dict:
    return {
        "step": 7,
        "protocol": "co2",
        "map": {"0.5": value},
        "average": {"0.1:0.7": value / 2},
        "f1": 0.25,
        "classification_map": 0.5,
        "counts": {"instances": 3},
        **more,
    }


def test_statistics_are_student_s():
    values = [0.1, 0.4, 0.2, 0.6]
    found = population.statistics([result(value) for value in values])
    assert found["members"] == 4
    assert found["mean"]["map"]["0.5"] == pytest.approx(np.mean(values))
    assert found["sd"]["average"]["0.1:0.7"] == pytest.approx(np.std(values, ddof=1) / 2)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["interval_95"]["map"]["0.5"] == pytest.approx([low, high])
    assert found["interval_95"]["f1"] == [0.25, 0.25]
    assert "counts" not in found["mean"]
    assert "step" not in found["mean"]
    single = population.statistics([result(0.3)])
    assert single["mean"]["map"]["0.5"] == 0.3
    assert np.isnan(single["sd"]["map"]["0.5"])
    assert np.isnan(single["interval_95"]["map"]["0.5"]).all()
    assert population.statistics([]) == {"members": 0}


@pytest.mark.parametrize("degrees", [*range(1, 31), 100, 999, 1000])
def test_quantiles_are_student_s(degrees):
    for probability in (0.6, 0.75, 0.9, 0.975, 0.995):
        wanted = stats.t.ppf(probability, degrees)  # before SciPy 1.16 right to ten digits only
        found = population.student_quantile(probability, degrees)
        assert found == pytest.approx(wanted, rel=1e-10)
    assert population.student_quantile(0.5, degrees) == 0


@pytest.mark.parametrize("probability", [0.6, 0.75, 0.9, 0.975, 0.995])
def test_quantiles_are_exact_where_there_is_a_formula(probability):
    p, quantile = probability, population.student_quantile
    root = math.sqrt(4 * p * (1 - p))
    four = 2 * math.sqrt(math.cos(math.acos(root) / 3) / root - 1)
    assert quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-13)
    assert quantile(p, 2) == pytest.approx(2 * (2 * p - 1) / math.sqrt(2) / root, rel=1e-13)
    assert quantile(p, 4) == pytest.approx(four, rel=1e-13)


def test_the_summary_of_a_single_run_is_its_result():
    assert population.summary([result(0.5)]) == result(0.5)


def test_a_summary_excludes_diverged_members():
    line = population.summary([result(0.2), None, result(0.4)])
    assert (line["step"], line["protocol"]) == (7, "co2")
    assert line["map"]["0.5"] == pytest.approx(0.3)
    assert line["members"] == {"0.1:0.7": [0.1, None, 0.2]}


def test_groups_of_equal_values_and_diverged_members():
    without, whole = {"loss.weights.norm": 0.0}, {"loss.weights.norm": 1.0}
    members = [
        result(0.1, seed=0, values=without),
        result(0.5, seed=1, values=whole),
        {"step": 7, "seed": 2, "values": whole, "diverged": 3},
        result(0.3, seed=3, values=without),
    ]
    grouped = [(without, [0, 3]), (whole, [1, 2])]
    together = {"members": 2, "map": {"0.5": 0.6}}
    found = population.result(members, grouped, [together, None])
    assert (found["population"], found["diverged"]) == (4, [2])
    assert found["mean"]["map"]["0.5"] == pytest.approx(0.3)
    first, second = found["groups"]
    assert (first["values"], first["members"]) == (without, 2)
    assert first["ensemble"] == together
    assert "ensemble" not in second
    assert "ensemble" not in found
    assert first["mean"]["map"]["0.5"] == pytest.approx(0.2)
    assert (second["values"], second["members"]) == (whole, 1)
    assert found["members"] == members
    alike = [result(0.1, values={}), result(0.2, values={})]
    found = population.result(alike, [({}, [0, 1])], [together])
    assert "groups" not in found
    assert found["ensemble"] == together


def test_members_are_grouped_by_their_values_besides_the_seed():
    config = config_of(4, "seed=1,2,3,4 loss.weights.norm=0,1,1,0")
    assert population.groups(population.members_of(config), config) == [
        ({"loss.weights.norm": 0.0}, [0, 3]), ({"loss.weights.norm": 1.0}, [1, 2])
    ]  # fmt: skip
    config = config_of(3)
    assert population.groups(population.members_of(config), config) == [({}, [0, 1, 2])]
