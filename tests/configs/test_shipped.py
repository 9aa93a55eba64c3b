"""The shipped configs: every field of a run exists and has a comment and one default."""

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.config import config_names, describe_config, get_config
from jaxtal.configs import common
from jaxtal.localization.config import LocalizationConfig
from tests.conftest import ROOT

METHODS = (
    "co2net",
    "d2net",
    "twostream",
    "hybrid",
    "wtalc",
    "basnet",
    "acmnet",
)  # the tests register more
PRESETS = {
    "co2net": ["paper"],
    "d2net": ["paper"],
    "twostream": ["fg", "fg_bg", "fg_bg_ct", "fg_bg_ct_gui", "attention", "mil"],
}
NAMES = [
    *config_names(),
    *(f"{method}_thumos:{preset}" for method, presets in PRESETS.items() for preset in presets),
]


def fields(config: ConfigDict, prefix: str = "") -> set[str]:
    """Return every path in a config, including sections."""
    found = set()
    for name, value in config.items():
        found.add(prefix + name)
        if isinstance(value, ConfigDict):
            found |= fields(value, f"{prefix}{name}.")
    return found


def test_all_files_are_shipped():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__", "common"}
    assert set(config_names()) == files
    assert {name.partition("_")[0] for name in files} == set(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_shared_is_deleted(name):
    assert fields(common.get_config()) <= fields(get_config(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_localization_is_a_field(name):
    config = get_config(name)
    settings = methods.get(config.method).localization_config_cls
    assert set(config.localization) == {field.name for field in dataclasses.fields(settings)}
    methods.get(config.method).validate_config(config)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_the_network_is_a_field(name):
    config = get_config(name)
    network = methods.get(config.method).build(config.model, 3)
    network = getattr(network, "body", network)
    own = {
        field.name for field in dataclasses.fields(network) if field.name not in ("parent", "name")
    }
    assert set(config.model) == own - {"num_classes", "sections"}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_in_the_configs_only(name):
    """Defaults in a class would hide a field that is missing in a config."""
    config, method = get_config(f"{name}_thumos"), methods.get(name)
    network = type(method.build(config.model, 3))
    for settings in (LocalizationConfig, method.localization_config_cls, network):
        parameters = inspect.signature(settings).parameters
        given = {n for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
        assert given <= {"parent", "name"}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_comment(name):
    described = describe_config(name)
    silent = [entry.field for entry in described if not entry.comment]
    assert not silent
    assert len({entry.field for entry in described}) == len(described)
    config = get_config(name)
    leaves = {field for field in fields(config) if not is_section(config, field)}
    assert {entry.field for entry in described} == leaves


def is_section(config: ConfigDict, field: str) -> bool:
    for name in field.split("."):
        config = config[name]
    return isinstance(config, ConfigDict) and len(config) > 0


SCRIPT = """
from jaxtal.config import config_names, get_config
import jaxtal.configs
print(jaxtal.configs.__path__[0])
print(get_config("mine.py").train.steps, get_config("co2net_demo").train.steps, len(config_names()))
"""


def test_a_checkout_need_not_be_installed(tmp_path):
    """Its configs are found from any folder, also if another `configs` can be imported."""
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("jaxtal", "configs"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored)
    demo = checkout / "configs" / "co2net_demo.py"
    demo.write_text(demo.read_text().replace("steps = 1400", "steps = 17"))
    (elsewhere / "configs").mkdir(parents=True)
    (elsewhere / "configs" / "__init__.py").write_text("raise RuntimeError('not mine')\n")
    (elsewhere / "mine.py").write_text(
        "from jaxtal.configs import co2net_demo\n\n\n"
        "def get_config():\n    return co2net_demo.get_config()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str((checkout / "configs").resolve()), "17", "17", str(len(config_names())),
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["jaxtal.config", "jaxtal.configs"])
def test_configs_load_without_jax(module):
    code = (
        f"import sys, {module}\nfrom jaxtal.config import get_config\nget_config('hybrid_demo')\n"
        "assert not {'jax', 'flax', 'matplotlib', 'absl.app'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
