"""The temporal convolution: XLA's, shifted copies with one matrix product, and ours.

    python -m benchmarks.speed.temporal_conv

Forward and backward, by itself and inside `lax.scan`; `ratio` is XLA's median over the other's in
the same place, measured in turn in the same process. Ours, `jaxtal.nn.layers.temporal_conv`, is the
second form, but for wide layers on the CPU, which take two thirds of the multiplications.
"""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.timing import Rows, interleaved, parser_of, row
from jaxtal.nn.layers import shifted, temporal_conv

SHAPES = ((10, 100, 64), (10, 150, 256), (10, 100, 2048))
SCANNED = 4


def xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute XLA's own convolution, [B, T, I] by [k, I, O]."""
    layout = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=layout)


def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute jaxtal's, without a mask's effect."""
    return temporal_conv(x, kernel, jnp.zeros(kernel.shape[-1]), jnp.ones(x.shape[:-1], bool))


def gradient(conv, x, kernel):
    """Compute the gradient of a scalar function of the convolution for both arguments."""
    return jax.grad(lambda x, kernel: (conv(x, kernel) ** 2).sum(), (0, 1))(x, kernel)


def scanned(conv, x, kernel):
    """Compute it several times in one program, each on what the last one gave."""

    def body(carry, _):
        return jax.tree.map(lambda a, g: a - 1e-9 * g, carry, gradient(conv, *carry)), None

    return jax.lax.scan(body, (x, kernel), None, length=SCANNED)[0]


def measure(batch: int, time: int, width: int, repeats: int, rows: Rows) -> None:
    """Measure one shape."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, time, width))
    kernel = jax.random.normal(keys[1], (3, width, width)) / width
    forms = {"alone": gradient}
    if width <= 256:  # beyond, XLA's form takes minutes inside a scan
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
    """Measure every shape."""
    options = parser_of(__doc__, repeats=9).parse_args()
    rows = Rows(options.json)
    for shape in SHAPES:
        measure(*shape, options.repeats, rows)


if __name__ == "__main__":
    main()
