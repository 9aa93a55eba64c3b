"""Oracles of W-TALC, BaS-Net and ACM-Net in plain NumPy loops and float64.

Written from the specification alone (docs/methods/baselines.md). Each video comes alone, as its L
valid snippets: no padding, no mask, no dropout.
"""

import numpy as np

from tests.oracles.twostream import meantop, sigmoid, softmax


def conv(f, kernel, bias, slope=None):
    """Convolve f (L, I) with kernel (k, I, O) over time; then max(h, slope * h) unless None."""
    taps = len(kernel)
    out = np.zeros((len(f), kernel.shape[2]))
    for t in range(len(f)):
        h = bias.copy()
        for tap in range(taps):
            u = t + tap - taps // 2
            if 0 <= u < len(f):  # zero padding
                h += f[u] @ kernel[tap]
        out[t] = h if slope is None else np.where(h > 0, h, slope * h)
    return out


def largest(z, k):
    """Average the k largest of z (L, n) along time, each column by itself."""
    return np.array([sum(sorted(z[:, c], reverse=True)[:k]) / k for c in range(z.shape[1])])


def wtalc(params, f):
    """Run W-TALC's network on f (L, I): embeddings (L, I) and T-CAM (L, C)."""
    x = conv(f, *params["embedding"], slope=0)
    return {"embeddings": x, "cas": conv(x, *params["classifier"])}


def wtalc_mil(out, y):
    """Compute the MIL loss of one video with labels y (C,)."""
    cas = out["cas"]
    p = softmax(largest(cas, -(-len(cas) // 8)))
    return -sum(y[c] / sum(y) * np.log(p[c]) for c in range(len(y)) if y[c])


def wtalc_similarity(one, two, y_one, y_two):
    """Compute the co-activity loss of two videos, a list with one term per shared class."""
    terms = []
    for c in range(len(y_one)):
        if not (y_one[c] and y_two[c]):
            continue
        high, low = [], []
        for out in (one, two):
            weight = softmax(out["cas"][:, c])
            rest = max(len(weight) - 1, 1)
            high.append(sum(w * x for w, x in zip(weight, out["embeddings"], strict=True)))
            low.append(
                sum((1 - w) / rest * x for w, x in zip(weight, out["embeddings"], strict=True))
            )

        def distance(a, b):
            return 1 - a @ b / np.sqrt(max((a @ a) * (b @ b), 1e-24))

        near = distance(high[0], high[1])
        far = distance(high[0], low[1]), distance(high[1], low[0])
        terms.append(sum(max(near - other + 0.5, 0) / 2 for other in far))
    return terms


def wtalc_detections(cas):
    """Localize one video: (class, start, end, score) of each proposal."""
    found = []
    score = largest(cas, max(1, len(cas) // 8))
    for c in np.flatnonzero(score > 0):
        s = cas[:, c]
        active = [*(s > max(s) - 0.5 * (max(s) - min(s))), False]
        begin = None
        for t, on in enumerate(active):
            if on and begin is None:
                begin = t
            elif not on and begin is not None:
                if t - begin >= 2:
                    found.append((c, begin, t, max(s[begin:t]) + 0.7 * score[c]))
                begin = None
    return found


def basnet(params, f):
    """Run BaS-Net's network on f (L, I): attention (L, 1), T-CAMs (L, C + 1)."""
    hidden = conv(f, *params["filter0"], slope=0.01)
    attention = sigmoid(conv(hidden, *params["filter1"]))

    def classify(x):
        for name in ("conv0", "conv1"):
            x = conv(x, *params[name], slope=0.01)
        return x @ params["conv2"]

    return {"attention": attention, "cas_base": classify(f), "cas": classify(attention * f)}


def basnet_losses(out, y):
    """Compute the three unweighted terms of one video with labels y (C,)."""
    losses = {"norm": np.sum(out["attention"])}
    for name, output, background in (("base", "cas_base", 1), ("suppression", "cas", 0)):
        p = softmax(meantop(out[output], 8))
        target = np.append(y, background)
        target = target / max(sum(target), 1)
        terms = [t * np.log(q) + (1 - t) * np.log(1 - q) for t, q in zip(target, p, strict=True)]
        losses[name] = -sum(terms) / len(terms)
    return losses


def acmnet(params, f, divisors):
    """Run ACM-Net's network on f (L, I)."""
    x = conv(f, *params["embedding"], slope=0)
    attention = np.array([softmax(a) for a in conv(x, *params["attention"])])
    logits = conv(x, *params["classifier"])
    scores, norms = [], []
    for r, divisor in enumerate(divisors):
        scores.append(softmax(meantop(attention[:, r : r + 1] * logits, divisor)))
        k = max(1, len(f) // divisor)
        best = sorted(range(len(f)), key=lambda t: -attention[t, r])[:k]
        norms.append(np.sqrt(sum(np.mean(x[best], axis=0) ** 2) + 1e-12))
    return {
        "embeddings": x,
        "a": attention,
        "cas": attention[:, :1] * logits,
        "scores": np.array(scores),
        "norms": np.array(norms),
    }


def acmnet_losses(out, y, margin):
    """Compute the six unweighted terms of one video with labels y (C,)."""
    targets = {
        "foreground": np.append(y, 0),
        "context": np.append(y, 1),
        "background": np.append(0 * y, 1),
    }
    losses = {}
    for scores, (name, target) in zip(out["scores"], targets.items(), strict=True):
        losses[name] = -sum(target * np.log(np.maximum(scores, 1e-8))) / max(sum(target), 1)
    losses["guide"] = sum(
        abs(1 - a[0] - softmax(z)[-1]) for a, z in zip(out["a"], out["cas"], strict=True)
    )
    instance, context, background = out["norms"]
    losses["separation"] = (
        max(margin - instance + context, 0) + max(margin - context + background, 0) + background
    ) ** 2
    losses["sparsity"] = np.sum(out["a"][:, :2])
    return losses
