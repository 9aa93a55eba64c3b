"""Compare forms of the temporal convolution: XLA's, shifted copies with one product, and jaxtal's.

    python -m benchmarks.speed.temporal_conv

Measures forward and backward passes, alone and inside `lax.scan`, in turn in one process; `ratio`
is XLA's median divided by the other form's. `jaxtal.nn.layers.temporal_conv` is the second form,
except for wide layers on the CPU, which need two thirds of the multiplications.
"""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.timing import Rows, interleaved, parser_of, row
from jaxtal.nn.layers import shifted, temporal_conv

SHAPES = ((10, 100, 64), (10, 150, 256), (10, 100, 2048))
SCANNED = 4


def xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute XLA's convolution of x [B, T, I] and kernel [k, I, O]."""
    layout = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=layout)


def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute jaxtal's convolution with a mask of ones."""
    return temporal_conv(x, kernel, jnp.zeros(kernel.shape[-1]), jnp.ones(x.shape[:-1], bool))


def gradient(conv, x, kernel):
    """Compute the gradients of a scalar function of the convolution.

    Args:
        conv: function of x and kernel.
        x: input [B, T, I].
        kernel: kernel [k, I, O].
    """
    return jax.grad(lambda x, kernel: (conv(x, kernel) ** 2).sum(), (0, 1))(x, kernel)


def scanned(conv, x, kernel):
    """Repeat `gradient` in a scan, each iteration on the results of the one before.

    Args:
        conv: function of x and kernel.
        x: input [B, T, I].
        kernel: kernel [k, I, O].
    """

    def body(carry, _):
        return jax.tree.map(lambda a, g: a - 1e-9 * g, carry, gradient(conv, *carry)), None

    return jax.lax.scan(body, (x, kernel), None, length=SCANNED)[0]


def measure(batch: int, time: int, width: int, repeats: int, rows: Rows) -> None:
    """Measure one shape and write its rows.

    Args:
        batch: videos, B.
        time: snippets, T.
        width: input and output channels.
        repeats: measurements of each form.
        rows: writer of rows.
    """
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, time, width))
    kernel = jax.random.normal(keys[1], (3, width, width)) / width
    forms = {"alone": gradient}
    if width <= 256:  # wider, XLA's form takes minutes inside a scan
        forms[f"in a scan of {SCANNED}"] = scanned
    for place, form in forms.items():
        cases = {
            name: partial(jax.jit(partial(form, conv)), x, kernel)
            for name, conv in (("xla", xla), ("shifted", shifted), ("ours", ours))
        }
        seconds = interleaved(cases, repeats)
        shapes = {"batch": batch, "time": time, "channels": width}
        for name, values in seconds.items():
            reference = None if name == "xla" else seconds["xla"]
            rows(row(f"{name}, {place}", shapes, values, reference))


def main() -> None:
    """Measure every shape and print the rows."""
    options = parser_of(__doc__, repeats=9).parse_args()
    rows = Rows(options.json)
    for shape in SHAPES:
        measure(*shape, options.repeats, rows)


if __name__ == "__main__":
    main()
