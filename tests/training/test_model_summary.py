"""The number of parameters and of operations of the shipped configs."""

import math

import pytest

from jaxtal import cli
from jaxtal.config import get_config
from jaxtal.errors import JaxtalError
from jaxtal.training.model_summary import summarize


@pytest.mark.parametrize(
    ("name", "wanted", "state"),
    [
        ("co2net_thumos", 29_938_711, 0),
        ("co2net_anet12", 30_102_631, 0),
        ("d2net_thumos", 12_628_008, 1024),
        ("d2net_thumos:paper", 12_709_928, 1024),
        ("twostream_thumos", 12_720_173, 0),
        ("twostream_anet13", 13_826_453, 0),
        ("d2net_demo", 199_700, 128),
    ],
)
def test_number_of_parameters(name, wanted, state):
    config = get_config(name, overrides={"data.num_snippets": 4, "train.batch_size": 6})
    found = summarize(config)
    assert (sum(found.parameters.values()), found.state) == (wanted, state)


def test_operations_grow_with_snippets_and_videos():
    """A layer multiplies and adds once per weight and snippet; a step takes about three passes."""
    config = get_config("twostream_demo", overrides={"data.num_snippets": 64})
    found = summarize(config)
    weights = sum(found.parameters.values()) - found.parameters["dictionary"]
    assert 0.95 < found.forward_flops / (2 * weights * 64) < 1.2
    assert 2 < found.step_flops / (config.train.batch_size * found.forward_flops) < 4
    config.data.num_snippets = 128
    assert 1.9 < summarize(config).forward_flops / found.forward_flops < 2.1


def test_the_data_that_the_config_names():
    config = get_config("co2net_audio")
    with pytest.raises(JaxtalError, match=r"'AudioWTAL', a data set .* not known .* give classes="):
        summarize(config)
    assert summarize(config, 10).widths == (128, 128)
    config.data.modality = "flow"
    assert summarize(config, 10).widths == (128,)
    made = get_config("co2net_demo", overrides={"data.generator": "demo num_classes=3"})
    assert summarize(made).num_classes == 3
    assert math.isfinite(summarize(made).step_flops)


def test_the_command(capsys):
    assert cli.main(["summary", "--config=d2net_demo", "--config.train.batch_size=4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("10 classes, 128 + 128 features per snippet\n")
    assert "199,700" in out
    assert "a training step of 4 such videos: " in out
    assert cli.main(["summary", "--config=co2net_audio"]) == 2
    assert "give --classes" in capsys.readouterr().err
