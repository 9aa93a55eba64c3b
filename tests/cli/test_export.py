"""Exported models: one file, no model code, damaged files are rejected before JAX reads them."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtal.errors import JaxtalError
from jaxtal.inference import exported
from tests.conftest import ROOT
from tests.helpers.command import run_program
from tests.helpers.trained import WIDTH, stored, toy_predictor, write


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "toy.jaxtal"
    exported.export_model(path, toy_predictor(test_length_limits=(2, 90), rescaled=True))
    return path


def test_everything_is_in_the_file(file):
    wanted, found = (
        toy_predictor(test_length_limits=(2, 90), rescaled=True),
        exported.load_exported(file),
    )
    for field in dataclasses.fields(wanted):
        if field.name not in ("variables", "apply_fn"):
            assert getattr(found, field.name) == getattr(wanted, field.name), field.name
    videos = stored((5, 70, 200))
    ours, theirs = (predictor.predict(videos) for predictor in (wanted, found))
    assert ours.videos == theirs.videos
    for name in ("video", "label", "start", "end"):
        values = (getattr(x.segments, name) for x in (ours, theirs))
        np.testing.assert_array_equal(*values)
    np.testing.assert_allclose(ours.segments.score, theirs.segments.score, atol=1e-6)
    assert len(ours)


def test_for_cpu_gpu_and_tpu(file):
    header, _ = exported._read(file)
    assert header["platforms"] == ["cpu", "cuda", "tpu"]


def test_parameters_of_other_types_come_back(tmp_path):
    """Types that NumPy lacks, such as bfloat16, are restored."""
    predictor = toy_predictor()
    leaves = {"a": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), "b": jnp.float16(3)}
    variables = {**predictor.variables, "other": leaves}
    exported.export_model(tmp_path / "model", dataclasses.replace(predictor, variables=variables))
    loaded = exported.load_exported(tmp_path / "model")
    first, second = loaded.variables[:2]
    assert (first.dtype, second.dtype) == (jnp.bfloat16, jnp.float16)
    np.testing.assert_array_equal(first, leaves["a"])
    assert second == 3


_ALONE = f"""
import sys
from pathlib import Path
import numpy as np
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.inference import exported
model = exported.load_exported(Path(sys.argv[1]))
features = np.random.default_rng(0).normal(size=(100, {WIDTH})).astype(np.float32)
found = model.predict([FeatureFile("v", features.shape, lambda: features, "memory")])
assert len(found)
names = ("flax", "optax", "orbax", "jaxtal.methods", "jaxtal.training.train_step")
print([name for name in names if name in sys.modules])
"""


def test_the_code_of_the_model_is_not_needed(file, tmp_path):
    """Neither for the library nor for the command."""
    found = subprocess.run(
        [sys.executable, "-c", _ALONE, file], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
    features = write(tmp_path / "features", (30, 80))
    code, out, err = run_program(
        "predict", f"--exported={file}", f"--features={features}", f"--output={tmp_path / 'x.json'}"
    )
    assert code == 0, err
    assert "toy, 3 classes, on 2 videos" in out


def rewritten(file: Path, change) -> bytes:
    """Return the file with another header and a matching checksum."""
    header, body = exported._read(file)
    text = change(header)
    text = text if isinstance(text, bytes) else json.dumps(header).encode()
    rest = len(text).to_bytes(8, "little") + text + bytes(body)
    return exported._MAGIC + hashlib.sha256(rest).digest() + rest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "not an exported model; wanted a file written by jaxtal export"),
        (lambda content: b"PK\3\4" + content, "not an exported model"),
        (lambda content: content[:40], "damaged, its checksum"),
        (lambda content: content[:-1], "damaged, its checksum does not match its"),
        (lambda content: content + b"\0", "damaged, its checksum"),
        (lambda content: content[:500] + b"?" + content[501:], "damaged, its checksum"),
        (lambda content: content[:-9] + b"?" + content[-8:], "damaged, its checksum"),
    ],
)
def test_damaged_files(file, tmp_path, change, message):
    (tmp_path / "model").write_bytes(change(file.read_bytes()))
    with pytest.raises(JaxtalError, match=f"model: {message}"):
        exported.load_exported(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: b"[1", r"invalid header \("),
        (lambda header: b"[" * 100000, r"invalid header \("),
        (lambda header: b"[1]", r'no "format"'),
        (lambda header: header.update(format=2), "format 2, but this version of jaxtal reads 1"),
        (lambda header: header.pop("classes") and None, 'no "classes"'),
        (lambda header: header.update(program=3), "the lengths of its parts do not match"),
        (lambda header: header.update(program="x"), r"cannot be used with jaxtal .* \(ValueError"),
        (lambda header: header.update(program=-5), "the lengths of its parts do not match"),
        (lambda header: header["parameters"].append(["object", [1]]), "a parameter of type 'obj"),
        (lambda header: header["parameters"].append(["int32", [-1]]), r"and shape \[-1\]"),
        (
            lambda header: header["score_spec"].update(gate="x"),
            "gate is 'x'; wanted one of attention",
        ),
        (lambda header: header["localization"].update(x=1), "unexpected keyword argument 'x'"),
        (lambda header: header.update(feature_width=6), "its program needs features of shape"),
        (lambda header: header["classes"].pop() and None, "its program has 3 classes, not 2"),
        (lambda header: header.update(localization_inputs=["x"]), "its program does not return x"),
        (lambda header: header.update(test_length_limits=[1, "x"]), "invalid literal for int"),
        (lambda header: header.update(platforms=["tpu"]), "for tpu, but this process .* on cpu"),
        (lambda header: header["parameters"].reverse(), "its program needs other parameters"),
    ],
)
def test_headers_that_do_not_fit(file, tmp_path, change, message):
    (tmp_path / "model").write_bytes(rewritten(file, change))
    with pytest.raises(JaxtalError, match=f"model.*{message}"):
        exported.load_exported(tmp_path / "model")


def test_paths_that_are_not_files(tmp_path):
    with pytest.raises(JaxtalError, match=r"missing: cannot be read \(No such file"):
        exported.load_exported(tmp_path / "missing")
    with pytest.raises(JaxtalError, match="cannot be read"):
        exported.load_exported(tmp_path)


def test_custom_scoring_code_cannot_be_exported(tmp_path):
    predictor = dataclasses.replace(toy_predictor(), score_spec=object())
    with pytest.raises(
        JaxtalError, match=r"toy: its score_spec is not a jaxtal.localization.scoring.ScoreSpec"
    ):
        exported.export_model(tmp_path / "model", predictor)
    assert not any(tmp_path.iterdir())


def test_the_command_reports_a_missing_file(tmp_path):
    code, out, err = run_program("export", f"--workdir={tmp_path}", f"--output={tmp_path / 'x'}")
    assert (code, out) == (2, "")
    assert err == (
        f"error: {tmp_path}: not the work directory of a run: it has no config.json; give the "
        "--workdir of a training run\n"
    )
