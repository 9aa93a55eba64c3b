"""Oracle of the two-stream network in plain NumPy loops and float64.

Written from the specification alone (docs/methods/twostream.md). Each video comes alone, as its L
valid snippets: no padding, no mask, no dropout. I = 2D is the input width, C the number of classes,
column C the background; the three attentions are always in the order fg, ct, bg.
"""

import numpy as np


def softmax(v):
    """Compute the softmax of one vector (n,)."""
    e = np.exp(v - np.max(v))
    return e / np.sum(e)


def sigmoid(v):
    """Compute the logistic function of one vector (n,)."""
    return 1 / (1 + np.exp(-v))


def meantop(z, divisor):
    """Average the k largest along time, z (L, C+1) -> (C+1,), k = max(L // divisor, 1)."""
    k = max(len(z) // divisor, 1)
    return np.array([sum(sorted(z[:, c], reverse=True)[:k]) / k for c in range(z.shape[1])])


def embed(f, w, b, embedding):
    """Embed f (L, I) by w (3, I, I), [tap, input, output], and b (I,): x (L, I)."""
    x = np.zeros((len(f), w.shape[2]))
    for t in range(len(f)):
        h = b.copy()
        for tap in range(3):
            u = t + tap - 1
            if 0 <= u < len(f):  # zero padding
                h += f[u] @ w[tap]
        h = np.maximum(h, 0)
        x[t] = {"residual": f[t] + h, "plain": h}[embedding]
    return x


def network(
    params: dict,
    f,
    *,
    embedding="residual",
    attention="softmax",
    share_fc=False,
    branches="both",
    divisors=(8, 2, 2),
) -> dict:
    """Run the network on one video f (L, I) (eq. 1 to 4).

    params: conv_w (3, I, I) [tap, input, output], conv_b, att_w (I, 3), att_b, cls_w (I, C+1),
    cls_b, mil_w (I, C+1), mil_b, Q (C+1, I).
    Returns x (L, I), a (L, 3), p (L, C+1), z three of (L, C+1), y_att, y_mil and y each (3, C+1),
    s_fg (L, C+1) and distance (L,), that of x_t from the centroid of its class (eq. 6).
    """
    f = np.asarray(f, np.float64)
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    gate = {"softmax": softmax, "sigmoid": sigmoid}[attention]
    mil = "cls" if share_fc else "mil"
    length, width = len(f), params["Q"].shape[0]

    x = embed(f, params["conv_w"], params["conv_b"], embedding)
    a, p, distance = np.zeros((length, 3)), np.zeros((length, width)), np.zeros(length)
    for t in range(length):
        a[t] = gate(x[t] @ params["att_w"] + params["att_b"])
        p[t] = x[t] @ params[mil + "_w"] + params[mil + "_b"]
        centroid = params["Q"][np.argmax(p[t])]  # over all C+1; the first of equals
        distance[t] = np.sqrt(np.sum((x[t] - centroid) ** 2) + 1e-12)

    z = []
    y_att, y_mil = np.zeros((3, width)), np.zeros((3, width))
    for r in range(3):
        x_r = sum(a[t, r] * x[t] for t in range(length)) / (sum(a[:, r]) + 1e-8)
        y_att[r] = softmax(x_r @ params["cls_w"] + params["cls_b"])
        z.append(np.array([a[t, r] * p[t] for t in range(length)]))
        y_mil[r] = softmax(meantop(z[r], divisors[r]))
    y = {"both": (y_att + y_mil) / 2, "attention": y_att, "mil": y_mil}[branches]

    s_fg = np.array([softmax(z_t) for z_t in z[0]])
    out = {"x": x, "a": a, "p": p, "z": z, "s_fg": s_fg, "distance": distance}
    return out | {"y_att": y_att, "y_mil": y_mil, "y": y}


def video_losses(
    out: dict, y, *, label_norm=True, guide_reduction="mean", guide_background="softmax_of_product"
) -> dict:
    """Compute the five unweighted terms of one video (eq. 5 to 7).

    out: the result of `network`; y (C,) multi-hot. A video without labels has an empty foreground
    target, and foreground loss 0.
    """
    y = np.asarray(y, np.float64)
    targets = {
        "foreground": np.append(y, 0.0),
        "context": np.append(y, 1.0),
        "background": np.append(np.zeros(len(y)), 1.0),
    }
    losses = {}
    for r, (name, target) in enumerate(targets.items()):
        if label_norm and np.sum(target) > 0:
            target = target / np.sum(target)
        losses[name] = 0.0
        for c in range(len(target)):
            losses[name] -= target[c] * np.log(max(out["y"][r, c], 1e-8))

    length = len(out["x"])
    losses["semantic"] = sum(out["distance"]) / length
    guide = 0.0
    for t in range(length):
        a, p = out["a"][t, 0], out["p"][t]
        readings = {
            "softmax_of_product": softmax(a * p)[-1],
            "product_of_softmax": a * softmax(p)[-1],
            "softmax": softmax(p)[-1],
            "product": a * p[-1],
        }
        guide += abs(1 - a - readings[guide_background])
    losses["guide"] = guide / {"mean": length, "sum": 1}[guide_reduction]
    return losses


def upsampled(v, factor):
    """Interpolate v (T',) at positions 0, 1/factor, 2/factor, ...: (factor*T',)."""
    values = np.zeros(factor * len(v))
    for j in range(len(values)):
        i = min(j // factor, len(v) - 2)  # from T'-1 on the last slope continues
        w = (j - factor * i) / factor
        values[j] = (1 - w) * v[i] + w * v[i + 1]
    return values


def runs(active):
    """Find the maximal runs of a list of bool, as (first, last), both inclusive."""
    found, first = [], None
    for j in range(len(active) + 1):
        if j < len(active) and active[j]:
            first = j if first is None else first
        elif first is not None:
            found.append((first, j - 1))
            first = None
    return found


def contrast(v, first, last):
    """Subtract the outer from the inner mean of v (n,), for the run first..last (eq. 9)."""
    n = last - first + 1
    left = range(max(0, first - (n + 4) // 5), first)  # ceil(n/5)
    right = range(last + 1, min(len(v) - 1, last + n // 5) + 1)
    outer = [v[j] for j in [*left, *right]]
    return np.mean(v[first : last + 1]) - (np.mean(outer) if outer else 0.0)


def iou(a, b):
    """Compute the IoU of two half-open rows [first, stop, score], exact in whole positions."""
    both = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return both / ((a[1] - a[0]) + (b[1] - b[0]) - both)


def localize(s, y, length, thresholds, *, alpha=0.1, beta=0.2, upsample=20, nms=0.5) -> list:
    """Localize actions from s (T', C+1), T' > 1, and y (C+1,) of a video of `length` snippets.

    Returns rows [class, start seconds, end seconds, score], classes ascending, each best first.
    """
    seconds = 16 * length / (25 * upsample * len(s))
    actions = range(len(y) - 1)
    classes = [c for c in actions if y[c] > alpha] or [int(np.argmax(y[:-1]))]
    rows = []
    for c in classes:
        v = upsampled(s[:, c], upsample)
        rest = []
        for eta in thresholds:
            for first, last in runs([value >= eta for value in v]):
                if last > first:
                    rest.append([first, last + 1, contrast(v, first, last) + beta * y[c]])
        while rest:
            best = max(rest, key=lambda row: row[2])  # the first of equals: lowest threshold
            rows.append([c, best[0] * seconds, best[1] * seconds, best[2]])
            rest = [row for row in rest if row is not best and iou(row, best) < nms]
    return rows


def class_means(videos):
    """Average the snippets of each class over a list of (features (L, 2D), labels (C,))."""
    features, labels = videos[0]
    means = np.full((len(labels), features.shape[1]), np.nan)
    for c in range(len(labels)):
        snippets = [row for features, labels in videos if labels[c] for row in features]
        if snippets:
            means[c] = np.mean(np.array(snippets, np.float64), axis=0)
    return means


def test_indices(length, count):
    """Return the snippets of a test video of `length` snippets, T = count."""
    if length == 1:
        return [0, 0]
    if length <= count:
        return list(range(length))
    return [i * length // count for i in range(count)]


test_indices.__test__ = False  # keeps pytest from collecting it where it is imported by name
