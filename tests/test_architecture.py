"""The rooms of the package: import rules, modules without JAX, length of the call paths."""

import ast
import itertools
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import co2net_thumos
from jaxtal import methods
from jaxtal.data import layouts, synthetic
from jaxtal.data.io import object_arrays
from jaxtal.data.layouts import wtalc_writer
from jaxtal.data.synthetic.config import SyntheticConfig
from jaxtal.input_pipeline.placement import place_features
from jaxtal.parallel import sharding
from jaxtal.parallel.mesh import MEMBER_SPEC, mesh_from_config
from jaxtal.training import evaluator, population, train_step
from tests.conftest import ROOT
from tests.helpers.call_graph import CallGraph

ROOMS = (
    "parallel", "data", "localization", "evaluation", "nn", "input_pipeline", "methods",
    "visualization", "training", "inference", "checkpoint_conversion", "reporting", "cli",
)  # fmt: skip


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the import contracts of pyproject.toml on the package in `folder`."""
    script = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of the contracts."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "jaxtal", tmp_path / "jaxtal", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_folder_is_a_room():
    folders = {path.parent.name for path in (ROOT / "jaxtal").glob("*/__init__.py")}
    assert folders == {*ROOMS, "configs"}


def test_a_room_imports_only_from_the_rooms_above_it(copy):
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("nn/losses.py", "from jaxtal.training import trainer"),
        ("data/segments.py", "import jax"),
        ("nn/layers.py", "from jaxtal.parallel import sharding"),
        ("errors.py", "from jaxtal import config"),
    ],
)
def test_an_upward_import_is_noticed(copy, file, line):
    path = copy / "jaxtal" / file
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 broken" not in result.stdout
    assert "jaxtal." + file.removesuffix(".py").replace("/", ".") in result.stdout


def test_data_localization_and_evaluation_need_no_jax():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("data", "localization", "evaluation")
        for path in sorted((ROOT / "jaxtal" / room).rglob("*.py"))
        if path.stem
        not in ("builders", "preparation")  # they import tfds, which imports JAX if it is installed
    ]
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module("
        "name.removesuffix('.__init__'))\nsys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert len(modules) > 25


def test_any_module_can_be_imported_first():
    """No module needs an earlier import of another one: there is no import cycle."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "jaxtal").rglob("*.py"))
        if path.stem not in ("__main__", "builders")  # TFDS registers a builder only once
    ]
    program = f"""
import importlib, sys
for name in {modules!r}:
    for known in [known for known in sys.modules if known.partition(".")[0] == "jaxtal"]:
        del sys.modules[known]
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert len(modules) > 80


def functions_of(path: Path) -> list[tuple[int, int]]:
    """Return the lengths of all functions of a file in lines, with and without docstring."""
    nodes = ast.walk(ast.parse(path.read_text()))
    lengths = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            length, first = node.end_lineno - node.lineno + 1, node.body[0]
            documented = ast.get_docstring(node) is not None
            lengths.append((length, length - documented * (first.end_lineno - first.lineno + 1)))
    return lengths


def test_functions_and_files_are_short():
    files = [*(ROOT / "jaxtal").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    long = {str(path) for path in files if len(path.read_text().splitlines()) > 450}
    assert not long
    lengths = {path: functions_of(path) for path in files}
    whole = {
        path: max((length for length, _ in found), default=0) for path, found in lengths.items()
    }
    assert not {str(path) for path, length in whole.items() if length > 60}
    assert statistics.median(code for _, code in itertools.chain(*lengths.values())) <= 6


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """CO2-Net on a W-TALC folder of 8 training and 4 test videos."""
    folder = tmp_path_factory.mktemp("wtalc")
    dataset = synthetic.generate(
        SyntheticConfig(num_train=8, num_test=4, num_classes=3, feature_width=8, max_snippets=100)
    )
    wtalc_writer.write_annotations(folder, dataset)
    with open(folder / f"{dataset.name}-I3D-JOINTFeatures.npy", "wb") as file:
        writer = object_arrays.Writer(file, 12)
        for video in (*dataset.train, *dataset.test):
            writer.add(video.features)
        writer.end()
    config = co2net_thumos.get_config()
    config.data.update(dir=str(folder), name=dataset.name, num_snippets=16)
    return config


def test_the_path_from_features_to_detections_is_short(config):
    method = methods.get(config.method)
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    with CallGraph() as loading:
        dataset = layouts.load_from_config(config.data)
    classes = len(dataset.classes)
    model = method.build(config.model, classes)
    init = train_step.init_fn(model, config, mesh, dataset.feature_width)
    members = population.members_of(config)
    state = init(sharding.device_put(mesh, population.hypers(members), MEMBER_SPEC))
    with CallGraph() as placing:
        placed = place_features(dataset.test, classes, config, "test", mesh=mesh)
    with CallGraph() as predicting:
        run = evaluator.Evaluator(method, model, dataset.test, config, placed, mesh)
        variables = {"params": state.params, **state.model_state}
        run.compile(variables)
        (outputs,) = run(variables)
    snippets = [len(video.features) for video in dataset.test]
    with CallGraph() as localizing:
        found = evaluator.localize(method, config, outputs, snippets, dataset.grid.of(dataset.test))
    assert len(found)
    path = loading | placing | predicting | localizing
    assert len(path.files()) < 20, sorted(path.files())
    assert len(path.across_files()) < 70, sorted(path.across_files())


def test_the_path_through_a_training_step_is_short(config):
    method = methods.get(config.method)
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    dataset = layouts.load_from_config(config.data)
    placed = place_features(dataset.train, len(dataset.classes), config, "training", mesh=mesh)
    model = method.build(config.model, len(dataset.classes))
    hyper = population.hypers(population.members_of(config))
    hyper = sharding.device_put(mesh, hyper, MEMBER_SPEC)
    init = train_step.init_fn(model, config, mesh, dataset.feature_width)
    state = jax.eval_shape(init, hyper)
    with CallGraph() as step:
        program = train_step.train_fn(model, method, config, mesh, 1)
        program.lower(state, hyper, np.int32(1), placed.data, None)
    assert len(step.across_files()) < 35, sorted(step.across_files())
