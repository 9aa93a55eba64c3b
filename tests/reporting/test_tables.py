"""Tables of results: numbers as in result.json, and only comparable rows together."""

import json
import math

import pytest

from jaxtal.errors import JaxtalError
from jaxtal.reporting import tables
from jaxtal.training import population


def evaluated(value: float, protocol: str = "co2") -> dict:
    return {
        "protocol": protocol,
        "map": {"0.5": value, "0.7": None},
        "average": {"0.1:0.7": value / 2},
        "f1": 0.25,
    }


def single(value: float, protocol: str = "co2", **more) -> dict:
    """Return a run's result: 1.5 times `value` at the best step, half of it under `official`."""
    at = {
        "step": 40, **evaluated(value, protocol), "classification_map": 0.9,
        "official": evaluated(value / 2, "official"),
    }  # fmt: skip
    best = {
        "selected_by": "0.1:0.7", **at, **evaluated(1.5 * value), "step": 30,
        "official": evaluated(0.75 * value, "official"),
    }  # fmt: skip
    return {"method": "co2net", "data": "Tiny", "seed": 0, **at, "best_on_test": best, **more}


def many(values: dict[str, float | None], ensembles: int) -> dict:
    """Return a population's result, given {loss.weights.norm: mAP, None if diverged}."""
    members, grouped = [], {}
    for index, (norm, value) in enumerate(values.items()):
        common = {"seed": index, "values": {"loss.weights.norm": float(norm)}, "step": 40}
        members.append({**common, "diverged": 7} if value is None else {**single(value), **common})
        grouped.setdefault(float(norm), []).append(index)
    groups = [({"loss.weights.norm": norm}, numbers) for norm, numbers in grouped.items()]
    found = [{"members": 2, **single(0.9)} for _ in range(ensembles)]
    for ensemble in found:
        del ensemble["best_on_test"], ensemble["step"]
    found += [None] * (len(groups) - ensembles)
    content = population.result(members, groups, found)
    return {"method": "co2net", "data": "Tiny", **json.loads(json.dumps(content))}


def test_a_single_run():
    found = tables.parse(single(0.4), "run")
    (row,) = found.rows
    assert (found.data, found.official, found.member) == ("Tiny", "official", None)
    assert (row.name, row.method, row.models, row.step, row.best_step) == (
        "run",
        "co2net",
        1,
        40,
        30,
    )
    assert [*row.own.last] == ["0.5", "0.7", "mean 0.1:0.7", "video-level", "F1"]
    assert [*row.official.last] == ["0.5", "0.7", "mean 0.1:0.7", "F1"]
    for scores, last, best in ((row.own, 0.4, 0.6), (row.official, 0.2, 0.3)):
        assert scores.last["0.5"].mean == pytest.approx(last)
        assert scores.best["0.5"].mean == pytest.approx(best)
        assert scores.last["mean 0.1:0.7"].mean == pytest.approx(last / 2)
        assert math.isnan(scores.last["0.7"].mean)
        assert not scores.several


def test_a_population_with_its_ensemble():
    values = {"1": 0.2, "1.0": 0.4, "1.00": None, "1.000": 0.6}
    found = tables.parse(many(values, ensembles=1), "seeds")
    mean, ensemble = found.rows
    assert (found.member, found.ensemble, found.diverged) == (0, True, [2])
    assert (mean.name, mean.models, mean.best_step) == ("seeds", 3, None)
    assert mean.own.protocol == "co2"
    number = mean.own.last["0.5"]
    assert (number.mean, number.sd) == pytest.approx((0.4, 0.2))
    assert (number.low + number.high) / 2 == pytest.approx(0.4)
    assert number.low < 0.2
    assert mean.official.best["0.5"].mean == pytest.approx(0.3)
    assert mean.own.several
    assert (ensemble.name, ensemble.models, ensemble.step) == ("seeds, ensemble", 2, 40)
    assert ensemble.own.last["0.5"].mean == 0.9
    assert ensemble.own.best == ensemble.official.best == {}


def test_groups_of_a_population_have_rows_of_their_own():
    found = tables.parse(many({"0": None, "1": 0.2, "1.0": 0.4, "0.5": 0.7}, ensembles=2), "vary")
    names = [(row.name, row.models) for row in found.rows]
    norm = "vary, loss.weights.norm"
    assert names == [
        (f"{norm} 0, ensemble", 2), (f"{norm} 1", 2), (f"{norm} 1, ensemble", 2), (f"{norm} 0.5", 1)
    ]  # fmt: skip
    assert (found.member, found.ensemble) == (1, False)  # several ensembles
    assert not found.rows[-1].own.several  # one member has no spread


def test_tables_by_protocol_and_one_of_all():
    contents = {"a": single(0.4), "b": single(0.6, "d2"), "c": single(0.8)}
    rows = [row for name, content in contents.items() for row in tables.parse(content, name).rows]
    made = tables.tables(rows)
    assert [(table.protocol, table.official) for table in made] == [
        ("co2", False), ("d2", False), ("official", True)
    ]  # fmt: skip
    assert [[row.name for row, _ in table.rows] for table in made] == [["a", "c"], ["b"], [*"abc"]]
    assert [table.highest["0.5"] for table in made] == pytest.approx([0.8, 0.6, 0.4])
    assert math.isnan(made[0].highest["0.7"])
    alike = [tables.parse(single(0.5, "official"), "a").rows[0]]
    assert [table.protocol for table in tables.tables(alike)] == ["official"]


def change(content: dict, *path, to=None) -> dict:
    """Return the content with another value at a path, or without it."""
    content = json.loads(json.dumps(content))
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    if to is None:
        del inner[last]
    else:
        inner[last] = to
    return content


DAMAGED = {
    "no method": (change(single(0.4), "method"), "no 'method'"),
    "no mAP": (change(single(0.4), "map"), "a run without mAP"),
    "text for mAP": (change(single(0.4), "map", to="good"), "'str' object is not"),
    "text for a number": (change(single(0.4), "map", "0.5", to="half"), "'half'"),
    "a list for an average": (change(single(0.4), "average", to=[1]), "wanted result.json"),
    "an unknown protocol": (
        change(single(0.4), "official", "protocol", to="mine"),
        "protocol 'mine': it must be one of",
    ),
    "no official result": (change(single(0.4), "official"), "no 'official'"),
    "text for the step": (change(single(0.4), "step", to="last"), "'last'"),
    "no members": (change(many({"1": 0.2}, 0), "members"), "no 'members'"),
    "no spread": (change(many({"1": 0.2}, 0), "sd"), "no 'sd'"),
    "text for the mean": (change(many({"1": 0.2}, 0), "mean", to="x"), "wanted result.json"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_results_are_errors(damage, tmp_path):
    content, message = DAMAGED[damage]
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(JaxtalError, match=message) as error:
        tables.read(tmp_path, "run")
    assert str(error.value).startswith(f"{tmp_path / 'result.json'}: ")
    assert "repeat the run's command" in str(error.value)
