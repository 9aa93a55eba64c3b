"""Compare a whole training step with PyTorch and with the time of its matrix products.

    python -m benchmarks.train_step [--method co2net --batch 10 --snippets 100] [--json FILE]

Without arguments all methods are measured at the demo's, THUMOS14's and ActivityNet's shape. The
measured program is the one of training, several steps per dispatch, sampling and gathering of the
batches included. The references are plain PyTorch modules of the same mathematics
(`benchmarks/baselines/torch`; extra `torch`), with `Conv1d` or with shifted copies and matrix
products, eager and compiled by `torch.compile`, on a batch in memory. All are measured in turn in
one process. `ratio` of "one step a dispatch" is below 1 if the loop over steps adds time.

The floor is the number of floating-point operations of the step divided by the best rate of a
matrix product in the same process, by XLA or PyTorch. "textbook" operations are counted by PyTorch
in the reference, "executed" operations by XLA in the compiled program.

`--set` changes config fields of jaxtal's side. The cost of D2-Net's denoising is the difference
between `--method d2net --reference none` with and without `--set loss.denoising=none`.

Prints one row per reference: `median_s` and `quartiles_s` are jaxtal's, `ratio` is the reference's
median divided by jaxtal's; for a floor this is the fraction of the floor's rate.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.timing import add_set, interleaved, parser_of, row, show
from benchmarks.workloads import CONFIGS, SHAPES, Trainer, config_of, matmul_rates, training_set
from jaxtal.training.setup import PRECISIONS

OURS = "jaxtal"
ONE_BY_ONE = "jaxtal, one step a dispatch"
VIDEOS = {"demo": 100, "thumos": 60, "anet": 200}


def references(config, batch: int, snippets: int, width: int, classes: int) -> dict[str, Any]:
    """Return the PyTorch modules' steps on one batch, and the FLOPs of a step.

    Args:
        config: config of the method.
        batch: videos per batch, B.
        snippets: snippets per video, T.
        width: features per snippet, 2 * D.
        classes: number of classes, C.

    Returns:
        "steps", (name, function) of each form, and "flops".
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.baselines import torch as reference_torch

    torch.set_float32_matmul_precision("high")  # TF32 on NVIDIA GPUs, like XLA's default
    device = "cuda" if torch.cuda.is_available() else "cpu"
    features = torch.rand(batch, snippets, width, device=device)
    rows = [0, 0, 1, 1, 2, 2, *range(max(0, batch - 6))][:batch]
    labels = torch.eye(classes, device=device)[rows]

    def built(form: str):
        module = reference_torch.build(config.method, config, classes, width, form)
        module.network.to(device)
        return module

    forms: dict[str, Any] = {}
    for form in ("conv1d", "unfold"):
        forms[f"PyTorch, {form}"] = built(form)
        forms[f"PyTorch, {form}, compiled"] = built(form).compiled()
    with FlopCounterMode(display=False) as counter:
        forms["PyTorch, conv1d"].step(features, labels)

    steps = [(name, partial(module.step, features, labels)) for name, module in forms.items()]
    return {"steps": steps, "flops": counter.get_total_flops()}


