"""The console command: dispatch, help, suggestions, and the imports that they need."""

import subprocess
import sys
import tomllib

import pytest

import jaxtal
from jaxtal import cli
from jaxtal.cli import data, evaluate
from jaxtal.config import config_names
from jaxtal.data import conversion
from jaxtal.evaluation import protocols
from tests.conftest import ROOT
from tests.helpers.command import run_program

HEAVY = ("absl", "flax", "jax", "matplotlib", "ml_collections", "numpy", "orbax", "rich", "scipy")


def python(program: str) -> str:
    """Return the output of a program in its own process."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def help_of(capsys, *arguments: str) -> str:
    assert cli.main([*arguments, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def failed(capsys, *arguments: str) -> str:
    """Return the error line of a command that fails."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    return err


def test_all_modules_together_and_all_flags_import_nothing_heavy():
    """--help prints at once."""
    program = f"""
import importlib, pkgutil, sys
from jaxtal import cli
for module in pkgutil.iter_modules(cli.__path__, "jaxtal.cli."):
    importlib.import_module(module.name)
for command in cli.COMMANDS.values():
    assert cli.main([*command.name.split(), "--help"]) == 0
    assert cli.main([*command.name.split(), "--no_such_flag"]) == 2
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(program).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help(capsys, name):
    out = help_of(capsys, *name.split())
    command = cli.COMMANDS[name]
    assert out.startswith(f"usage: jaxtal {name} ")
    assert command.description.strip() in out
    for flag in command.parser().flags:
        assert f"\n  --{flag} " in out


def test_help_of_all_commands(capsys):
    out = help_of(capsys)
    for command in cli.COMMANDS.values():
        assert f"\n  {command.name:<20}{command.summary}\n" in out
    out = help_of(capsys, "data")
    commands = [line.split()[1] for line in out.splitlines() if line.startswith("  data ")]
    assert commands == ["inspect", "convert", "prepare"]


def test_help_lists_the_fields_of_a_config(capsys):
    """Each line has the value in the config file, and its comment."""
    out = help_of(capsys, "train", "--config", "co2net_thumos")
    assert "fields of co2net_thumos" in out
    lines = {line.split(" = ")[0].strip(): line for line in out.splitlines() if " = " in line}
    assert lines["train.steps"].split()[2] == "5000"
    assert "features on the device: float32" in lines["data.device_dtype"]
    assert "localization.nms" in lines
    assert "fields of" not in help_of(capsys, "predict")
    assert "no_such" in failed(capsys, "train", "--config=no_such", "--help")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxtal {jaxtal.__version__}\n"


def test_configs(capsys):
    assert cli.main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == config_names()
    demo = next(line for line in lines if line.startswith("co2net_demo "))
    assert (
        demo.split(maxsplit=1)[1] == "CO2-Net on generated untrimmed videos: nothing to download."
    )
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("", ["a command is missing; wanted one of train, predict, ", ", data, "]),
        ("tran --config x", ["'tran' is not a command", "did you mean train? (jaxtal --help"]),
        ("data", ["a command is missing; wanted one of data inspect, data convert, data prepare"]),
        ("data inspct x", ["'data inspct' is not a command", "did you mean data inspect?"]),
        ("convert_checkpnt", ["did you mean convert-checkpoint?"]),
        ("--config=x", ["a command is missing"]),
        ("predict --worksdir=x", ["flag 'worksdir'; did you mean --workdir? (jaxtal predict --h"]),
        ("evaluate --noskip_unknwn", ["flag 'noskip_unknwn'; did you mean --noskip_unknown?"]),
        ("report x", ["unexpected argument 'x'; options begin with --"]),
        ("data inspect", ["jaxtal data inspect needs PATH; got 0 paths"]),
        ("data convert a b c", ["jaxtal data convert needs PATH and OUT; got 3 paths"]),
        ("train", ["--config is missing; for a first run --config co2net_demo (jaxtal train"]),
        ("train --confg=x", ["flag 'confg'; did you mean --config?"]),
        ("train --config=co2net_dmo", ["co2net_dmo: ", "did you mean co2net_demo"]),
        ("train --config=co2net_demo --config.trian.steps=1", ["did you mean config.train?"]),
        ("train --config=co2net_demo --config.train.stps 1", ["did you mean config.train.steps?"]),
        ("localize --config=co2net_demo --config.loss.x", ["config.loss has no field 'x'"]),
    ],
)
def test_misuse_is_one_line_with_the_nearest_name(capsys, arguments, messages):
    err = failed(capsys, *arguments.split())
    for message in messages:
        assert message in err


def test_the_command_may_be_spelled_with_underscores(capsys):
    assert "wanted either --torch" in failed(capsys, "convert_checkpoint")


def test_the_console_script_is_main():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxtal": "jaxtal.cli:main"}


def test_as_modules():
    """`python -m jaxtal COMMAND` and `python -m jaxtal.main`, which trains."""
    assert run_program("--version", fresh=True)[:2] == (0, f"jaxtal {jaxtal.__version__}\n")
    code, out, err = run_program("main", "--help", fresh=True)
    assert (code, err) == (0, "")
    assert out == run_program("train", "--help")[1]


def test_names_in_help_are_those_of_the_library():
    """The names have copies in the commands, because the library imports NumPy."""
    assert tuple(protocols.PROTOCOLS) == evaluate.PROTOCOLS
    assert data.LAYOUTS == conversion.LAYOUTS
