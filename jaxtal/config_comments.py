"""Comments on config fields, read from the source of the config files."""

import ast
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


def comments_of(path: Path, modules: Mapping[str, Path]) -> dict[str, str]:
    """Return {field: comment} of a config file and of the config files that it imports.

    The file's own comments take precedence over those of the file whose config it starts from,
    and these over those of other imported files.

    Args:
        path: The config file.
        modules: Files of `jaxtal.configs` by name.

    Returns:
        Comments by field, such as "train.steps", or "" for a field without comment. The fields of
        the file that this one starts from come first, each file's in its order.
    """
    with tokenize.open(path) as file:
        source = file.read()
    tree = ast.parse(source)
    base, *others = _imported(tree, {*modules} - {path.stem})
    comments = comments_of(modules[base], modules) if base else {}
    for field, comment in _own(tree, source).items():
        comments[field] = comment or comments.get(field, "")
    for other in others:
        for field, comment in comments_of(modules[other], modules).items():
            comments[field] = comments.get(field) or comment
    return comments


def _imported(tree: ast.AST, known: set[str]) -> list[str]:
    """Return X of `config = X.get_config(...)`, or "", followed by other imported files."""
    base, names = "", []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="jaxtal.configs" | "configs", names=aliases):
                names += [alias.name for alias in aliases if alias.name in known]
            case ast.Assign(
                targets=[ast.Name("config")],
                value=ast.Call(func=ast.Attribute(value=ast.Name(name), attr="get_config")),
            ):
                base = name
    base = base if base in names else ""
    return [base, *(name for name in names if name != base)]


class _Entry(NamedTuple):
    """A field set in a line; comments above belong to it if it `begins` the line."""

    field: str
    line: int
    begins: bool


def _own(tree: ast.AST, source: str) -> dict[str, str]:
    """Return the fields that a file sets, with the comment beside or else above each."""
    lines = iter(source.splitlines(keepends=True))
    tokens = [t for t in tokenize.generate_tokens(lines.__next__) if t.type == tokenize.COMMENT]
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens}
    alone = {token.start[0] for token in tokens if token.line.lstrip().startswith("#")}
    entries = list(_entries(tree))
    starts = [entry.line for entry in entries]
    found: dict[str, str] = {}
    for field, line, begins in entries:
        comment = comments.get(line, "") if starts.count(line) == 1 else ""
        first = line
        while begins and first - 1 in alone:
            first -= 1
        above = " ".join(comments[number] for number in range(first, line))
        # A preset may set a field again below; the first comment counts.
        found[field] = found.get(field) or comment or above
    return found


def _entries(tree: ast.AST) -> Iterator[_Entry]:
    """Yield the fields that a config file sets."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        match node:
            case ast.Return(value=ast.Call(func=ast.Name("ConfigDict"), args=[content])):
                yield from _below("", content, functions)
            case ast.Assign(targets=[ast.Attribute() as target], value=value):
                if field := _path(target):
                    yield _Entry(field, node.lineno, True)
                    yield from _below(f"{field}.", value, functions)
            case ast.Call(func=ast.Attribute(value=owner, attr="update"), keywords=keywords):
                for keyword in keywords:
                    if keyword.arg and (field := _path(owner)):
                        yield _Entry(f"{field}.{keyword.arg}", keyword.lineno, False)


def _below(
    prefix: str, value: ast.expr, functions: Mapping[str, ast.FunctionDef]
) -> Iterator[_Entry]:
    """Yield the fields below one that is set to a dict, a ConfigDict, or a function's dict."""
    match value:
        case ast.Call(func=ast.Name("ConfigDict"), args=[content]):
            yield from _below(prefix, content, functions)
        case ast.Call(func=ast.Name(name)) if name in functions:
            last = functions[name].body[-1]
            if isinstance(last, ast.Return) and last.value is not None:
                yield from _below(prefix, last.value, functions)
        case ast.Dict(keys=keys, values=values):
            for key, entry in zip(keys, values, strict=True):
                match key:
                    case ast.Constant(value=str(name)):
                        yield _Entry(prefix + name, key.lineno, True)
                        yield from _below(f"{prefix}{name}.", entry, functions)


def _path(node: ast.expr) -> str:
    """Return "a.b" of the expression config.a.b, "" of any other."""
    match node:
        case ast.Attribute(value=ast.Name("config"), attr=name):
            return name
        case ast.Attribute(value=inner, attr=name) if outer := _path(inner):
            return f"{outer}.{name}"
    return ""
