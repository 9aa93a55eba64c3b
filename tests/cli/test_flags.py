"""Flags: accepted spellings, values, flag files, config fields, and errors."""

import argparse

import pytest

from jaxtal.cli import flags
from jaxtal.errors import JaxtalError


@pytest.fixture
def parser() -> flags.Parser:
    """A command with a flag of each type, without a config."""
    parser = flags.Parser("jaxtal try", "Try.")
    parser.add_flag("text_of", "A text.", default="ours")
    parser.add_flag("whole", "A number.", type=flags.integer(1), default=7)
    parser.add_flag("any_whole", "A number.", type=flags.integer())
    parser.add_flag("real", "A number of 50 %.", type=flags.number, default=0.5)
    parser.add_flag("yes", "A switch.", type=flags.boolean, default=False)
    parser.add_flag("mode", "One.", type=flags.choice("train", "eval"), default="train")
    parser.add_flag("many", "Texts.", repeated=True)
    return parser


@pytest.fixture
def with_config() -> flags.Parser:
    parser = flags.Parser("jaxtal try", "Try.")
    flags.add_config(parser, "The config.")
    parser.add_flag("workdir", "A folder.")
    return parser


def given(parser: flags.Parser, *arguments: str) -> argparse.Namespace:
    return flags.parse(parser, arguments)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ((), "text_of", "ours"),
        (("--text_of=a=b c",), "text_of", "a=b c"),
        (("--text_of", "a"), "text_of", "a"),
        (("-text_of=a",), "text_of", "a"),
        (("-text_of", "a"), "text_of", "a"),
        (("--text-of=a",), "text_of", "a"),
        (("--text_of", "--real"), "text_of", "--real"),
        (("--text_of=",), "text_of", ""),
        (("--text_of=a\nb",), "text_of", "a\nb"),
        (("--text_of=a", "--text_of=b"), "text_of", "b"),
        (("--whole=3",), "whole", 3),
        (("--any_whole", "-3"), "any_whole", -3),
        (("--any-whole=-3",), "any_whole", -3),
        (("--real=1e-3",), "real", 1e-3),
        (("--real", "-2"), "real", -2.0),
        ((), "yes", False),
        (("--yes",), "yes", True),
        (("-yes",), "yes", True),
        (("--yes=false",), "yes", False),
        (("--yes=1",), "yes", True),
        (("--yes=T",), "yes", True),
        (("--yes", "--noyes"), "yes", False),
        (("--noyes", "--yes"), "yes", True),
        (("--mode=eval",), "mode", "eval"),
        ((), "many", None),
        (("--many=a", "--many", "b"), "many", ["a", "b"]),
    ],
)
def test_spellings(parser, arguments, name, value):
    found = getattr(given(parser, *arguments), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--whole=0", "--whole=0: 0 is not a positive integer"),
        ("--whole=x", "--whole=x: x is not a positive integer"),
        ("--any_whole=1.5", "--any_whole=1.5: 1.5 is not an integer"),
        ("--real=x", "--real=x: 'x' is not a number"),
        ("--yes=maybe", "--yes=maybe: wanted true or false"),
        ("--mode=evil", "--mode=evil: wanted train|eval; did you mean eval?"),
        ("--text_off=a", "Unknown command line flag 'text_off'; did you mean --text_of?"),
        ("--text-off=a", "Unknown command line flag 'text-off'; did you mean --text_of?"),
        ("--ye", "Unknown command line flag 'ye'; did you mean --yes?"),
        ("--nomode", "Unknown command line flag 'nomode'; did you mean --mode?"),
        ("--noyes=true", "Unknown command line flag 'noyes'"),
        ("--config=a", "Unknown command line flag 'config'"),
        ("--whole", "--whole has no value; give --whole=..."),
        ("a", "unexpected argument 'a'; options begin with --"),
        ("-", "unexpected argument '-'; options begin with --"),
        ("--flagfile=none", "--flagfile=none: cannot be read (No such file or directory)"),
    ],
)
def test_errors(parser, argument, message):
    with pytest.raises(flags.UsageError) as error:
        given(parser, argument)
    assert str(error.value).startswith(message)