def torch_rates(repeats: int) -> float:
    """Measure the best rate of PyTorch's matrix products, in FLOP/s."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    ones = partial(torch.ones, device=device)
    return max(matmul_rates(ones, torch.matmul, repeats, _synchronize))


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(method: str, shape: str, sizes, options: argparse.Namespace) -> list[dict]:
    """Measure one method at one shape and return its rows.

    Args:
        method: key of `CONFIGS`.
        shape: key of `SHAPES`.
        sizes: videos per batch, snippets per video, features per snippet, classes.
        options: parsed command line.
    """
    batch, snippets, width, classes = sizes
    config = config_of(method, shape, batch, snippets)
    config.precision = options.precision
    config.update_from_flattened_dict(dict(options.set))
    data = training_set(VIDEOS[shape], snippets, width, classes)
    ours, single = Trainer(config, data, options.steps), Trainer(config, data)
    cases: dict[str, Callable] = {OURS: ours, ONE_BY_ONE: partial(_repeat, single, options.steps)}
    ones = partial(_ones, dtype=options.precision)
    rates = {"XLA": max(matmul_rates(ones, jax.jit(jnp.matmul), options.repeats))}
    flops = {"executed": (ours.compiled.cost_analysis() or {}).get("flops", float("nan"))}
    version = None
    if options.reference == "torch":
        import torch

        version, others = torch.__version__, references(config, batch, snippets, width, classes)
        for name, step in others["steps"]:
            cases[name] = partial(_repeat, step, options.steps, _synchronize)
        rates["PyTorch"] = torch_rates(options.repeats)
        flops["textbook"] = others["flops"]
    measured = interleaved(cases, options.repeats)
    seconds = {name: [x / options.steps for x in values] for name, values in measured.items()}
    floors = {f"floor, {kind}": [count / max(rates.values())] for kind, count in flops.items()}
    common = {
        "method": method, "precision": options.precision, "set": dict(options.set),
        "matmul_flops_per_s": rates, "flops": flops, "torch": version,
    }  # fmt: skip
    shapes = {"batch": batch, "snippets": snippets, "features": width, "classes": classes}
    against = {name: values for name, values in (seconds | floors).items() if name != OURS}
    rows = []
    for name, reference in against.items():
        common |= {
            "reference": name,
            "reference_median_s": statistics.median(reference),
            "reference_quartiles_s": np.quantile(reference, (0.25, 0.75)).tolist(),
        }
        rows.append(row(f"{method}, {shape}", shapes, seconds[OURS], reference) | common)
    return rows


def _repeat(step: Callable[[], object], steps: int, finish=lambda: None) -> object:
    for _ in range(steps):
        result = step()
    finish()
    return result


def _ones(rows: int, columns: int, dtype: str) -> jax.Array:
    return jnp.ones((rows, columns), dtype)


def table_of(rows: list[dict]) -> Table:
    """Return a table with one line per reference."""
    table = Table("case", "B x T x features", "ours", "reference", "", "ratio")
    for line in rows:
        size = " x ".join(str(line["shapes"][name]) for name in ("batch", "snippets", "features"))
        ours = f"{_time(line['median_s'])} ({' to '.join(map(_time, line['quartiles_s']))})"
        reference = _time(line["reference_median_s"])
        cells = line["case"], size, ours, line["reference"], reference, f"{line['ratio']:.2f}"
        table.add_row(*cells)
    return table


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_of(__doc__, repeats=7)
    parser.add_argument(
        "--method", choices=list(CONFIGS), nargs="+", default=list(CONFIGS), help="default: all"
    )
    parser.add_argument(
        "--shapes", choices=list(SHAPES), nargs="+", default=list(SHAPES), help="default: all"
    )
    parser.add_argument("--batch", type=int, default=10, help="videos per batch; default: 10")
    parser.add_argument(
        "--snippets", type=int, nargs="+", metavar="T",
        help="snippets per video, instead of --shapes; the other sizes are THUMOS14's",
    )  # fmt: skip
    parser.add_argument("--width", type=int, help="features per snippet; default: the shape's")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="precision of jaxtal and of the floor; default: float32",
    )
    parser.add_argument(
        "--reference", choices=("torch", "none"), default="torch", help="default: torch"
    )
    parser.add_argument(
        "--steps", type=int, default=5, help="steps per dispatch and measurement; default: 5"
    )
    add_set(parser, "loss.denoising=none")
    options = parser.parse_args()
    if options.precision != "float32" and options.reference == "torch":
        parser.error("the PyTorch references are float32: add --reference none")
    return options


def main() -> None:
    """Measure, print the rows and a table; --json writes the rows as a JSON list."""
    options = parse()
    shapes = [(name, SHAPES[name]) for name in options.shapes]
    if options.snippets:
        shapes = [("thumos", (10, snippets, 2048, 20)) for snippets in options.snippets]
    rows: list[dict] = []
    for shape, (_, snippets, width, classes) in shapes:
        sizes = (options.batch, snippets, options.width or width, classes)
        for method in options.method:
            before = len(rows)
            rows += measure(method, shape, sizes, options)
            print(*map(json.dumps, rows[before:]), sep="\n", flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    show(table_of(rows))
    for name, rate in rows[-1]["matmul_flops_per_s"].items():
        print(f"best matrix product, {name}: {rate / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
