"""Reports as Markdown, sentences and a figure."""

import pytest

from benchmarks.tables import figure, markdown, train
from benchmarks.tables import rows as table_rows
from benchmarks.tables.published import TABLES
from jaxtal.errors import JaxtalError
from tests.benchmarks.tables.made import LADDER, report_of, result


def test_sentences_on_the_orderings_of_the_paper():
    count, confirmed, *reverse, inconclusive = markdown.sentences(report_of("co2net/3", LADDER))
    assert count == ("0.1:0.7, 9 orderings of the paper: 5 confirmed, 2 reversed, 2 inconclusive.")
    assert confirmed.startswith("0.1:0.7, confirmed: ")
    assert "`all` > `mil` (14.0 [11.5, 16.5])" in confirmed
    assert reverse == [
        "0.1:0.7, reversed: `all` > `mil+oppo+cas+norm` in the paper (44.6 > 42.6); "
        "here 45.0 and 49.0, difference -4.0 [-6.5, -1.5].",
        "0.1:0.7, reversed: `mil+oppo+ml+cas` > `mil+oppo+cas+norm` in the paper (42.8 > 42.6); "
        "here 41.0 and 49.0, difference -8.0 [-10.5, -5.5].",
    ]
    # 45, 44, 46 minus 40, 42, 41: 4 +- 1.73, Student's 4.303 * 1.73 / sqrt(3).
    assert inconclusive == (
        "0.1:0.7, inconclusive: `all` > `mil+oppo+ml+cas` (4.0 [-0.3, 8.3]), "
        "`mil+oppo+ml` > `mil+oppo` (-0.3 [-3.2, 2.5])."
    )


def test_all_orderings_may_be_confirmed_or_reversed():
    paper = {name: [numbers[0] + i for i in range(3)] for name, numbers in
             TABLES["co2net/6"].rows.items()}  # fmt: skip
    count, confirmed = markdown.sentences(report_of("co2net/6", paper))
    assert count.endswith("7 confirmed, 0 reversed, 0 inconclusive.")
    assert confirmed.count(">") == 7
    turned = {name: [100 - value for value in values] for name, values in paper.items()}
    count, *lines = markdown.sentences(report_of("co2net/6", turned))
    assert count.endswith("0 confirmed, 7 reversed, 0 inconclusive.")
    assert len(lines) == 7
    assert all(line.startswith("0.1:0.7, reversed: ") for line in lines)


def test_two_judged_columns_and_one_seed():
    """One seed decides nothing."""
    values = {"L_CE": [10.0], "L_F": [20.0], "L_Dis": [30.0], "L_Dis + L_D": [25.0]}
    lines = markdown.sentences(report_of("d2net/3", values))
    heads = ["0.5, 5 ", "0.5, inconclusive:", "F1 at 0.5, 5 ", "F1 at 0.5, inconclusive:"]
    for line, head in zip(lines, heads, strict=True):
        assert line.startswith(head)
    assert "0 confirmed, 0 reversed, 5 inconclusive." in lines[0]
    assert "`L_Dis + L_D` > `L_Dis` (-5.0, one seed)" in lines[3]


def test_rows_and_members_that_failed():
    """A row without numbers is listed but not compared; other rows use the members they have."""
    values = {"MAE": [None, 41, 44], "KL": [None, None, None], "MSE": [40, 43, 43]}
    content = report_of("co2net/4", values, failed=["JS"])
    text = markdown.markdown(content)
    assert "| KL | failed: seed 0 diverged before step 5; seed 1 diverged before step 5;" in text
    assert "| JS | failed: out of luck |" in text
    assert "- `MAE`: 2 of 3 seeds; seed 0 diverged before step 5" in text
    (pair,) = content["order"]
    assert (pair["rows"], pair["n"]) == (["MSE", "MAE"], 2)
    assert pair["difference"] == pytest.approx((2 - 1) / 2)  # of seeds 1 and 2


