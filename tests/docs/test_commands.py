"""Run the commands and Python examples that the documentation shows."""

import pytest

import jaxtal
from tests.conftest import ROOT
from tests.docs import fences
from tests.docs.fences import PAGES


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that every page starts with."""
    return fences.make_folder(tmp_path_factory.mktemp("documentation"))


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of the folder, as the current one, in which training is short in Python too."""
    get_config = jaxtal.get_config

    def tiny_config(name, **options):
        words = [str(name), *(f"data.{field}=" for field in options.get("overrides") or ())]
        config = get_config(name, **options)
        for override in fences.tiny(words)[len(words) :]:
            field, _, value = override.removeprefix("--config.").partition("=")
            jaxtal.config.override(config, field, value)
        return config

    folder = fences.copy_folder(made, tmp_path / "folder")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(jaxtal, "get_config", tiny_config)
    return folder


def test_fences_are_found():
    text = (
        "a\n```bash\njaxtal data \\\n    inspect x\n# no\n\nls\n```\n\n"
        '  ```python title="Needs: y"\n  x = 1\n    y\n  ```\n```sh\nnever closed\n'
    )
    first, second = fences.fences_of(text)
    assert first[:3] == (3, "bash", "")
    assert fences.commands_of(first.code) == ["jaxtal data inspect x", "ls"]
    assert second == (11, "python", "Needs: y", "x = 1\n  y\n")


def test_shell_commands_are_in_bash_fences():
    """A block of another name would not be run."""
    for page in PAGES:
        for fence in fences.fences_of(page.read_text()):
            assert fence.language in ("bash", "python", "text", "json", "toml", "yaml"), page
            assert not fence.title or fence.title.startswith("Needs: "), (page, fence.title)


# A page takes up to two minutes: all but these run with -m slow.
_FAST = ("README.md", "evaluation.md")
_PARAMETERS = [
    pytest.param(
        page,
        id=str(page.relative_to(ROOT)),
        marks=() if page.name in _FAST else pytest.mark.slow,
    )
    for page in PAGES
]


@pytest.mark.parametrize("page", _PARAMETERS)
def test_what_a_page_shows_runs(page, folder):
    names: dict[str, object] = {}
    for fence in fences.fences_of(page.read_text()):
        where = f"{page.name}:{fence.line}"
        if fence.title.startswith("Needs: "):
            continue
        if fence.language == "bash":
            for command in fences.commands_of(fence.code):
                code, printed = fences.run_command(command, folder)
                assert code == 0, f"{where}: {command}\n{printed}"
        elif fence.language == "python":
            exec(compile(fence.code, where, "exec"), names)
