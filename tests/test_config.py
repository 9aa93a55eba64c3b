"""Loading, overriding and describing configs, and the errors."""

import json

import pytest
from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from jaxtal import config as configs
from jaxtal.config import complete, describe_config, get_config, override
from jaxtal.configs import co2net_demo, co2net_thumos, common, twostream_thumos
from jaxtal.errors import JaxtalError
from tests.conftest import ROOT

FILE = """
from ml_collections import ConfigDict, config_dict


def get_config(kind="small"):
    return ConfigDict({
        "steps": 5,  # updates
        "rate": 0.5,
        "name": "a",
        "on": False,
        "shape": (1, 2.5),
        "least": config_dict.placeholder(float),
        "part": {"steps": 3, "kind": kind},
    })
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["co2net_demo", "co2net_demo.py", "configs/co2net_demo.py"])
def test_a_shipped_config_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert get_config(name).to_dict() == co2net_demo.get_config().to_dict()


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_a_file_by_path(mine, kind, monkeypatch):
    assert get_config(kind(mine)).part.kind == "small"
    monkeypatch.chdir(mine.parent)
    assert get_config("mine.py:large").part.kind == "large"
    assert get_config(mine, preset="large").part.kind == "large"


def test_an_existing_path_comes_before_a_shipped_name(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "co2net_demo.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert get_config("configs/co2net_demo.py").steps == 5
    assert get_config("co2net_demo").train.steps == 1400


def test_a_copy_in_another_folder_finds_its_base(tmp_path, monkeypatch):
    copy = tmp_path / "experiments" / "copy.py"
    copy.parent.mkdir()
    copy.write_text((ROOT / "configs" / "d2net_demo.py").read_text())
    for folder in (tmp_path, copy.parent, ROOT):
        monkeypatch.chdir(folder)
        assert get_config(copy) == get_config("d2net_demo")


def test_presets():
    paper = co2net_thumos.get_config("paper").to_dict()
    assert get_config("co2net_thumos:paper").to_dict() == paper
    assert get_config("configs/co2net_thumos.py:paper").to_dict() == paper
    assert get_config("co2net_thumos", preset="paper").to_dict() == paper
    assert get_config("co2net_thumos").to_dict() != paper
    with pytest.raises(JaxtalError, match=r"names the preset 'paper', and preset='code'"):
        get_config("co2net_thumos:paper", preset="code")
    with pytest.raises(JaxtalError, match=r"hybrid_audio\.py has no presets; remove 'paper'"):
        get_config("hybrid_audio:paper")
    with pytest.raises(JaxtalError, match=r"ValueError: preset 'papr'; wanted code or paper"):
        get_config("co2net_thumos:papr")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "co2net_dmo",
            r"^co2net_dmo: No such file or directory; .* did you mean co2net_demo",
        ),
        ("configs/none.py", r"none\.py: No such file .* shipped are acmnet_audio, acmnet_demo, "),
        ("elsewhere/co2net_demo.py", r"^elsewhere/co2net_demo\.py: No such file or directory;"),
        ("/co2net_demo.py", r"^/co2net_demo\.py: No such file or directory;"),
        ("common", r"^common: No such file"),
        ("__init__", r"^__init__: No such file"),
        ("tests", r"^tests: Is a directory; wanted a file such as configs/co2net_demo\.py"),
        ("", r"^'': No such file"),
        ("co2net_demo.txt", r"^co2net_demo\.txt: No such file or directory"),
    ],
)
def test_names_that_do_not_exist(name, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(JaxtalError, match=message):
        get_config(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef get_config(:\n", r"mine\.py, line 2: SyntaxError: "),
        ("def get_config():\n    return {}['a']\n", r"mine\.py, line 2: KeyError: 'a'; wanted"),
        ("import json\n\njson.loads('{\\n\\n\\n')\n", r"line 3: JSONDecodeError"),
        ("open('/nowhere/at all')\n", r"line 1: FileNotFoundError"),
        ("from jaxtal import errors\n\nraise errors.JaxtalError('no')\n", r"3: JaxtalError: no;"),
        ("from jaxtal.configs import none\n", r"line 1: ImportError"),
        ("def get_config():\n    return 3\n", r"mine\.py: get_config\(\) returns 3; wanted a"),
        ("x = 1\n", r"line 1: KeyError: 'get_config'; wanted a Python file with get_config"),
    ],
)  # fmt: skip
def test_files_with_mistakes(mine, source, message):
    mine.write_text(source)
    with pytest.raises(JaxtalError, match=message) as raised:
        get_config(mine)
    assert "\n" not in str(raised.value)


TEXTS = {
    "steps": ["7", "0x10", "0o17", "-3"],
    "rate": ["1e-4", "3", "nan", "inf", "-.5"],
    "name": ["None", "b c", "", "3"],
    "on": ["true", "True", "t", "1", "false", "False", "f", "0"],
    "shape": ["(0.1,0.9,10)", "0.1,0.9", "5", "[1, 2]", "word", "/a/path", "('a','b')", "()"],
    "least": ["0.5", "-1"],
    "part.steps": ["4"],
}


@pytest.mark.parametrize(
    ("field", "text"), [(field, text) for field, texts in TEXTS.items() for text in texts]
)
def test_texts_are_parsed_like_config_flags(mine, field, text):
    """ml_collections parses the same option to the same value."""
    argv = ["program", f"--config.{field}={text}"]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config", get_config(mine), flag_values=values, sys_argv=argv
    )
    values(argv)
    config = get_config(mine)
    override(config, field, text)
    assert repr(config.to_dict()) == repr(holder.value.to_dict())


def test_names_with_blanks():
    config = get_config("d2net_thumos")
    override(config, "data.test_subset", "in no split list,fold-3")
    assert config.data.test_subset == ("in no split list", "fold-3")
    for text in ("(1, 2", "a b, c", "1 2"):
        with pytest.raises(JaxtalError, match="wanted a tuple"):
            override(config, "data.test_subset", text)


@pytest.mark.parametrize("text", ["None", "none"])
def test_a_placeholder_may_be_none_again(text):
    config = get_config("d2net_thumos")
    override(config, "localization.min_contrast", "-0.2")
    assert config.localization.min_contrast == -0.2
    override(config, "localization.min_contrast", text)
    assert config.localization.min_contrast is None
    with pytest.raises(JaxtalError, match=r"train\.steps is 'None'; wanted an integer"):
        override(config, "train.steps", text.title())


@pytest.mark.parametrize("steps", [20, "20"])
def test_steps_that_are_given_replace_the_epochs_of_a_preset(steps):
    assert get_config("twostream_thumos:paper").train.epochs == 100
    train = get_config("twostream_thumos:paper", overrides={"train.steps": steps}).train
    assert (train.epochs, train.steps) == (0, 20)
    both = {"train.steps": steps, "train.epochs": 3}
    assert get_config("twostream_thumos:paper", overrides=both).train.epochs == 3


@pytest.mark.parametrize("method", ["co2net", "d2net", "twostream", "hybrid"])
def test_every_number_of_the_localization_can_be_overridden(method):
    changed = {
        "class_rule": "top_two", "inclusive": "true", "upsample": "3", "min_length": "5",
        "min_contrast": "0.5", "relative_score": "0.25", "relative_to": "video", "outer": "sides",
    }  # fmt: skip
    texts = {f"localization.{name}": text for name, text in changed.items()}
    config = get_config(f"{method}_demo", overrides=texts)
    found = {name: config.localization[name] for name in changed}
    assert found == {
        "class_rule": "top_two", "inclusive": True, "upsample": 3, "min_length": 5,
        "min_contrast": 0.5, "relative_score": 0.25, "relative_to": "video", "outer": "sides",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("train.stepz", "4", r"\.train has no field 'stepz', only .* mean config\.train\.steps\?"),
        ("model.depth", "4", r"config\.model has no field 'depth', only attention_unit, "),
        ("batch_size", "4", r"no field 'batch_size', .*did you mean config\.train\.batch_size\?"),
        ("trian.steps", "4", r"config has no field 'trian', .*did you mean config\.train\?"),
        ("seed.value", "4", r"config\.seed has no field 'value', only a value"),
        ("", "4", r"config has no field ''"),
        ("train.steps", "many", r"steps is 'many'; wanted an integer, as in the config file: 5000"),
        ("train.steps", "1.5", r"config\.train\.steps is '1\.5'; wanted an integer"),
        ("loss.weights.norm", "x", r"norm is 'x'; wanted a number, as in the config file: 0\.8"),
        ("train.tensorboard", "maybe", r"train\.tensorboard is 'maybe'; wanted true or false"),
        ("model", "3", r"config\.model is '3'; wanted its fields, each set separately"),
        ("localization.thresholds", "(1, 2", r"thresholds is '\(1, 2'; wanted a tuple"),
    ],
)  # fmt: skip
def test_wrong_overrides(field, text, message):
    config = get_config("co2net_thumos")
    before = config.to_dict()
    with pytest.raises(JaxtalError, match=message):
        override(config, field, text)
    with pytest.raises(JaxtalError, match=message):
        get_config("co2net_thumos", overrides={field: text})
    assert config.to_dict() == before


def test_overrides_as_values():
    config = get_config(
        "co2net_demo",
        overrides={
            "train.steps": 40,
            "optimizer.learning_rate": 1,
            "localization.thresholds": (0.2, 0.4, 2),
            "localization.min_score": None,
            "data": {"name": "7", "num_snippets": "60"},
        },
    )
    assert config.train.steps == 40
    assert (config.data.name, config.data.num_snippets) == ("7", 60)
    assert repr(config.optimizer.learning_rate) == "1.0"
    assert config.localization.thresholds == (0.2, 0.4, 2)
    with pytest.raises(JaxtalError, match=r"config\.train\.steps is 1\.5; wanted an integer"):
        get_config("co2net_demo", overrides={"train.steps": 1.5})


def test_a_field_that_follows_another_still_does():
    config = get_config("twostream_thumos", overrides={"data.num_snippets": 90})
    assert config.data.test_snippets == 90
    assert get_config("twostream_thumos").data.test_snippets == 750


def test_misspelt_fields_cannot_be_set():
    with pytest.raises(AttributeError):
        get_config("co2net_demo").train.stepz = 3


def test_descriptions():
    found = {entry.field: entry for entry in describe_config("twostream_thumos:attention")}
    assert found["model.branches"].value == "attention"
    assert found["model.branches"].comment.startswith('"both", averaged; "attention"')
    assert found["data.num_snippets"].comment.startswith("[snippets] T, number")  # its own
    assert (
        found["train.steps"].comment == "[updates] length of the training"
    )  # of configs/common.py
    assert found["vary"].comment.startswith("Fields that differ between ")  # two lines above it
    assert found["data.test_snippets"].value == 750
    fields = list(found)
    sections = [field.partition(".")[0] for field in fields]
    assert sections == sorted(sections, key=sections.index)  # each is contiguous
    assert sections[0] == "method"


def test_a_description_prefers_the_file_that_a_config_starts_from():
    found = {entry.field: entry.comment for entry in describe_config("hybrid_demo")}
    assert found["localization.class_rule"].startswith("classes that are localized")  # not D2-Net's
    assert found["loss.denoising"].startswith('"pdmi", "dmi", "l1"')  # D2-Net's, as no other has it


def test_a_description_of_a_file(mine):
    assert describe_config(mine)[0] == ("steps", 5, "updates")
    assert {entry.field for entry in describe_config(mine) if not entry.comment} == {
        "rate", "name", "on", "shape", "least", "part.steps", "part.kind",
    }  # fmt: skip


def test_fields_that_an_earlier_version_did_not_write():
    """Every added field has the value that repeats the method's former behavior."""
    config = twostream_thumos.get_config()
    old = json.loads(config.to_json())
    for field in (
        "sigma",
        "drop_first_snippet_only",
        "topk_divisor",
        "min_contrast",
        "relative_to",
    ):
        del old["localization"][field]
    del old["data"]["generator"]
    completed = complete(old)
    assert ConfigDict(completed).localization.sigma == common.get_config().localization.sigma
    assert completed == json.loads(config.to_json())
    assert "sigma" not in old["localization"]