@pytest.mark.parametrize("key", TABLES)
def test_markdown_has_every_row(key):
    table = TABLES[key]
    values = {name: [40.0, 42.0, 43.0] for name in table.rows}
    content = report_of(key, values)
    text = markdown.markdown(content)
    assert text.startswith(f"## {table.heading} (demo) {{ #table-{key.replace('/', '-')}-demo }}\n")
    assert f"```bash\npython -m benchmarks.tables --table {key}\n```" in text
    assert ("published.md#" in text) == bool(table.others)
    own = [line for line in text.splitlines() if line.startswith("|")]
    assert len(own) == 2 + 3 * len(table.rows)
    assert len({line.count("|") for line in own}) == 1
    assert own[2].startswith(f"| {next(iter(table.rows))} | here | 41.7")
    assert " | 37.9 to 45.5" in own[2]  # Student's 4.303 * 1.53 / sqrt(3) = 3.79 on each side
    sources = [line.split(" | ")[1] for line in own[2:]]
    assert sources == ["here", "best on test", "paper"] * len(table.rows)
    best = own[3].split(" | ")[2:]
    for column, cell in zip(table.columns, best, strict=False):  # 1 better in averages only
        assert cell == ("42.7" if ":" in column else "41.7")
    row = content["rows"][0]
    assert [m["values"][table.columns[0]] for m in row["members"]] == pytest.approx([40, 42, 43])
    assert row["mean"][table.columns[0]] == pytest.approx(125 / 3)
    assert (content["data"], content["table"]) == ("demo", key)


@pytest.fixture
def with_hybrid(tmp_path) -> table_rows.Setting:
    """Config files of all methods; the hybrid's is CO2-Net's with another learning rate."""
    for method in ("co2net", "d2net", "twostream", "wtalc", "basnet", "acmnet"):
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
    # "" is CO2-Net's own protocol, so that its run is the one of its paper's table.
    common = dict.fromkeys(("D2-Net", "two-stream", "W-TALC", "BaS-Net", "ACM-Net"), "co2")
    assert protocols == {"CO2-Net": "", "hybrid": "", **common}
    of_paper = table_rows.rows_of("co2net/1", with_hybrid)[0]
    assert train.identity(of_paper.config) == train.identity(rows[0].config)
    given = {"evaluation.protocol": "official"}
    setting = table_rows.setting_of(str(with_hybrid.folder / "co2net_toy.py"), "config", given)
    rows = table_rows.rows_of("methods", setting)
    assert {row.config.evaluation.protocol for row in rows} == {"official"}
    paper = table_rows.setting_of("demo", "table", {}, "paper")
    assert [row.name for row in table_rows.rows_of("methods", paper)] == [*protocols][:3]
    (with_hybrid.folder / "hybrid_toy.py").unlink()
    with pytest.raises(JaxtalError, match=r"hybrid_toy\.py: no such config file"):
        table_rows.rows_of("methods", with_hybrid)


def test_methods_and_their_ensembles(with_hybrid):
    row = table_rows.rows_of("methods", with_hybrid)[0]
    names = frozenset(map(train.identity, train.with_seeds(row.config, 3)))
    values = {
        "CO2-Net": [50, 52, 54], "D2-Net": [40, 40, 43], "two-stream": [45, 55, 65],
        "W-TALC": [30, 31, 32], "BaS-Net": [20, 21, 22], "ACM-Net": [42, 43, 44],
        "hybrid": [56, 57, 58],
    }  # fmt: skip
    ensembles = {names: {"members": 3, **result(0, 60.0)}}
    content = report_of("methods", values, setting=with_hybrid, ensembles=ensembles)
    text = markdown.markdown(content)
    assert "| CO2-Net, ensemble of 3 | here | 60.0 | 60.0 | 60.0 |  | 1 |" in text
    assert "| 50.0, 52.0, 54.0 |" in text
    assert "paper" not in text
    assert markdown.sentences(content) == [
        "0.1:0.7: the mean of hybrid, 57.0, is above the 95 % interval of CO2-Net (47.0 to 57.0), "
        "above the 95 % interval of D2-Net (36.7 to 45.3), inside the 95 % interval of two-stream "
        "(30.2 to 79.8), above the 95 % interval of W-TALC (28.5 to 33.5), above the 95 % interval "
        "of BaS-Net (18.5 to 23.5), above the 95 % interval of ACM-Net (40.5 to 45.5), 2.0 above "
        "the best single mean (two-stream, 55.0)."
    ]