def test_flags_from_files(parser, tmp_path):
    """Flags are inserted at the place of --flagfile; comments and blank lines are ignored."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("--many=b\n")
    outer.write_text(f"# of the\n// day\n\n  --whole=3\n--flagfile={inner}\n--many=c c\n--yes\n")
    found = given(parser, "--many=a", f"--flagfile={outer}", "--whole", "4")
    assert (found.many, found.whole, found.yes) == (["a", "b", "c c"], 4, True)
    assert given(parser, "-flagfile", str(inner)).many == ["b"]
    inner.write_text(f"--flagfile={inner}")
    with pytest.raises(flags.UsageError, match="inner: the file includes itself"):
        given(parser, f"--flagfile={inner}")
    inner.write_bytes(b"\xff\xfe")
    with pytest.raises(flags.UsageError, match=r"inner: cannot be read \(not a text file\)"):
        given(parser, f"--flagfile={inner}")


def test_paths_stand_anywhere():
    parser = flags.Parser("jaxtal try", "Try.", ("PATH", "OUT"))
    parser.add_flag("to", "A layout.")
    for arguments in (("a", "b", "--to=c"), ("a", "--to", "c", "b"), ("--to=c", "--", "a", "b")):
        found = given(parser, *arguments)
        assert (found.paths, found.to) == (["a", "b"], "c")
    assert given(parser, "--", "--a", "b").paths == ["--a", "b"]


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ((), "train.steps", 1400),
        (("--config.train.steps=3",), "train.steps", 3),
        (("-config.train.steps=3",), "train.steps", 3),
        (("--config.train.steps", "3"), "train.steps", 3),
        (("--config.train.steps=2", "--config.train.steps=3"), "train.steps", 3),
        (("--config.train.eval-every=3",), "train.eval_every", 3),
        (("--config.data.dir=",), "data.dir", ""),
        (("--config.train.tensorboard",), "train.tensorboard", True),
        (("--config.train.tensorboard", "--workdir=x"), "train.tensorboard", True),
        (("--config.train.tensorboard=true",), "train.tensorboard", True),
        (("--config.train.tensorboard", "-noconfig.train.tensorboard"), "train.tensorboard", False),
        (("--noconfig.train.tensorboard",), "train.tensorboard", False),
    ],
)  # fmt: skip
def test_config_fields(with_config, arguments, field, value):
    """Overrides may precede --config, of which the last one counts."""
    name = "configs/co2net_demo.py"
    for around in (
        (f"--config={name}", *arguments),
        (*arguments, "--config", name),
        ("-config=none.py", *arguments, f"-config={name}"),
    ):
        found = given(with_config, *around)
        assert found.config == name
        part, _, key = field.partition(".")
        assert found.loaded_config[part][key] == value


def test_overrides_are_kept_as_given(with_config):
    fields = ["--config.train.steps", "3", "--config.seed=5", "--config.train.steps=4"]
    found = given(with_config, "--config=co2net_demo", *fields)
    assert found.overrides == [("train.steps", "4"), ("seed", "5")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing; for a first run --config co2net_demo"),
        (("--config",), "--config has no value; give --config=..."),
        (("--config=",), "--config is missing"),
        (("--config.seed=3",), "--config is missing"),
        (("--config=co2net_demo", "--noconfig.seed"), "config.seed is not boolean; give"),
        (("--config=co2net_demo", "--config.seed"), "--config.seed has no value; give"),
        (("--config=co2net_demo", "--config.sed"), "config has no field 'sed'"),
        (("--config=co2net_demo", "--config.seed=x"), "config.seed is 'x'; wanted an integer"),
    ],
)
def test_wrong_configs(with_config, arguments, message):
    with pytest.raises(JaxtalError) as error:
        given(with_config, *arguments)
    assert message in str(error.value)


def test_a_config_may_be_optional():
    parser = flags.Parser("jaxtal try", "Try.")
    flags.add_config(parser, "The config.", required=False)
    assert given(parser).loaded_config is None
    assert given(parser, "--config=co2net_demo").loaded_config.method == "co2net"
    with pytest.raises(JaxtalError, match="--config is missing"):
        given(parser, "--config.seed=3")


def test_help_shows_types_and_defaults(parser, capsys):
    parser.print_help()
    out = " ".join(capsys.readouterr().out.split())
    assert "--text_of TEXT A text. (default: ours)" in out
    assert "--whole INTEGER A number. (default: 7)" in out
    assert "--real NUMBER A number of 50 %. (default: 0.5)" in out
    assert "--mode train|eval" in out
    assert all(
        flags.help_requested(["--whole=3", word]) for word in ("--help", "-help", "-h", "-?")
    )
    assert not flags.help_requested(["--whole=3", "help"])


def test_required_flags(parser):
    args = given(parser, "--text_of=")
    with pytest.raises(flags.UsageError, match=r"^--many is missing; Texts\.$"):
        flags.required(args, "many")
    with pytest.raises(flags.UsageError, match=r"^--text_of is missing; A text\.$"):
        flags.required(args, "text_of")
    assert flags.required(args, "whole") == 7


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("a: damaged; yes=True skips it", "a: damaged; --yes skips it"),
        ("give text_of=..., or yes=False", "give --text_of, or --noyes"),
        ("give another text_of=...", "give another --text_of"),
        ("whole=3: wanted 0 to 2", "--whole=3: wanted 0 to 2"),
        ("whole=..., 0 to 3 (or yes=True) for all", "--whole, 0 to 3 (or --yes) for all"),
        ("text_of=a/b c: no folder", "--text_of=a/b c: no folder"),
        ("config.whole=3 is 3; set config.mode=eval", "config.whole=3 is 3; set config.mode=eval"),
        ("--whole=3, x_whole=3, /tmp/whole=3", "--whole=3, x_whole=3, /tmp/whole=3"),
        ("other=True and 'whole=3'", "other=True and 'whole=3'"),
    ],
)
def test_arguments_of_library_errors_become_flags(parser, message, wanted):
    assert flags.as_flags(message, parser) == wanted


def test_fields_of_configs_become_flags(with_config):
    message = (
        "config.train.steps is 3; set config.data.fps=25 config.data.stride=..., or x.config.a=3"
    )
    wanted = message.replace("set config.data.fps", "set --config.data.fps")
    wanted = wanted.replace(" config.data.stride", " --config.data.stride")
    assert flags.as_flags(message, with_config) == wanted
