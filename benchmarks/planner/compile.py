"""Compile the programs of a plan, each in a separate process that may end early."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from benchmarks.planner.cases import Case, devices_of
from benchmarks.planner.report import NEEDED, buffers, row
from jaxtal.errors import JaxtalError

STOPPED = 42  # exit code of a compilation that was stopped after its buffer assignment
_PROGRAM = "after_optimizations_after_buffer_assignment"
_BUFFERS = "after_optimizations-buffer-assignment"


def available_memory(device) -> int:
    """Return the bytes of HBM that the compiler grants a program on a chip."""
    place = SingleDeviceSharding(device)
    absurd = jax.ShapeDtypeStruct((2**37,), jnp.float32, sharding=place)
    try:
        jax.jit(lambda x: x[::-1] + 1).lower(absurd).compile()
    except jax.errors.JaxRuntimeError as error:
        if match := re.search(r"available HBM \(([\d.]+)G\)", str(error)):
            return int(float(match[1]) * 2**30)
        raise
    raise RuntimeError("the compiler accepts a program of 512 GiB; its memory is unknown")


def compile_case(case: Case, folder: Path) -> None:
    """Compile a program; may end the process after the buffer assignment.

    Args:
        case: program to compile.
        folder: where facts.json and the compiler's dumps are written.
    """
    devices = devices_of(case.topology)
    facts: dict[str, Any] = {"available": available_memory(devices[0]), "chips": len(devices)}
    facts["flops"] = case.flops()
    lowered = case.lowered(devices)
    written = folder / "facts.json"
    written.write_text(json.dumps(facts))
    if not case.machine_code:
        watch = (folder, facts["available"])
        threading.Thread(target=_stop_after_buffers, args=watch, daemon=True).start()
    start = time.perf_counter()
    try:
        compiled = lowered.compile({"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True})
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        facts["refused"] = str(error).partition(" HLO module")[0]
    else:
        facts |= _of_machine_code(compiled, time.perf_counter() - start)
    written.write_text(json.dumps(facts))


def _of_machine_code(compiled, seconds: float) -> dict[str, Any]:
    """Return the facts of a program that was compiled to machine code."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    names = ("flops", "bytes accessed", "optimal_seconds")
    return {
        "machine_code": {
            "seconds_to_compile": seconds,
            "code": memory.generated_code_size_in_bytes,
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            **{name.replace(" ", "_"): cost.get(name) for name in names},
        }
    }


def _stop_after_buffers(folder: Path, available: int) -> None:
    """End the process when the optimized program is written: only machine code would follow.

    If the program needs more memory than is available, the compiler refuses it at once.
    """
    while not any(file.read_text().rstrip().endswith("}") for file in _dumps(folder, _PROGRAM)):
        time.sleep(0.1)
    sizes = buffers(_dumps(folder, _BUFFERS)[-1].read_text())
    if sum(sizes[name] for name in NEEDED) <= available:
        os._exit(STOPPED)


def _dumps(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*.{kind}.txt"))


def planned(case: Case) -> dict[str, Any]:
    """Compile a program in a separate process and return its row.

    Args:
        case: program to compile.

    Raises:
        JaxtalError: the compilation failed for another reason than memory.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "benchmarks.pod_plan", "--case", json.dumps(case), name]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "TPU_SKIP_MDS_QUERY": "1",  # no query of a cloud's metadata server
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes: none holds a TPU
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        if done.returncode not in (0, STOPPED):
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise JaxtalError(f"{case.topology}, {case.method}: {last.removeprefix('error: ')}")
        facts = json.loads((folder / "facts.json").read_text())
        texts = [
            file.read_text() for kind in (_BUFFERS, _PROGRAM) for file in _dumps(folder, kind)[-1:]
        ]
    if len(texts) < 2 and "refused" not in facts:
        raise JaxtalError(
            f"{case.topology}, {case.method}: the compiler wrote no buffer assignment; this libtpu "
            "names its files differently, try 0.0.52"
        )
    return {**row(case, facts, *texts), "seconds_to_plan": round(time.perf_counter() - start, 1)}
