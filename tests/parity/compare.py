"""Comparisons with the golden values that hold for every network, at FIXTURES.md's tolerances."""

import numpy as np


def close(got, wanted, relative, absolute=0.0) -> None:
    """Compare with a tolerance relative to the largest entry of the whole array."""
    wanted = np.asarray(wanted)
    tolerance = relative * np.abs(wanted).max() + absolute
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=tolerance)


def features(gold: dict, ours) -> None:
    """Embeddings [B, T, E]: their norms, and a sample of their entries."""
    ours = np.asarray(ours)
    norm = np.linalg.norm(ours, axis=-1)
    np.testing.assert_allclose(norm, gold["feat_norm"], rtol=1e-4, atol=1e-5)
    sub = ours.ravel()[gold["feat_idx"]]
    np.testing.assert_allclose(sub, gold["feat_sub"], rtol=1e-4, atol=1e-5)


def gradients(gold: dict, ours: dict[str, np.ndarray]) -> None:
    """Norm of every parameter's gradient, and a sample of its entries."""
    for name, norm in zip(gold["param_names"], gold["grad_norm"], strict=True):
        np.testing.assert_allclose(np.linalg.norm(ours[name]), norm, rtol=1e-3, err_msg=name)
    for key in [key for key in gold if key.startswith("grad_sub/")]:
        name = key.removeprefix("grad_sub/")
        close(ours[name].ravel()[gold[f"sub_idx/{name}"]], gold[key], 5e-3)


def adam_steps(gold: dict, history: list[dict[str, np.ndarray]], gradient: dict) -> None:
    """Parameters before and after one and three steps, and how they moved in the first.

    Args:
        gold: the file.
        history: the parameters before the first step and after every step.
        gradient: of the first step.
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
        # Where the pull is tiny, Adam's first step is the sign of rounding noise (FIXTURES.md).
        clear = np.abs(pull.ravel()[index]) >= 1e-6
        moved = (after[name] - before[name]).ravel()[index]
        close(moved[clear], gold[key][clear], 2e-2)
