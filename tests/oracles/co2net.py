"""Oracle of CO2-Net's network and its variants: plain NumPy loops in float64.

It is written from the equations of docs/methods/co2net.md alone. A video is given as its T valid
snippets, without padding, mask and dropout. Parameters have the names of `CO2Net`'s, with kernels
(taps, in, out).
"""

import numpy as np


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x)


def relu(x):
    return np.where(x > 0, x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def conv(x, layer):
    """Temporal convolution, x (T, I) to (T, O), snippet by snippet and tap by tap."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    out = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for tap in range(len(kernel)):
            u = t + tap - len(kernel) // 2
            if 0 <= u < len(x):
                out[t] += x[u] @ kernel[tap]
    return out


def mean(x):
    """Mean over time, (T, D) to (1, D)."""
    return sum(x)[None] / len(x)


def attention_unit(x, p):
    hidden = lrelu(conv(lrelu(conv(x, p["att0"])), p["att1"]))
    return sigmoid(conv(hidden, p["att2"]))


def consensus(main, auxiliary, p, ccm_main, ccm_auxiliary, ccm_dropout):
    """Enhanced features of the main modality (T, D), from M = F1(main) * F2(auxiliary)."""
    first = {
        "global": lambda: conv(mean(main), p["global"]),
        "local": lambda: conv(main, p["local_main"]),
    }[ccm_main]()
    second = {
        "global": lambda: conv(mean(auxiliary), p["global_auxiliary"]),
        "local": lambda: conv(auxiliary, p["local"]),
    }[ccm_auxiliary]()
    if ccm_dropout == "code":
        first, second = lrelu(first), lrelu(second)
    return sigmoid(first * second) * main


def squeeze_excitation(x, p):
    return x * sigmoid(conv(relu(conv(mean(x), p["squeeze"])), p["excite"]))


def pool(x, window):
    """Moving average of the ActivityNet variant: zeros outside of the video, divisor `window`."""
    reach = window // 2
    return np.stack([sum(x[max(0, t - reach) : t + reach + 1]) / window for t in range(len(x))])


def classify(p, joined, classifier):
    """T-CAM and embeddings of the enhanced features."""
    if classifier == "code":
        embeddings = lrelu(conv(joined, p["fusion"]))
        return conv(lrelu(conv(embeddings, p["cls0"])), p["cls1"]), embeddings
    hidden = lrelu(conv(lrelu(conv(joined, p["cls0"])), p["cls1"]))
    return conv(hidden, p["cls2"]), joined


def one_stream(p, x, classifier, kinds, fusion, pool_window):
    """Self-consensus: the stream is its own auxiliary (docs/methods/one_stream.md)."""
    own = p[f"{fusion}_stream"]
    if fusion == "ccm":
        x = consensus(x, x, own, *kinds)
    if fusion == "se":
        x = squeeze_excitation(x, own)
    cas, embeddings = classify(p, x, classifier)
    return {
        "cas": pool(cas, pool_window),
        "attention": pool(attention_unit(x, own["attention"]), pool_window),
        "embeddings": embeddings,
        "enhanced": x,
    }


def network(
    p: dict,
    x: np.ndarray,
    *,
    classifier="code",
    ccm_dropout="code",
    ccm_main="global",
    ccm_auxiliary="local",
    fusion="ccm",
    pool_window=1,
    widths=(),
    **_,
) -> dict[str, np.ndarray]:
    """Compute cas (T, C + 1), attentions (T, 1), embeddings and E (T, 2D) of a video (T, 2D)."""
    if fusion == "ssma":
        hidden = relu(conv(x, p["ssma"]["squeeze"]))
        x = sigmoid(conv(hidden, p["ssma"]["excite"])) * x
    if len(widths) == 1:
        return one_stream(p, x, classifier, (ccm_main, ccm_auxiliary, ccm_dropout), fusion,
                          pool_window)  # fmt: skip
    width = widths[0] if widths else x.shape[1] // 2
    rgb, flow = x[:, :width], x[:, width:]
    of_rgb, of_flow = p[f"{fusion}_rgb"], p[f"{fusion}_flow"]
    if fusion == "ccm":
        kinds = ccm_main, ccm_auxiliary, ccm_dropout
        rgb, flow = consensus(rgb, flow, of_rgb, *kinds), consensus(flow, rgb, of_flow, *kinds)
    if fusion == "se":
        rgb, flow = squeeze_excitation(rgb, of_rgb), squeeze_excitation(flow, of_flow)
    attention_rgb = attention_unit(rgb, of_rgb["attention"])
    attention_flow = attention_unit(flow, of_flow["attention"])

    joined = rgb + flow if fusion == "add" else np.concatenate([rgb, flow], axis=1)
    cas, embeddings = classify(p, joined, classifier)
    return {
        "cas": pool(cas, pool_window),
        "attention": pool((attention_rgb + attention_flow) / 2, pool_window),
        "attention_rgb": pool(attention_rgb, pool_window),
        "attention_flow": pool(attention_flow, pool_window),
        "embeddings": embeddings,  # not pooled, as L_cas uses them
        "enhanced": np.concatenate([rgb, flow], axis=1),
    }
