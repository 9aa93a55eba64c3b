"""Mutual-information losses, DMI and pDMI, of a joint distribution matrix (D2-Net).

A joint matrix counts predictions against labels or pseudo-labels. Predictions that depend on the
labels give rows that differ and thus a well-conditioned matrix. D2-Net minimizes the log of its
condition number (pDMI); Xu et al. (NeurIPS 2019) minimize the negative log of its determinant
(DMI). Every function accepts leading batch axes.
"""

import functools

import jax
import jax.numpy as jnp

_TINY = jnp.finfo(jnp.float32).tiny  # 1.2e-38, the floor of a singular value


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_singular_values(matrix: jax.Array, gradient_cap: float = 1e3) -> jax.Array:
    """Return the natural logs of the singular values, in descending order, with bounded gradient.

    d log s_i = (u_i^T dM v_i) / s_i is unbounded near rank deficiency, and JAX's own derivative is
    NaN where singular values repeat at 0. This derivative caps 1 / s_i, which keeps the direction
    and bounds the length. The value has float32 precision: singular values below the rounding
    error of the largest one are replaced by that error.

    Args:
        matrix: [..., N, N] float. A matrix with an entry that is not finite is replaced by the
            identity and receives no gradient, because the published program drops such a term.
        gradient_cap: upper bound of 1 / s_i in the gradient.

    Returns:
        [..., N] float.

    Source: the gradient bound is this package's own ([docs][d2net-gradient]).
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
    """Compute the pDMI loss, the log condition number log(s_max / s_min).

    Args:
        matrix: [..., N, N].
        discard: singular values up to this value are ignored. Without any other, the result is 0.
        gradient_cap: see `log_singular_values`.

    Returns:
        [...], at least 0.

    Source: D2-Net, eq. 6 and 7 ([docs][d2net-pdmi]).
    """
    logs = log_singular_values(matrix, gradient_cap)
    largest = logs[..., :1]
    kept = jnp.exp(logs) > discard
    return largest[..., 0] - jnp.where(kept, logs, largest).min(-1)


def dmi(matrix: jax.Array, discard: float = 0.0, gradient_cap: float = 1e3) -> jax.Array:
    """Compute the DMI loss, the negative log of the absolute determinant.

    It degenerates where pDMI does not. A class without videos in the batch gives a row of zeros and
    so a determinant of 0 for any prediction; every batch with fewer videos than classes has such a
    row. The determinant also depends on the matrix's scale, and so on the class frequencies.

    Args:
        matrix: [..., N, N].
        discard: unused; part of the signature of `pdmi`. The determinant has all singular values.
        gradient_cap: see `log_singular_values`.

    Returns:
        [...].

    Source: Xu et al., NeurIPS 2019; D2-Net, eq. 5 ([docs][d2net-pdmi]).
    """
    return -log_singular_values(matrix, gradient_cap).sum(-1)


MEASURES = {"pdmi": pdmi, "dmi": dmi}


def joint_matrix(labels: jax.Array, predictions: jax.Array, conditional: bool) -> jax.Array:
    """Compute the joint distribution matrix of labels and predictions.

    Args:
        labels: [..., N, L], 1 where item n has label l; items without labels are ignored.
        predictions: [..., N, C].
        conditional: True divides each row by the number of items with its label (published
            program), False divides the matrix by the number of labeled items (paper).

    Returns:
        [..., L, C].

    Source: D2-Net, U_1 and U_2 of eq. 9 and 10 ([docs][d2net-joint-matrix]).
    """
    if conditional:
        count = labels.sum(-2)[..., None]
    else:
        count = (labels > 0).any(-1).sum(-1)[..., None, None]
    return jnp.einsum("...nl,...nc->...lc", labels, predictions) / jnp.maximum(count, 1)
