"""Reports as Markdown, sentences and a figure."""

import pytest

from benchmarks.tables import figure, markdown, train
from benchmarks.tables import rows as table_rows
from benchmarks.tables.published import TABLES
from jaxtal.errors import JaxtalError
from tests.benchmarks.tables.made import LADDER, report_of, result


def test_sentences_on_the_paper_s_order():
    count, holds, *reverse, unknown = markdown.sentences(report_of("co2net/3", LADDER))
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
    count, holds = markdown.sentences(report_of("co2net/6", paper))
    assert count.startswith("0.1:0.7: of 7 orders of the paper 7 hold here, 0 are reversed and 0 ")
    assert holds.count(">") == 7
    turned = {name: [100 - value for value in values] for name, values in paper.items()}
    count, *lines = markdown.sentences(report_of("co2net/6", turned))
    assert "0 hold here, 7 are reversed" in count
    assert len(lines) == 7
    assert all("does not hold here but the reverse" in line for line in lines)


def test_two_judged_columns_and_one_seed():
    """One seed tells nothing apart."""
    values = {"L_CE": [10.0], "L_F": [20.0], "L_Dis": [30.0], "L_Dis + L_D": [25.0]}
    lines = markdown.sentences(report_of("d2net/3", values))
    heads = ["0.5:", "0.5, cannot be told apart:", "F1 at 0.5:", "F1 at 0.5, cannot be told apart:"]
    for line, head in zip(lines, heads, strict=True):
        assert line.startswith(head)
    assert "of 5 orders of the paper 0 hold here, 0 are reversed and 5 cannot" in lines[0]
    assert "`L_Dis + L_D` > `L_Dis` (-5.0, one seed)" in lines[3]


def test_rows_and_members_that_failed():
    """A row without numbers is shown and compared with none; of one with some they count."""
    values = {"MAE": [None, 41, 44], "KL": [None, None, None], "MSE": [40, 43, 43]}
    content = report_of("co2net/4", values, failed=["JS"])
    text = markdown.markdown(content)
    assert "| KL | failed: seed 0 diverged before step 5; seed 1 diverged before step 5;" in text
    assert "| JS | failed: out of luck |" in text
    assert "- `MAE`: of 3 seeds 2; seed 0 diverged before step 5" in text
    (pair,) = content["order"]
    assert (pair["rows"], pair["n"]) == (["MSE", "MAE"], 2)
    assert pair["difference"] == pytest.approx((2 - 1) / 2)  # of seeds 1 and 2


@pytest.mark.parametrize("key", TABLES)
def test_markdown_has_every_row(key):
    table = TABLES[key]
    values = {name: [40.0, 42.0, 43.0] for name in table.rows}
    content = report_of(key, values)
    text = markdown.markdown(content)
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
    row = content["rows"][0]
    assert [m["values"][table.columns[0]] for m in row["members"]] == pytest.approx([40, 42, 43])
    assert row["mean"][table.columns[0]] == pytest.approx(125 / 3)
    assert (content["data"], content["table"]) == ("demo", key)


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
    assert train.identity(of_paper.config) == train.identity(rows[0].config)
    given = {"evaluation.protocol": "official"}
    setting = table_rows.setting_of(str(with_hybrid.folder / "co2net_toy.py"), "config", given)
    rows = table_rows.rows_of("methods", setting)
    assert {row.config.evaluation.protocol for row in rows} == {"official"}
    (with_hybrid.folder / "hybrid_toy.py").unlink()
    with pytest.raises(JaxtalError, match=r"hybrid_toy\.py: no such config file"):
        table_rows.rows_of("methods", with_hybrid)


def test_methods_and_their_ensembles(with_hybrid):
    row = table_rows.rows_of("methods", with_hybrid)[0]
    names = frozenset(map(train.identity, train.with_seeds(row.config, 3)))
    values = {
        "CO2-Net": [50, 52, 54], "D2-Net": [40, 40, 43], "two-stream": [45, 55, 65],
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
        "(30.2 to 79.8), 2.0 above the best single mean (two-stream, 55.0)."
    ]


def test_members_trained_apart_are_no_ensemble(with_hybrid):
    """Seeds that were added later are trained again with the others, for the ensemble."""
    rows = table_rows.rows_of("methods", with_hybrid)[:1]
    members = train.with_seeds(rows[0].config, 3)
    found = train.Found({train.identity(m): result(0, 50.0) for m in members[:2]}, {})
    (job,) = train.plan(rows, 3, 10, found)
    assert len(job.members) == 3
    (job,) = train.plan(table_rows.rows_of("co2net/1", with_hybrid), 3, 10, found)
    assert [member.seed for member in job.members] == [2]


def test_block_of_a_readme(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- tables -->\nold\n<!-- /tables -->\nafter\n")
    texts = []
    for _ in range(2):
        markdown.replace_block(file, "new\n")
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
        markdown.replace_block(file, "new")
    assert file.read_text() == text


def test_figure(tmp_path, monkeypatch):
    """Rows from top to bottom, half an interval on each side, the paper's number beside."""
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
