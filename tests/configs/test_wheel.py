"""The package as it is installed: built as a wheel, used outside of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxtal.config import config_names
from tests.conftest import ROOT
from tests.helpers.command import TINY_VIDEOS

SOURCES = ("jaxtal", "configs", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD = """
import tarfile
from setuptools import build_meta
archive = build_meta.build_sdist("dist")
tarfile.open(f"dist/{archive}").extractall("unpacked", filter="data")
"""
BUILD_WHEEL = "from setuptools import build_meta; build_meta.build_wheel('dist')"
TRAIN = """
import jaxtal.configs
from jaxtal.config import config_names, get_config
from jaxtal.training.trainer import train_and_evaluate
from pathlib import Path
print(jaxtal.configs.__path__[0], len(config_names()))
train_and_evaluate(get_config("co2net_demo", overrides=OVERRIDES), Path("by_name"))
"""
OVERRIDES = {
    "data.generator": TINY_VIDEOS,
    "data.num_snippets": "16",
    "train.steps": "2",
    "evaluation.plot_videos": "0",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with what the wheel installs, built from a source distribution."""
    root = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    execute(root, {}, "-c", BUILD)
    (unpacked,) = (root / "unpacked").iterdir()
    execute(unpacked, {}, "-c", BUILD_WHEEL)
    (wheel,) = (unpacked / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "site")
    return root / "site"


def execute(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_configs_are_installed_once(site):
    installed = {path.stem for path in (site / "jaxtal" / "configs").iterdir()}
    assert installed == {*config_names(), "common", "__init__"}
    assert not (site / "configs").exists()
    assert (site / "jaxtal" / "reporting" / "templates" / "report.html").is_file()
    assert "__path__" not in (site / "jaxtal" / "configs" / "__init__.py").read_text()


def test_two_steps_outside_of_the_checkout(site, tmp_path):
    """By name through Python, and by the file's name in the checkout on the command line."""
    environment = {
        "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    out = execute(tmp_path, environment, "-c", TRAIN.replace("OVERRIDES", repr(OVERRIDES)))
    assert out.splitlines()[0] == f"{site / 'jaxtal' / 'configs'} {len(config_names())}"
    options = [f"--config.{field}={text}" for field, text in OVERRIDES.items()]
    command = ["-m", "jaxtal.main", "--config", "configs/co2net_demo.py", *options]
    execute(tmp_path, environment, *command)
    first, second = (tmp_path / name for name in ("by_name", "runs/co2net_demo"))
    assert json.loads((first / "result.json").read_text())["step"] == 2
    for name in ("config.json", "detections.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
