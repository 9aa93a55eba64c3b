"""Comparisons with golden values; the tolerances are listed in docs/develop/golden_values.md."""

import numpy as np

from jaxtal.data.segments import Segments

# The gradient of a parameter can be a sum of terms that nearly cancel. Its norm then has the
# rounding error of the terms: an absolute one. Measured on the two-stream network: up to 5e-8.
SMALL_NORM = 1e-3
ROUNDING_OF_A_SMALL_NORM = 1e-7


def close(got, wanted, relative, absolute=0.0) -> None:
    """Compare with a tolerance relative to the largest entry of the whole array."""
    wanted = np.asarray(wanted)
    tolerance = relative * np.abs(wanted).max() + absolute
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=tolerance)


def gradient_norm(got: float, wanted: float, relative: float, name: str = "") -> None:
    """Compare norms: with a relative tolerance, below SMALL_NORM with an absolute one."""
    tolerance = relative * wanted
    if wanted < SMALL_NORM:
        tolerance = max(relative * SMALL_NORM, ROUNDING_OF_A_SMALL_NORM)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)


def features(gold: dict, ours) -> None:
    """Compare embeddings [B, T, E]: their norms, and a sample of their entries."""
    ours = np.asarray(ours)
    norm = np.linalg.norm(ours, axis=-1)
    np.testing.assert_allclose(norm, gold["feat_norm"], rtol=1e-4, atol=1e-5)
    sub = ours.ravel()[gold["feat_idx"]]
    np.testing.assert_allclose(sub, gold["feat_sub"], rtol=1e-4, atol=1e-5)


def gradients(gold: dict, ours: dict[str, np.ndarray]) -> None:
    """Compare the norm of every parameter's gradient, and a sample of its entries."""
    for name, norm in zip(gold["param_names"], gold["grad_norm"], strict=True):
        gradient_norm(np.linalg.norm(ours[name]), norm, 1e-3, name)
    for key in [key for key in gold if key.startswith("grad_sub/")]:
        name = key.removeprefix("grad_sub/")
        close(ours[name].ravel()[gold[f"sub_idx/{name}"]], gold[key], 5e-3)


def adam_steps(gold: dict, history: list[dict[str, np.ndarray]], gradient: dict) -> None:
    """Compare the parameters after one and three Adam steps, and the change by the first.

    Args:
        gold: the arrays of the file.
        history: the parameters before the first step and after every step.
        gradient: the gradient of the first step.
    """
    before, after = history[0], history[1]
    decay = float(gold["cfg_wd"])
    for index, name in enumerate(gold["param_names"]):
        for column, step in (("before", 0), ("after1", 1), ("after3", 3)):
            norm = np.linalg.norm(history[step][name])
            np.testing.assert_allclose(norm, gold[f"param_norm_{column}"][index], rtol=1e-6)
        moved = np.linalg.norm(after[name] - before[name])
        np.testing.assert_allclose(moved, gold["delta_norm_after1"][index], rtol=1e-3)
    for key in [key for key in gold if key.startswith("delta_sub_after1/")]:
        name = key.removeprefix("delta_sub_after1/")
        index = gold[f"sub_idx/{name}"]
        pull = gradient[name] + decay * before[name]
        # Adam's first step is the sign of the pull, which is rounding noise where it is tiny.
        clear = np.abs(pull.ravel()[index]) >= 1e-6
        moved = (after[name] - before[name]).ravel()[index]
        close(moved[clear], gold[key][clear], 2e-2)


def undecided_by_nms(proposals: Segments, threshold: float, margin: float = 1e-9) -> np.ndarray:
    """Select the proposals that hard NMS keeps or drops depending on a tie.

    A t-IoU that equals the threshold is a tie: rounding decides whether the weaker proposal is
    dropped, and with it every decision that depends on that proposal.

    Args:
        proposals: of one video; NMS acts within a class, the best score first, and a length is
            end - start.
        threshold: t-IoU from which the weaker of two proposals is dropped.
        margin: largest distance of a t-IoU from the threshold that is a tie.

    Returns:
        (n,) bool: the proposal is kept under some decisions of the ties and dropped under others.
    """
    kept, undecided = np.zeros((2, len(proposals)), bool)
    length = proposals.end - proposals.start
    for index in np.argsort(-proposals.score, kind="stable"):
        start, end = proposals.start[index], proposals.end[index]
        shared = np.minimum(proposals.end, end) - np.maximum(proposals.start, start)
        iou = np.maximum(shared, 0) / (length + length[index] - np.maximum(shared, 0))
        iou[proposals.label != proposals.label[index]] = 0
        if (iou[kept] > threshold + margin).any():
            continue
        undecided[index] = (iou[kept | undecided] >= threshold - margin).any()
        kept[index] = not undecided[index]
    return undecided


def rows_apart_from(rows: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return the rows (n, k) that equal none of `left_out` (m, k) within 1e-9, in their order."""
    equal = np.abs(rows[:, None] - left_out[None]) <= 1e-9
    return rows[~equal.all(axis=2).any(axis=1)]
