"""The wheel: its contents, and training in an empty folder without the clone."""

import json
import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import jaxtal
from tests.conftest import ROOT
from tests.helpers.command import TINY

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def succeed(*command, **options) -> str:
    """Run a command that must succeed, and return its stdout."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=900, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built in a copy of the clone, free of earlier build files."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs")
    shutil.copytree(ROOT, clone, ignore=ignored, dirs_exist_ok=True)
    succeed(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=clone)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_a_package_index_accepts_it(wheel):
    assert "PASSED" in succeed(sys.executable, "-m", "twine", "check", "--strict", wheel)


def test_everything_is_in_it_and_nothing_else(wheel):
    """It includes configs, templates and py.typed, but no tests and no benchmarks."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxtal").rglob("*.py")}
    wanted |= {f"jaxtal/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    templates = ROOT / "jaxtal" / "reporting" / "templates"
    wanted |= {str(path.relative_to(ROOT)) for path in templates.iterdir()}
    wanted.add("jaxtal/py.typed")
    assert wanted <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"jaxtal"}


def test_metadata(metadata):
    assert metadata["Name"] == "jaxtal"
    assert metadata["Version"] == jaxtal.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(PROJECT["optional-dependencies"]) == set(metadata.get_all("Provides-Extra"))
    minors = {line.split(" :: ")[-1] for line in metadata.get_all("Classifier")}
    assert minors >= {"3.11", "3.12", "3.13", "3.14"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel and access to its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    own = succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    with zipfile.ZipFile(wheel) as archive:  # unpacking installs a pure wheel
        archive.extractall(own)
    # The .pth files there are not processed: one of them may be of an editable jaxtal.
    (Path(own) / "needed.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return python


def outside(installed: Path, folder: Path, *arguments) -> str:
    """Run Python in a folder outside the clone, without PYTHONPATH."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "COLUMNS": "100"}
    environment.pop("PYTHONPATH", None)
    return succeed(installed, *arguments, cwd=folder, env=environment)


def test_the_package_that_is_imported_is_the_wheel_s(installed, tmp_path):
    where = "import jaxtal; print(jaxtal.__file__, jaxtal.__version__)"
    file, version = outside(installed, tmp_path, "-c", where).split()
    assert Path(file).is_relative_to(installed.parents[1])
    assert version == jaxtal.__version__


_TRAIN = """
import jaxtal
overrides = {overrides!r}
jaxtal.train(jaxtal.get_config("co2net_demo", overrides=overrides), "by_name", progress=False)
"""


def test_two_steps_outside_the_clone(installed, tmp_path):
    """The command, and Python with the config's name, give the same run."""
    arguments = [*TINY[1:], "--config.train.steps=2"]
    overrides = dict(a.removeprefix("--config.").split("=", 1) for a in arguments)
    command = ["--config=configs/co2net_demo.py", *arguments]
    outside(installed, tmp_path, "-m", "jaxtal.main", *command)
    outside(installed, tmp_path, "-c", _TRAIN.format(overrides=overrides))
    first, second = (tmp_path / name for name in ("by_name", "runs/co2net_demo"))
    assert json.loads((first / "result.json").read_text())["step"] == 2
    for name in ("config.json", "detections.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_console_command(installed, tmp_path):
    """The wheel has the entry point, and the package runs as a module."""
    listed = "from importlib.metadata import entry_points as of; print(*of(name='jaxtal'))"
    assert "jaxtal.cli:main" in outside(installed, tmp_path, "-c", listed)
    assert "train" in outside(installed, tmp_path, "-m", "jaxtal", "--help")