def test_an_ensemble_needs_members_of_one_population(with_hybrid):
    """If seeds are added later, all members are trained again."""
    rows = table_rows.rows_of("methods", with_hybrid)[:1]
    members = train.with_seeds(rows[0].config, 3)
    found = train.Found({train.identity(m): result(0, 50.0) for m in members[:2]}, {})
    (job,) = train.plan(rows, 3, 10, found)
    assert len(job.members) == 3
    (job,) = train.plan(table_rows.rows_of("co2net/1", with_hybrid), 3, 10, found)
    assert [member.seed for member in job.members] == [2]


@pytest.mark.parametrize("key", TABLES)
def test_published_tables_have_every_row(key):
    source = TABLES[key]
    lines = [line for line in markdown.published(source).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(source.rows) + len(source.others)
    assert len({line.count("|") for line in lines}) == 1
    full = list(source.rows)[-1]
    assert any(line.startswith(f"| **{full}** | Weakly | ") for line in lines)
    assert "nan" not in "".join(lines)


def test_figure(tmp_path, monkeypatch):
    """Rows are drawn from top to bottom with their intervals and the paper's numbers."""
    drawn = []
    monkeypatch.setattr(figure, "_panel", lambda *panel: drawn.append(panel) or original(*panel))
    reports = [report_of("co2net/3", LADDER), report_of("co2net/1", {"CO2-Net": [1, 2, 3]})]
    figure.draw(reports, tmp_path / "tables.png")
    assert (tmp_path / "tables.png").read_bytes().startswith(b"\x89PNG")
    ((axis, _, column),) = drawn
    assert column == "0.1:0.7"
    here, paper = (line.get_xdata() for line in axis.lines[::3])
    assert list(here) == pytest.approx([31, 36, 107 / 3, 41, 49, 45])
    assert list(paper) == [38.1, 40.0, 41.4, 42.8, 42.6, 44.6]
    figure.draw(reports[1:], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


original = figure._panel


def test_readings_are_compared_with_the_default():
    """One that is better, one that is worse, one that is neither; a row of another preset."""
    values = {name: [40.0, 41, 42] for name in table_rows.OWN["twostream/paper"].rows}
    values |= {"multi-hot targets": [45.0, 46, 47.5], "guide: a p": [1.0, 2, 2.5]}
    content = report_of("twostream/paper", values)
    better, worse = markdown.sentences(content)
    assert better == (
        "0.1:0.7, better than `default` (95 %, paired by seed): `multi-hot targets` "
        "(5.2 [4.4, 5.9])."
    )
    assert worse.startswith("0.1:0.7, worse than `default` (95 %, paired by seed): `guide: a p` (-")
    text = markdown.markdown(content)
    assert "| n | 0.1:0.7 minus `default` | 0.1:0.7 by seed |" in text
    assert "| 3 |  | 40.0, 41.0, 42.0 |" in text
    assert "| 3 | 0.0 [0.0, 0.0] | 40.0, 41.0, 42.0 |" in text


def test_a_preset_and_a_row_that_no_model_allows():
    setting = table_rows.setting_of("demo", "config", {}, "paper")
    values = {name: [40.0, 41] for name in ("Concat", "SE", "CCM")}
    content = report_of("co2net/6", values, setting=setting) | {"preset": "paper"}
    text = markdown.markdown(content)
    assert "(demo, preset `paper`) { #table-co2net-6-demo-paper }" in text
    assert "| Add | not defined: config.model.fusion is 'add', which changes" in text
    assert "failed" not in text
    assert [row["n"] for row in content["rows"]] == [0, 2, 0, 2, 2]
