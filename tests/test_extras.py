"""A missing optional package is a one-line error that names the extra to install."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from jaxtal import extras
from jaxtal.data.tfds import preparation
from jaxtal.errors import JaxtalError
from jaxtal.inference import exported
from jaxtal.reporting import html
from tests.conftest import ROOT
from tests.helpers.command import TINY, run_program
from tests.helpers.trained import toy_predictor

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture
def without(monkeypatch, tmp_path):
    """Function that hides an installed package, in this process and in commands."""

    def block(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        text = f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
        (tmp_path / "blocked").mkdir()
        (tmp_path / "blocked" / f"{package}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / "blocked")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "blocked"))

    return block


def message(package: str, extra: str) -> str:
    return rf" needs the package {package}, which is not installed; pip install 'jaxtal\[{extra}\]'"


def test_the_report(without, tmp_path):
    without("jinja2")
    with pytest.raises(JaxtalError, match=message("jinja2", "report")):
        html.write(tmp_path / "a.html", [])
    assert not (tmp_path / "a.html").exists()


def test_exporting_and_loading(without, tmp_path):
    exported.export_model(tmp_path / "a.jaxtal", toy_predictor())
    without("flatbuffers")
    with pytest.raises(JaxtalError, match=message("flatbuffers", "export")):
        exported.export_model(tmp_path / "b.jaxtal", toy_predictor())
    assert not (tmp_path / "b.jaxtal").exists()
    with pytest.raises(JaxtalError, match=message("flatbuffers", "export")):
        exported.load_exported(tmp_path / "a.jaxtal")


def test_preparing(without, tmp_path):
    without("importlib_resources")
    with pytest.raises(JaxtalError, match=message("importlib_resources", "tfds")):
        preparation.prepare("jaxtal_untrimmed/demo", tmp_path / "out")


COMMANDS = {
    "tfds": (
        "importlib_resources", "data prepare", "--builder=jaxtal_untrimmed/demo", "--data_dir={}"
    ),
    "tensorboard": (
        "tensorboardX", "main", *TINY, "--config.train.tensorboard=True", "--workdir={}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("extra", COMMANDS)
def test_commands_end_with_one_line_and_exit_code_2(without, tmp_path, extra):
    package, program, *arguments = COMMANDS[extra]
    without(package)
    out = tmp_path / "out"
    code, _, err = run_program(program, *(text.format(out) for text in arguments), fresh=True)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.rstrip().endswith(f"which is not installed; pip install 'jaxtal[{extra}]'")


def test_a_missing_module_of_jaxtal_is_not_a_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="jaxtal"), extras.required("report", "this"):
        import jaxtal.nothing_like_it  # noqa: F401


def test_every_extra_that_is_named_exists():
    """There are at most twelve mandatory packages."""
    sources = "".join(path.read_text() for path in Path(ROOT / "jaxtal").rglob("*.py"))
    named = set(re.findall(r'\brequired\("([a-z-]+)"', sources))
    assert named == {"export", "report", "tensorboard", "tfds"}
    assert named < set(EXTRAS)
    assert len(PROJECT["dependencies"]) <= 12
