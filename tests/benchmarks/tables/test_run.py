"""The command trains and resumes rows, writes reports and renders them."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.speed import end_to_end
from benchmarks.tables import rows as table_rows
from benchmarks.tables import run as tables
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError
from jaxtal.training import trainer
from tests.benchmarks.tables.made import result
from tests.helpers.command import TINY

SMALL = [argument.removeprefix("--config.") for argument in [*TINY[1:], "train.steps=4"]]


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, arguments)])
    return tables.run(tables.parse())


def test_rows_are_trained_once_even_after_an_interruption(monkeypatch, tmp_path, capsys):
    """Train rows that could share one population if --members allowed it."""
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
    output = tmp_path / "output"
    arguments = [
        "--table", "twostream/5", "--seeds", 2, "--set", *SMALL, "--workdir", tmp_path / "runs",
        "--output", output, "--figure", tmp_path / "figure.png", "--members", 2,
    ]  # fmt: skip
    with end_to_end.compiled_programs_kept():  # the rows share their programs
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
    printed = capsys.readouterr().out
    assert str(tmp_path) not in printed
    assert f"python -m benchmarks.tables {shlex.join(content['command'])}\n" in printed

    files = {path: path.read_bytes() for path in output.iterdir()}
    assert {path.suffix for path in files} == {".json"}
    assert run(monkeypatch, *arguments) == 0
    assert len(trained) == 2
    assert {path: path.read_bytes() for path in files} == files
    assert "Table 5" in capsys.readouterr().out


def test_a_row_that_cannot_be_trained(monkeypatch, tmp_path, capsys):
    """The other rows are trained; a table without any row keeps its existing file."""

    def train(config, workdir):
        if config.loss.denoising in ("l1", "pdmi"):
            raise JaxtalError("out of luck")
        content = {"step": 4, "members": [result(m, 30.0 + m) for m in range(2)]}
        Path(workdir / "result.json").write_text(json.dumps(content))
        (workdir / "config.json").write_text(json_files.to_text(config.to_dict()))

    monkeypatch.setattr(trainer, "train_and_evaluate", train)
    output = tmp_path / "output"
    code = run(
        monkeypatch, "--table", "d2net/4", "d2net/1", "--seeds", 2, "--set", *SMALL,
        "--workdir", tmp_path / "runs", "--output", output,
    )  # fmt: skip
    assert code == 1
    printed = capsys.readouterr()
    assert "d2net/4 L1: failed: out of luck" in printed.err
    assert "d2net/1: no row could be trained" in printed.err
    assert [path.name for path in output.iterdir()] == ["demo_d2net_4.json"]
    text = printed.out
    assert run(monkeypatch, "--output", output) == 0
    assert capsys.readouterr().out == text
    assert "| BCE | here | 30.5 ± 0.7 | 24.1 to 36.9 | 2 |" in text
    assert "|  | best on test | 30.5 |" in text
    assert "| pDMI | failed: out of luck |" in text


def test_a_set_has_the_tables_that_exist_on_the_data(caplog):
    setting = table_rows.setting_of("anet12", "config", {})
    found = tables._rows_of_tables(["all-anet"], setting)
    assert [*found] == ["co2net/2", "d2net/2"]
    assert len(caplog.messages) == 3
    assert "twostream/2 is left out: " in caplog.messages[0]
    assert "twostream_anet12.py: no such config file" in caplog.messages[0]
    other = table_rows.setting_of("anet13", "config", {})
    assert [*tables._rows_of_tables(["all-anet"], other)] == [f"twostream/{n}" for n in (2, 4, 6)]
    with pytest.raises(table_rows.NoConfigError):
        tables._rows_of_tables(["twostream/2"], setting)
    nothing = table_rows.setting_of("nothing", "config", {})
    with pytest.raises(JaxtalError, match="no config file for any of --table all-anet"):
        tables._rows_of_tables(["all-anet"], nothing)


def test_a_user_error_is_one_line(monkeypatch, tmp_path, capsys):
    arguments = ["--table", "d2net/4", "--set", "train.step=3", "--workdir", str(tmp_path / "w")]
    monkeypatch.setattr(sys, "argv", ["tables", *arguments])
    with pytest.raises(SystemExit) as stop:
        tables.main()
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: --set: the config of d2net has no field train.step ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_the_figure_is_checked_before_anything_is_trained(monkeypatch, tmp_path):
    arguments = ["--table", "d2net/4", "--workdir", tmp_path / "w", "--figure", tmp_path / "file"]
    with pytest.raises(JaxtalError, match=r"wanted a file \.png, \.svg or \.pdf"):
        run(monkeypatch, *arguments)
    assert not (tmp_path / "w").exists()