def test_fields_that_were_always_written_stay_missing():
    old = json.loads(co2net_thumos.get_config().to_json())
    del old["localization"]["class_threshold"], old["loss"]
    completed = complete(old)
    assert "class_threshold" not in completed["localization"]
    assert "loss" not in completed


@pytest.mark.parametrize("method", ["../../mine", "/tmp/mine", None, 3, "toy", "co2net:x"])
def test_a_file_s_method_chooses_no_program(method, tmp_path, monkeypatch):
    (tmp_path / "mine_thumos.py").write_text("raise SystemExit('executed')\n")
    monkeypatch.chdir(tmp_path)
    found = complete({"method": method, "localization": {}})
    assert found["localization"]["outer"] == "joint"


@pytest.mark.parametrize(
    ("function", "good", "bad", "limit", "message"),
    [
        (configs.at_least, [0.0, 3.0], [-1.0, float("nan"), float("inf")], 0, "must be at least 0"),
        (configs.at_most, [1.0, -3.0], [1.5, float("nan")], 1, "must be at most 1"),
        (configs.below, [0.5], [1.0, float("nan")], 1, "must be below 1"),
        (configs.finite, [5.0, -5.0], [6.0, float("nan")], 5, r"must be a number within \+-5"),
        (configs.one_of, ["a"], ["b"], ("a", "c"), "must be one of a, c"),
    ],
)
def test_checks(function, good, bad, limit, message):
    for value in good:
        function(ConfigDict({"part": {"field": value}}), {"part.field": limit})
    for value in bad:
        with pytest.raises(JaxtalError, match=rf"config\.part\.field is .*; it {message}"):
            function(ConfigDict({"part": {"field": value}}), {"part.field": limit})
    with pytest.raises(JaxtalError, match=r"the config has no field part\.other; add it"):
        function(ConfigDict({"part": {}}), {"part.other": limit})


def test_none_is_not_a_number_but_may_be_allowed():
    config = ConfigDict({"least": config_dict.placeholder(float)})
    configs.finite(config, {"least": 5})
    with pytest.raises(JaxtalError, match=r"config\.least is None; it must be at least 0"):
        configs.at_least(config, {"least": 0})
