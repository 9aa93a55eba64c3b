"""A method from outside the package runs through the public command."""

import dataclasses
import json

import numpy as np
import pytest

from jaxtal import methods
from jaxtal.errors import JaxtalError
from jaxtal.methods import co2net
from tests.helpers.command import TINY, run


def test_an_external_method_trains_a_step(tmp_path):
    """It has a file of its own and a config; the package has no reference to it."""
    arguments = ["--config=tests/methods/toy_config.py", *TINY[1:], f"--workdir={tmp_path}"]
    code, out, err = run(*arguments, "--config.train.log_every=1")
    assert code == 0, err
    assert "toy on Synthetic" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["method"], result["protocol"], result["step"]) == ("toy", "official", 1)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert line["step"] == 1
    assert np.isfinite(line["mil"])
    assert line["gradient_norm"] > 0
    assert (tmp_path / "plots" / "videos.png").exists()
    code, _, err = run(*arguments, "--mode=eval")
    assert code == 0, err


def test_names_are_unique():
    methods.register(co2net.METHOD)  # registered already: no effect
    with pytest.raises(JaxtalError, match="two methods called 'co2net'"):
        methods.register(dataclasses.replace(co2net.METHOD))
    assert methods.get("co2net") is co2net.METHOD
    with pytest.raises(JaxtalError, match=r"method is 'x'; it must be one of co2net, d2net, two"):
        methods.get("x")
