"""A wheel that is built from a source distribution contains the configs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxtal.config import config_names
from tests.conftest import ROOT

SOURCES = ("jaxtal", "configs", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD = """
import shutil
from setuptools import build_meta
archive = build_meta.build_sdist("dist")
shutil.unpack_archive(f"dist/{archive}", "unpacked")
"""
BUILD_WHEEL = "from setuptools import build_meta; build_meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The installed files of a wheel that is built from a source distribution."""
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
