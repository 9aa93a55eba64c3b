"""The worked example of docs/develop/add_a_method.md trains, and its model can be exported."""

import re
import sys

import pytest

import jaxtal
from jaxtal import methods
from jaxtal.errors import ConfigError
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "develop" / "add_a_method.md").read_text(encoding="utf-8")
TINY = {
    "data.generator": "demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=60",
    "data.num_snippets": 16,
    "train.steps": 2,
    "evaluation.plot_videos": 0,
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The folder of the example's two files, on the modules' path."""
    for name in ("gated_mil", "gated_mil_demo"):
        heading = rf"^## [^\n]*`{name}\.py`\n.*?^```python\n(.*?)^```"
        (code,) = re.findall(heading, PAGE, re.MULTILINE | re.DOTALL)
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    yield tmp_path
    sys.modules.pop("gated_mil", None)


def test_the_example_trains_two_steps(example):
    config = jaxtal.get_config(example / "gated_mil_demo.py", overrides=TINY)
    result = jaxtal.train(config, example / "run", progress=False)
    assert "gated_mil" in repr(result)
    model = jaxtal.load_model(example / "run")
    model.export(example / "gated_mil.jaxtal")
    methods.METHODS.pop("gated_mil")
    assert "gated_mil" in repr(jaxtal.load_model(example / "gated_mil.jaxtal"))


def test_a_method_in_a_config_file_is_registered_once(example):
    """The page therefore has two files."""
    both = example / "both.py"
    config = "from jaxtal.configs.co2net_demo import get_config\n"
    both.write_text((example / "gated_mil.py").read_text() + config)
    jaxtal.get_config(both)
    with pytest.raises(ConfigError, match="two methods called 'gated_mil'"):
        jaxtal.get_config(both)
