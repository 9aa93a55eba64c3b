"""The reference of the Python API: every module, from its docstrings."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import jaxtal
from jaxtal import _LAZY

PACKAGE = Path(jaxtal.__file__).parent

# Page -> (title, rooms). The modules at the root of the package are on the first page.
ROOMS = {
    "methods": ("Methods and layers", ("methods", "nn", "input_pipeline")),
    "localization": (
        "Localization and evaluation",
        ("localization", "evaluation", "visualization", "reporting"),
    ),
    "data": ("Data", ("data",)),
    "training": (
        "Training and inference",
        ("training", "inference", "checkpoint_conversion", "parallel"),
    ),
}
ROOT_MODULES = ("jaxtal.api", "jaxtal.config", "jaxtal.errors")

_HEAD = """# Python API

`import jaxtal` takes milliseconds: the names below are imported when they are first used.

```python
import jaxtal

result = jaxtal.train(jaxtal.get_config("co2net_demo"), "runs/co2net_demo")
detections = jaxtal.load_model("runs/co2net_demo").predict("features/")
print(jaxtal.evaluate(jaxtal.load_dataset("data/thumos14"), detections, "thumos14"))
```

Arguments after the subject are keyword-only, paths are `str` or `os.PathLike`. The library raises
[`JaxtalError`][jaxtal.errors.JaxtalError] and its subclasses, logs with
`logging.getLogger("jaxtal")`, and prints nothing. Shapes are in the letters of the
[glossary](../glossary.md).

| Name | Purpose |
|---|---|
"""


def index() -> str:
    """Return the first page: the public names, and the modules at the root of the package."""
    rows = (f"| [`jaxtal.{name}`][{_target(name)}] | {_summary(_target(name))} |" for name in _LAZY)
    return _HEAD + "\n".join([*rows, "", *_entries(ROOT_MODULES)])


def room_page(page: str) -> str:
    """Return the page of some rooms, with all their modules."""
    title, rooms = ROOMS[page]
    return "\n".join([f"# {title}\n", *_entries(_modules(rooms))])


def _target(name: str) -> str:
    return ".".join(part for part in _LAZY[name] if part)


def _summary(target: str) -> str:
    """Return the first line of the docstring of a module, or of a function or class in one."""
    module, _, name = target.rpartition(".")
    path = _source(target)
    tree: ast.AST = ast.parse((path or _source(module) or PACKAGE).read_text(encoding="utf-8"))
    if path is None:
        tree = next(node for node in ast.walk(tree) if getattr(node, "name", "") == name)
    return (ast.get_docstring(tree) or "").partition("\n")[0]  # type: ignore[arg-type]


def _source(module: str) -> Path | None:
    """Return the file of a module, or None."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _modules(rooms: Iterable[str]) -> Iterator[str]:
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            names = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(names[:-1] if names[-1] == "__init__" else names)


def _entries(modules: Iterable[str]) -> Iterator[str]:
    yield from (f"::: {module}\n" for module in modules)
