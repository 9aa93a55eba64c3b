"""pDMI against NumPy's condition number in float64, on regular and singular matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtal.nn.mutual_information import dmi, joint_matrix, log_singular_values, pdmi

CAP = 1e3


def orthogonal(rng, count: int, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(count, size, size)))[0]


def with_spectrum(rng, spectrum: np.ndarray) -> np.ndarray:
    """Draw matrices with the given singular values [n, N]."""
    left, right = (orthogonal(rng, *spectrum.shape) for _ in range(2))
    return left * spectrum[:, None] @ right


def row_stochastic(rng, count: int, size: int) -> np.ndarray:
    rows = rng.gamma(0.5, size=(count, size, size)) + 1e-6
    return rows / rows.sum(axis=-1, keepdims=True)


def almost_equal_rows(rng, count: int, size: int) -> np.ndarray:
    """Draw joint matrices whose predictions hardly depend on the label."""
    rows = row_stochastic(rng, count, size)
    closeness = 10.0 ** -rng.uniform(0, 12, size=(count, 1, 1))
    return rows[:, :1] + closeness * (rows - rows[:, :1])


def repeated(rng, count: int, size: int) -> np.ndarray:
    """Draw matrices whose singular values come in equal pairs."""
    spectrum = np.sort(rng.uniform(0.01, 1, size=(count, size)), axis=1)
    return with_spectrum(rng, np.repeat(spectrum, 2, axis=1)[:, :size])


def rank_deficient(rng, count: int, size: int) -> np.ndarray:
    rank = rng.integers(0, size, size=(count, 1))
    return with_spectrum(rng, np.where(np.arange(size) < rank, rng.random((count, size)), 0.0))


def scaled(rng, count: int, size: int) -> np.ndarray:
    return rng.normal(size=(count, size, size)) * 10.0 ** rng.uniform(-38, 30, (count, 1, 1))


def simple(rng, count: int, size: int) -> np.ndarray:
    shape = (size, size)
    kinds = [np.zeros(shape), np.ones(shape), np.eye(size), np.eye(size)[::-1], -np.eye(size)]
    kinds += [np.full(shape, 1e-10), np.diag(10.0 ** -np.arange(size)), np.eye(size, k=1)]
    kinds += [np.eye(size)[:, :1] + np.zeros(shape), np.tri(size), np.diag(np.arange(size) % 2.0)]
    return np.stack(kinds)


KINDS = [
    lambda rng, count, size: rng.random((count, size, size)),
    lambda rng, count, size: rng.normal(size=(count, size, size)),
    row_stochastic,
    almost_equal_rows,
    repeated,
    rank_deficient,
    scaled,
    simple,
]
SIZES = (1, 2, 3, 5, 10, 20, 40)


@functools.cache
def measured(size: int):
    """Return float32 matrices of every kind, float64 SVDs, and pDMI with its gradient."""
    rng = np.random.default_rng(size)
    count = 400 if size <= 10 else 60
    with np.errstate(under="ignore"):
        matrices = np.concatenate([kind(rng, count, size) for kind in KINDS]).astype(np.float32)
    ours = jax.jit(jax.vmap(jax.value_and_grad(pdmi)))(jnp.asarray(matrices))
    singular = np.linalg.svd(matrices.astype(np.float64))
    return matrices, singular, *(np.asarray(x, np.float64) for x in ours)


@pytest.mark.parametrize("size", SIZES)
def test_the_value_is_the_log_condition_number(size):
    _, (_, values, _), ours, _ = measured(size)
    good = (values[:, 0] < 1e3 * values[:, -1]) & (values[:, -1] > 1e-37)  # not denormal
    assert 0.3 < good.mean() < 1
    wanted = np.log(values[good, 0] / values[good, -1])
    np.testing.assert_allclose(ours[good], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradient_are_finite_and_the_gradient_is_bounded(size):
    _, _, ours, gradient = measured(size)
    assert np.isfinite(ours).all()
    assert (ours >= 0).all()
    assert ours.max() <= np.log(1 / np.finfo(np.float32).eps) + 1e-3
    # Two rank-one terms, each of at most CAP in the spectral norm.
    norms = np.linalg.norm(gradient, axis=(1, 2))
    assert norms.max() <= 1.001 * np.sqrt(2) * CAP
    assert (size == 1) == (norms.max() < 1)


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_is_exact_where_it_is_not_capped(size):
    _, (left, values, right), _, gradient = measured(size)
    apart = np.diff(values, axis=1).max(axis=1, initial=-np.inf) < -1e-2 * values[:, 0]
    good = apart & (values[:, -1] > 1e-2 * values[:, 0]) & (values[:, -1] > 1 / CAP)
    good &= values[:, 0] < 1e6
    if size <= 10:
        assert good.sum() > 10
    terms = np.einsum("nij,njk->njik", left[good], right[good]) / values[good][..., None, None]
    wanted = terms[:, 0] - terms[:, -1]
    scale = np.abs(wanted).max(axis=(1, 2), initial=1e-9, keepdims=True)
    np.testing.assert_allclose(gradient[good] / scale, wanted / scale, atol=2e-3)


def test_the_gradient_of_jax_is_unbounded_in_the_worst_cases():
    """This is the reason for the custom derivative; without it the rule can be removed.

    For equal rows the smallest singular value is 0 on one CPU's LAPACK and 1e-8 on another's.
    """

    def plain(matrix):
        values = jnp.linalg.svd(matrix, compute_uv=False)
        return jnp.log(values[0] / values[-1])

    assert not np.isfinite(jax.grad(plain)(jnp.zeros((2, 2)))).all()
    assert not np.abs(jax.grad(plain)(jnp.ones((2, 2)))).max() <= 1e6  # larger, or NaN
    for matrix in (jnp.zeros((2, 2)), jnp.ones((2, 2))):
        assert np.abs(jax.grad(pdmi)(matrix)).max() <= CAP


def test_descending_a_nearly_singular_matrix_lowers_the_condition_number():
    """The capped gradient keeps its direction."""
    matrix = jnp.array([[0.5, 0.5], [0.5 - 1e-6, 0.5 + 1e-6]])
    gradient = jax.grad(pdmi)(matrix)
    step = 1e-5 * gradient / jnp.linalg.norm(gradient)
    assert pdmi(matrix - step) < pdmi(matrix) - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_matrix_that_is_not_finite_has_value_0_and_no_gradient(bad):
    matrices = jnp.array([[[1.0, 2.0], [bad, 4.0]], [[2.0, 0.0], [0.0, 1.0]]])
    value, gradient = jax.value_and_grad(lambda m: pdmi(m).sum())(matrices)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert not np.any(gradient[0])
    np.testing.assert_allclose(gradient[1], [[0.5, 0], [0, -1]], atol=1e-6)


def test_small_singular_values_can_be_discarded():
    matrix = jnp.diag(jnp.array([1.0, 0.5, 1e-6, 0.0]))
    value, gradient = jax.value_and_grad(pdmi)(matrix, 1e-5)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-5)
    np.testing.assert_allclose(np.diag(gradient), [1, -2, 0, 0], atol=1e-5)
    assert pdmi(1e-7 * jnp.eye(3), 1e-5) == 0
    assert not np.any(jax.grad(pdmi)(1e-7 * jnp.eye(3), 1e-5))


def test_dmi_is_the_log_determinant_and_degenerates_where_a_class_is_missing():
    rng = np.random.default_rng(0)
    matrices = jnp.asarray(rng.random((50, 4, 4)), jnp.float32)
    wanted = -np.linalg.slogdet(np.asarray(matrices, np.float64))[1]
    np.testing.assert_allclose(jax.vmap(dmi)(matrices), wanted, rtol=1e-3, atol=1e-3)
    labels = jnp.eye(4)[:3]  # no item has class 3
    predictions = jnp.asarray(rng.dirichlet(np.ones(4), 3), jnp.float32)
    missing = joint_matrix(labels, predictions, conditional=True)
    assert dmi(missing) > 10
    assert pdmi(missing, 1e-5) < 5
    assert np.isfinite(jax.grad(dmi)(missing)).all()


def test_joint_matrices_against_loops():
    rng = np.random.default_rng(1)
    labels = (rng.random((3, 7, 4)) < 0.3).astype(np.float32)
    predictions = rng.random((3, 7, 5)).astype(np.float32)
    for conditional in (True, False):
        ours = joint_matrix(jnp.asarray(labels), jnp.asarray(predictions), conditional)
        for b in range(3):
            labeled = sum(labels[b, n].any() for n in range(7))
            for row in range(4):
                members = [n for n in range(7) if labels[b, n, row]]
                total = sum((predictions[b, n] for n in members), np.zeros(5))
                count = len(members) if conditional else labeled
                np.testing.assert_allclose(ours[b, row], total / max(count, 1), rtol=1e-5)


def test_the_derivative_works_under_vmap_jit_and_forward_mode():
    matrices = jnp.asarray(np.random.default_rng(2).random((5, 3, 3)), jnp.float32)
    reverse = jax.jit(jax.vmap(jax.jacrev(log_singular_values)))(matrices)
    forward = jax.jit(jax.vmap(jax.jacfwd(log_singular_values)))(matrices)
    np.testing.assert_allclose(reverse, forward, rtol=1e-4, atol=1e-4)
