"""The checksums of redrawn weights detect another draw and accept another rounding."""

import numpy as np
import pytest

from tests.parity import recipe


def drawn(seed: int) -> dict[str, np.ndarray]:
    draws = recipe.Draws(seed)
    return {"a.w": draws.normal((256, 128, 3), 0.01), "a.b": draws.uniform((256,), 0.1)}


def as_stored(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"chk/{name}": recipe.checksum(value) for name, value in arrays.items()}


def test_another_rounding_of_every_entry_is_the_same_draw():
    arrays = drawn(0)
    towards = np.random.default_rng(1).choice([-np.inf, np.inf], (256, 128, 3))
    rounded = np.nextafter(arrays["a.w"], towards.astype(np.float32))
    assert (rounded != arrays["a.w"]).all()
    recipe.check(as_stored(arrays), {**arrays, "a.w": rounded})


@pytest.mark.parametrize("changed", ["another seed", "one entry", "another order"])
def test_another_draw_is_none(changed):
    arrays = drawn(0)
    gold = as_stored(arrays)
    if changed == "another seed":
        arrays = drawn(1)
    elif changed == "one entry":
        arrays["a.w"][100, 5, 1] += 0.01
    else:
        arrays["a.b"] = arrays["a.b"][::-1]
    with pytest.raises(AssertionError, match="is another draw"):
        recipe.check(gold, arrays)
