"""Denoising by mutual information: DMI and pDMI of a joint distribution matrix (D2-Net).

A joint matrix counts what is predicted against what is (pseudo-)labeled. Where the predictions say
much about the labels its rows differ and it is well conditioned: D2-Net minimizes the log of its
condition number (pDMI), Xu et al. (NeurIPS 2019) the negative log of its determinant (DMI). Every
function takes leading batch axes.
"""

import functools

import jax
import jax.numpy as jnp

_TINY = jnp.finfo(jnp.float32).tiny  # 1.2e-38: what a singular value of 0 counts as


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_singular_values(matrix: jax.Array, gradient_cap: float = 1e3) -> jax.Array:
    """Natural logs of the singular values, in descending order, with a bounded gradient.

    d log s_i = (u_i^T dM v_i) / s_i grows without bound towards rank deficiency, and by JAX's own
    rule it is NaN where singular values repeat at 0. Here 1 / s_i is capped: the direction stays,
    its length does not explode. The value is exact as far as float32 goes; what is below the
    rounding error of the largest singular value counts as that error.

    Args:
        matrix: [..., N, N] float; where it has entries that are not finite it counts as the
            identity, without gradient, since the published program then drops the term.
        gradient_cap: the largest 1 / s_i.

    Returns:
        [..., N].
    """
    return _log(jnp.linalg.svd(_finite(matrix), compute_uv=False))


@log_singular_values.defjvp
def _log_singular_values_jvp(gradient_cap, primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    left, values, right = jnp.linalg.svd(_finite(matrix), full_matrices=False)
    tangent = jnp.where(_is_finite(matrix), tangent, 0)
    change = jnp.einsum("...ji,...jk,...ik->...i", left, tangent, right)
    return _log(values), change * jnp.minimum(1 / jnp.maximum(values, _TINY), gradient_cap)


def _is_finite(matrix: jax.Array) -> jax.Array:
    return jnp.isfinite(matrix).all((-2, -1), keepdims=True)


def _finite(matrix: jax.Array) -> jax.Array:
    identity = jnp.expand_dims(
        jnp.eye(matrix.shape[-1], dtype=matrix.dtype), range(matrix.ndim - 2)
    )
    return jnp.where(_is_finite(matrix), matrix, identity)


def _log(values: jax.Array) -> jax.Array:
    rounding = jnp.finfo(values.dtype).eps * values[..., :1]
    return jnp.log(jnp.maximum(values, jnp.maximum(rounding, _TINY)))


def pdmi(matrix: jax.Array, discard: float = 0.0, gradient_cap: float = 1e3) -> jax.Array:
    """Log condition number log(s_max / s_min), D2-Net's pDMI loss (METHODS 3.c, kappa).

    Args:
        matrix: [..., N, N].
        discard: singular values up to this one are left out; of none the condition number is 1.
        gradient_cap: see `log_singular_values`.

    Returns:
        [...], at least 0.
    """
    logs = log_singular_values(matrix, gradient_cap)
    largest = logs[..., :1]
    kept = jnp.exp(logs) > discard
    return largest[..., 0] - jnp.where(kept, logs, largest).min(-1)


def dmi(matrix: jax.Array, discard: float = 0.0, gradient_cap: float = 1e3) -> jax.Array:
    """Negative log of the absolute determinant, the original DMI loss (Xu et al. 2019).

    It degenerates where pDMI does not: a class without videos in the batch is a row of zeros, so
    that the determinant is 0 whatever is predicted, and with it every batch of fewer videos than
    classes; and it depends on the matrix's scale, so on how even the classes are.

    Args:
        discard: accepted as `pdmi` does and not used: every singular value is in the determinant.
    """
    return -log_singular_values(matrix, gradient_cap).sum(-1)


MEASURES = {"pdmi": pdmi, "dmi": dmi}


def joint_matrix(labels: jax.Array, predictions: jax.Array, conditional: bool) -> jax.Array:
    """How predictions and labels go together (D2-Net, U_1 and U_2).

    Args:
        labels: [..., N, L], 1 where item n has label l; an item without labels does not count.
        predictions: [..., N, C].
        conditional: each row is the mean prediction for its label (the published program) instead
            of the sum over the number of items (the paper).

    Returns:
        [..., L, C].
    """
    if conditional:
        count = labels.sum(-2)[..., None]
    else:
        count = (labels > 0).any(-1).sum(-1)[..., None, None]
    return jnp.einsum("...nl,...nc->...lc", labels, predictions) / jnp.maximum(count, 1)
