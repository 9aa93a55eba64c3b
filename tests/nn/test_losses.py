"""Loss terms compared with loops in NumPy, and invariance to padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtal.nn import losses

B, C, E = 4, 5, 6


def draw(seed: int, lengths, time: int) -> dict:
    """Draw random embeddings, logits, attentions and labels, with noise beyond the lengths."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((B, C)) < 0.4).astype(np.float32)
    labels[1] = labels[0]
    return {
        "embeddings": rng.normal(size=(B, time, E)).astype(np.float32),
        "cas": 3 * rng.normal(size=(B, time, C + 1)).astype(np.float32),
        "rgb": rng.random((B, time, 1)).astype(np.float32),
        "flow": rng.random((B, time, 1)).astype(np.float32),
        "labels": labels,
        "mask": np.arange(time) < np.asarray(lengths)[:, None],
    }


def all_terms(x: dict) -> dict:
    """Compute every term, reduced over the batch as methods do."""
    cas, mask, labels = x["cas"], x["mask"], x["labels"]
    suppressed = losses.suppress_cas(cas, x["rgb"])
    pairs = [
        v.reshape(B // 2, 2, *v.shape[1:]) for v in (x["embeddings"], suppressed, labels, mask)
    ]
    terms, shared = losses.co_activity(*pairs)
    per_video = {
        "mil": losses.topk_mil(cas, labels, mask, 3, 1.0),
        "mil_suppressed": losses.topk_mil(suppressed, labels, mask, 3, 0.0),
        "mil_product": losses.topk_mil(
            losses.suppress_cas(cas, x["rgb"], "product"), labels, mask, 3, 0.0
        ),
        "opposition": losses.opposition(x["rgb"], cas, mask),
        "opposition_sum": losses.opposition(x["rgb"], cas, mask, "sum"),
        "norm": losses.attention_norm(x["flow"], mask),
        "norm_sum": losses.attention_norm(x["flow"], mask, "sum"),
    }
    for metric in losses.METRICS:
        per_video[metric] = losses.mutual_learning(x["rgb"], x["flow"], mask, metric)
    result = {name: losses.mean_over_videos(v, mask) for name, v in per_video.items()}
    return {**result, "co_activity": terms.sum() / jnp.maximum(shared.sum(), 1)}


@jax.jit
def values_and_gradients(continuous: dict, fixed: dict) -> dict:
    """Compute every term and its gradient with respect to all continuous inputs."""
    terms, pull = jax.vjp(lambda c: all_terms({**c, **fixed}), continuous)
    zero = dict.fromkeys(terms, jnp.zeros(()))
    return {name: (terms[name], *pull({**zero, name: jnp.ones(())})) for name in TERMS}


def split(x: dict) -> tuple[dict, dict]:
    fixed = {name: jnp.asarray(x[name]) for name in ("labels", "mask")}
    return {name: jnp.asarray(v) for name, v in x.items() if name not in fixed}, fixed


TERMS = [
    *("mil", "mil_suppressed", "mil_product", "opposition", "opposition_sum", "norm", "norm_sum"),
    *("co_activity", *losses.METRICS),
]


def oracle(x: dict) -> dict:
    """Compute the terms by loops in float64."""
    x = {name: np.asarray(v, bool if name == "mask" else np.float64) for name, v in x.items()}
    rows = [b for b in range(B) if x["mask"][b].any()]
    length = x["mask"].sum(1)

    def softmax(v, axis):
        e = np.exp(v - v.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def mil(b, logits, background):
        k = max(1, length[b] // 3)
        pooled = np.sort(logits, axis=0)[::-1][:k].mean(0)
        target = np.append(x["labels"][b], background)
        return -(target / (target.sum() + 1e-4) * np.log(softmax(pooled, 0))).sum()

    def divergence(metric, p, q):
        if metric == "mse":
            return (p - q) ** 2
        if metric == "mae":
            return abs(p - q)
        p, q = np.clip([p, q], 1e-6, 1 - 1e-6)

        def kl(a, b):
            return a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))

        return kl(q, p) if metric == "kl" else (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2

    suppressed, out = {}, {name: [] for name in TERMS}
    for b in rows:
        cas, rgb, flow = (x[name][b, : length[b]] for name in ("cas", "rgb", "flow"))
        low = cas.min(1, keepdims=True)
        suppressed[b] = rgb * (cas - low) + low
        out["mil"].append(mil(b, cas, 1))
        out["mil_suppressed"].append(mil(b, suppressed[b], 0))
        out["mil_product"].append(mil(b, rgb * cas, 0))
        opposed = abs(1 - rgb[:, 0] - softmax(cas, 1)[:, -1])
        out["opposition"].append(opposed.mean())
        out["opposition_sum"].append(opposed.sum())
        out["norm"].append(flow.mean())
        out["norm_sum"].append(flow.sum())
        for metric in losses.METRICS:
            both = divergence(metric, rgb, flow) + divergence(metric, flow, rgb)
            out[metric].append(both.mean() / 2)
    result = {name: np.mean(values) if values else 0.0 for name, values in out.items()}
    total = count = 0.0
    for i, j in ((0, 1), (2, 3)):
        for c in np.flatnonzero(x["labels"][i] * x["labels"][j]):
            high, low = {}, {}
            for b in (i, j):
                n = length[b]
                weight = softmax(suppressed[b][:, c], 0) if n else np.zeros(0)
                features = x["embeddings"][b, :n]
                high[b] = weight @ features
                low[b] = (1 - weight) @ features / max(n - 1, 1)

            def cos(u, v):
                return u @ v / max(np.linalg.norm(u) * np.linalg.norm(v), 1e-12)

            near = cos(high[i], high[j])
            total += 0.5 * max(0, cos(high[i], low[j]) - near + 0.5)
            total += 0.5 * max(0, cos(high[j], low[i]) - near + 0.5)
            count += 1
    return {**result, "co_activity": total / max(count, 1)}


@pytest.mark.parametrize("lengths", [(9, 9, 9, 9), (9, 4, 1, 7), (9, 0, 3, 1), (0, 0, 0, 0)])
def test_terms_equal_the_loops(lengths):
    x = draw(0, lengths, 9)
    ours, wanted = all_terms({name: jnp.asarray(v) for name, v in x.items()}), oracle(x)
    for name in TERMS:
        np.testing.assert_allclose(ours[name], wanted[name], rtol=2e-5, atol=1e-6, err_msg=name)


@given(
    seed=st.integers(0, 2**20),
    lengths=st.lists(st.integers(0, 8), min_size=B, max_size=B),
    extra=st.sampled_from([1, 7, 40]),
)
def test_padding_changes_nothing(seed, lengths, extra):
    short, long = draw(seed, lengths, 8), draw(seed + 1, lengths, 8 + extra)
    for name, value in short.items():
        if value.ndim == 3:
            long[name][:, :8] = value
    long["labels"] = short["labels"]
    wanted, got = values_and_gradients(*split(short)), values_and_gradients(*split(long))
    for name in TERMS:
        (value, gradient), (padded_value, padded_gradient) = wanted[name], got[name]
        np.testing.assert_allclose(padded_value, value, atol=1e-5)
        for key, padded in padded_gradient.items():
            assert np.isfinite(padded).all()
            np.testing.assert_allclose(padded[:, :8], gradient[key], atol=1e-5)
            assert not np.any(padded[:, 8:])


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_at_the_edges(name):
    x = draw(3, (1, 0, 8, 8), 8)
    x["embeddings"][2] = 0
    x["rgb"][3], x["flow"][3] = 0, 1
    x["labels"][0] = 0
    value, gradient = values_and_gradients(*split(x))[name]
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in gradient.values())


def test_permuting_videos_permutes_the_losses():
    x = {name: jnp.asarray(v) for name, v in draw(5, (8, 3, 5, 1), 8).items()}
    order = jnp.array([2, 0, 3, 1])

    def per_video(x):
        return losses.topk_mil(x["cas"], x["labels"], x["mask"], 3, 1.0)

    np.testing.assert_allclose(
        per_video({name: v[order] for name, v in x.items()}), per_video(x)[order], rtol=1e-6
    )


def test_losses_can_be_vmapped():
    x = {name: jnp.asarray(v) for name, v in draw(6, (8, 3, 5, 1), 8).items()}
    batched = losses.topk_mil(x["cas"], x["labels"], x["mask"], 3, 1.0)
    single = jax.vmap(lambda cas, y, m: losses.topk_mil(cas, y, m, 3, 1.0))
    np.testing.assert_allclose(single(x["cas"], x["labels"], x["mask"]), batched, rtol=1e-6)


def test_mutual_learning_holds_the_target_fixed():
    rgb, flow = jnp.full((1, 2, 1), 0.8), jnp.full((1, 2, 1), 0.3)
    mask = jnp.ones((1, 2), bool)
    gradient = jax.grad(lambda f: losses.mutual_learning(rgb, f, mask, "mse", 1.0).sum())(flow)
    assert not np.any(gradient)  # alpha 1: only RGB is fitted


@pytest.mark.parametrize("round_up", [False, True])
@pytest.mark.parametrize("divisor", [1, 3, 8])
def test_topk_mean_rounds_as_the_method(divisor, round_up):
    rng = np.random.default_rng(divisor)
    sequence = rng.normal(size=(19, 18, C))
    lengths = np.arange(19)
    mask = np.arange(18) < lengths[:, None]
    ours = losses.topk_mean(jnp.asarray(sequence), jnp.asarray(mask), divisor, round_up)
    for row, length in enumerate(lengths):
        k = -(-length // divisor) if round_up else max(1, length // divisor)
        largest = np.sort(sequence[row, :length], axis=0)[::-1][:k]
        wanted = largest.mean(axis=0) if length else np.zeros(C)
        np.testing.assert_allclose(ours[row], wanted, rtol=1e-5, atol=1e-6)
