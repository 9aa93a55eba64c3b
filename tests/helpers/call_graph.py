"""Record the call graph of the package while a block runs."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jaxtal

_PACKAGE = str(Path(jaxtal.__file__).parent) + "/"


class Function(NamedTuple):
    """A function of the package: its file below `jaxtal/`, and its qualified name."""

    file: str
    name: str


class CallGraph:
    """A context that records the calls between functions of the package in this thread.

    The caller is the nearest function of the package on the stack, so a call through JAX or Flax
    counts as a call by the function that called JAX or Flax.

    Attributes:
        functions: those that ran.
        calls: (caller, callee) pairs, each once.
    """

    def __init__(self) -> None:
        self.functions: set[Function] = set()
        self.calls: set[tuple[Function, Function]] = set()

    def __enter__(self) -> "CallGraph":
        sys.setprofile(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _record(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (callee := _function(frame)) is None:
            return
        self.functions.add(callee)
        above = frame.f_back
        while above is not None:
            if (caller := _function(above)) is not None:
                self.calls.add((caller, callee))
                return
            above = above.f_back

    def files(self) -> set[str]:
        """Return the files whose functions ran."""
        return {function.file for function in self.functions}

    def across_files(self) -> set[tuple[Function, Function]]:
        """Return the calls from one file to another."""
        return {(caller, callee) for caller, callee in self.calls if caller.file != callee.file}

    def __or__(self, other: "CallGraph") -> "CallGraph":
        union = CallGraph()
        union.functions = self.functions | other.functions
        union.calls = self.calls | other.calls
        return union


def _function(frame: FrameType) -> Function | None:
    file = frame.f_code.co_filename
    if not file.startswith(_PACKAGE):
        return None
    return Function(file.removeprefix(_PACKAGE), frame.f_code.co_qualname)
