"""The fenced code blocks of the documentation, and a folder in which they run."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtal import cli
from jaxtal.data import conversion, synthetic
from jaxtal.data.synthetic.config import SyntheticConfig
from tests.conftest import ROOT
from tests.helpers.command import run_program
from tests.helpers.layout_cases import source as as_source

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "docs" / "faq.md",
        *(ROOT / "docs" / "get_started").glob("*.md"),
        *(ROOT / "docs" / "guides").glob("*.md"),
    ]
)

_FENCE = re.compile(r"^( *)```(\w+)(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
_TINY_VIDEOS = "demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=100"
_TINY = {
    "train.steps": "2",
    "train.log_every": "1",
    "train.eval_every": "2",
    "data.num_snippets": "16",
    "evaluation.plot_videos": "1",
    "evaluation.save_activations": "True",
}


class Fence(NamedTuple):
    """A code block.

    Attributes:
        line: of its first line in the file.
        language: "bash", "python", ...
        title: of the info string, "" without.
        code: its lines.
    """

    line: int
    language: str
    title: str
    code: str


def fences_of(text: str) -> list[Fence]:
    """Return the code blocks of a page."""
    found = []
    for match in _FENCE.finditer(text):
        indent, language, info, code = match.groups()
        title = re.search(r'title="([^"]*)"', info)
        line = text.count("\n", 0, match.start()) + 2
        code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        found.append(Fence(line, language, title[1] if title else "", code))
    return found


def commands_of(code: str) -> list[str]:
    """Return the commands of a shell block; a backslash at the end of a line continues it."""
    lines = re.sub(r" *\\\n\s*", " ", code).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def tiny(words: list[str]) -> list[str]:
    """Return the arguments of a training command with overrides that make the run tiny."""
    text = " ".join(words)
    overrides = {**_TINY}
    if "data.dir=" not in text and "data.generator=" not in text and "_demo" in text:
        overrides["data.generator"] = _TINY_VIDEOS
    return [*words, *(f"--config.{field}={value}" for field, value in overrides.items())]


def run_command(command: str, folder: Path) -> tuple[int, str]:
    """Run a command of the documentation in a folder.

    Returns:
        Its exit code, and what it printed.
    """
    environment, words = _split(command)
    program = _program(words)
    if program is None or environment or set(command) & set("|>&;$"):
        return _run_in_shell(command, folder)
    name, arguments = program
    if name in ("train", "main", "search"):
        arguments = tiny(arguments)
    code, out, err = run_program(name, *arguments, folder=folder)
    return code, out + err


def _split(command: str) -> tuple[list[str], list[str]]:
    """Split a command into assignments to the environment and words."""
    words = shlex.split(command)
    count = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), 0)
    return words[:count], words[count:]


def _program(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the subcommand of `jaxtal` that a command is, and its arguments; None for others."""
    if words[:3] == ["python", "-m", "jaxtal.main"]:
        return "main", words[3:]
    if words[:1] == ["jaxtal"] or words[:3] == ["python", "-m", "jaxtal"]:
        words = words[1:] if words[0] == "jaxtal" else words[3:]
        count = 2 if words[0] in cli.GROUPS else 1
        return " ".join(words[:count]), words[count:]
    return None


def _run_in_shell(command: str, folder: Path) -> tuple[int, str]:
    """Run a command that is none of jaxtal's alone."""
    if re.search(r"jaxtal(\.main| train)|launch/local\.py", command):
        command = f"{command} {shlex.join(tiny([command])[1:])}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def make_folder(folder: Path) -> Path:
    """Write the files that the commands of the documentation use."""
    options = SyntheticConfig(
        num_train=12, num_test=6, num_classes=3, feature_width=8, max_snippets=100, ambiguous=0.9
    )
    data = dataclasses.replace(synthetic.generate(options), name="Thumos14reduced")
    (folder / "data").mkdir()
    for layout, name in (("wtalc", "thumos14"), ("acmnet", "acmnet")):
        conversion.convert(as_source(data), layout, folder / "data" / name)
    (folder / "features").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        features = rng.random((40 + 10 * index, 16), np.float32)
        np.save(folder / "features" / f"video_{index}.npy", features)
    for name in ("configs", "launch", "benchmarks", "examples"):
        (folder / name).symlink_to(ROOT / name)
    for demo in ("co2net_demo", "d2net_demo"):
        code, out = run_command(f"jaxtal train --config {demo}", folder)
        assert code == 0, out
    return folder


def copy_folder(source: Path, target: Path) -> Path:
    """Copy such a folder, so that a page starts anew."""
    return Path(shutil.copytree(source, target, symlinks=True))
