"""The README is short, the paths in it exist, and CI runs its test command."""

import re

from docs.generate import PAGES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readme_s_test_command():
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert command == "pip install -e '.[test]' && python -m tests"
    assert command in README


def test_the_readme_fits_in_one_look():
    assert len(README.splitlines()) <= 200


def test_every_named_path_exists():
    named = re.findall(r"`((?:jaxtal|configs|launch|benchmarks|docs)/[\w/.]*)`", README)
    named += re.findall(r"\]\(([\w/.]+)\)", README)
    named += re.findall(r"--config (configs/\w+\.py)", README)
    assert len(named) > 5
    for path in named:
        assert (ROOT / path).exists() or path.removeprefix("docs/") in PAGES, path
    for module in re.findall(r"python -m ((?:benchmarks|tests)(?:\.\w+)+)", README):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
