"""Mapping from a model's outputs to sequence, gate and class scores; in NumPy, float64.

A method declares it as data, a `ScoreSpec`, which is stored in the file of an exported model, so
that predictions do not need the method's code.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxtal.errors import NonFiniteError
from jaxtal.localization import proposals


def _share_of_range(cas: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Scale each class over time to 0 to 1 (W-TALC)."""
    low = cas.min(axis=0)
    return (cas - low) / _or_one(cas.max(axis=0) - low)


def _share_of_maximum(cas: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Scale each class over time to 0 to 1, with negative values as 0 (BaS-Net)."""
    return _share_of_range(np.maximum(cas, 0), attention)


def _or_one(width: np.ndarray) -> np.ndarray:
    return np.where(width > 0, width, 1)


# Terms by name, functions of a video's T-CAM (T, C or C + 1) and attention (T, 1).
TERMS = {
    "attention": lambda cas, attention: attention,
    "attention_of_classes": lambda cas, attention: np.broadcast_to(attention, cas.shape),
    "cas": lambda cas, attention: cas,
    "probability": lambda cas, attention: proposals.softmax(cas),
    "refined": lambda cas, attention: attention * cas,
    "refined_probability": lambda cas, attention: attention * proposals.softmax(cas),
    "share_of_range": _share_of_range,
    "share_of_maximum": _share_of_maximum,
}
PRECOMPUTED = "scores"  # class scores that are an output of the model


@dataclasses.dataclass(frozen=True)
class ScoreSpec:
    """Declarative mapping from a video's outputs to sequence, gate and class scores.

    Source: [docs][localization-scores].

    Attributes:
        sequence: the term (a key of `TERMS`) that scores the proposals.
        gate: the term that the thresholds apply to.
        activation: the term that plots show, in 0 to 1.
        scores: the term whose max(1, floor(T / topk_divisor)) largest entries over time are
            averaged to the class scores; or `PRECOMPUTED`, the output "scores" (1, C or C + 1).
        topk_divisor: see `scores`.
        round_up: average the ceil(T / topk_divisor) largest entries instead.
        softmax: apply a softmax over all columns to the averages.
        relative_attention: divide the attention by half of its maximum in the video.
        background: drop the last column of T-CAM and scores, the background class.
    """

    sequence: str
    gate: str
    activation: str
    scores: str
    topk_divisor: int = 10
    softmax: bool = False
    relative_attention: bool = False
    background: bool = True
    round_up: bool = False

    def __post_init__(self):
        """Raise ValueError for unknown terms and values out of range."""
        for field in ("sequence", "gate", "activation", "scores"):
            known = [*TERMS, PRECOMPUTED] if field == "scores" else [*TERMS]
            if getattr(self, field) not in known:
                raise ValueError(
                    f"{field} is {getattr(self, field)!r}; wanted one of {', '.join(known)}"
                )
        if not isinstance(self.topk_divisor, int) or self.topk_divisor < 1:
            raise ValueError(f"topk_divisor is {self.topk_divisor!r}; wanted an int > 0")

    def compute(self, outputs: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the arguments of `proposals.generate_proposals`.

        Args:
            outputs: {name: (T, n)} of one video; the attention may be missing if no term uses it.

        Returns:
            Sequence and gate, each (T, C) or (T, 1), and class scores (C,), all float64.
        """
        terms = self._terms(outputs, {self.sequence, self.gate, self.scores} - {PRECOMPUTED})
        sequence, gate = self._cut(terms[self.sequence]), self._cut(terms[self.gate])
        if self.scores == PRECOMPUTED:
            return sequence, gate, self._cut(np.asarray(outputs[PRECOMPUTED], np.float64))[0]
        pooled = terms[self.scores]
        extra = self.topk_divisor - 1 if self.round_up else 0
        pooled = proposals.topk_mean(pooled, max(1, (len(pooled) + extra) // self.topk_divisor))
        return sequence, gate, self._cut(proposals.softmax(pooled) if self.softmax else pooled)

    def activations(self, outputs: dict) -> np.ndarray:
        """Compute the activation of each class for plots.

        Args:
            outputs: {name: (T, n)} of one video.

        Returns:
            (T, C) float64, from 0 to 1.
        """
        return self._cut(self._terms(outputs, {self.activation})[self.activation])

    def _terms(self, outputs: dict, names: set[str]) -> dict[str, np.ndarray]:
        cas = np.asarray(outputs["cas"], np.float64)
        attention = np.asarray(outputs.get("attention", np.ones((len(cas), 1))), np.float64)
        if self.relative_attention:
            attention = 2 * attention / max(attention.max(), 1e-8)
        return {name: TERMS[name](cas, attention) for name in names}

    def _cut(self, columns: np.ndarray) -> np.ndarray:
        """Drop the background's column; an attention that all classes share has none."""
        shared = columns.ndim == 2 and columns.shape[1] == 1
        return columns[..., :-1] if self.background and not shared else columns


def check_finite(outputs: dict, names: Iterable[str], video: str) -> None:
    """Check that a model's outputs for a video are finite.

    Args:
        outputs: {name: array} of the video.
        names: the outputs to check.
        video: the video's name, for the message.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    for name in names:
        if not np.isfinite(outputs[name]).all():
            raise NonFiniteError(
                f"the model's {name} of {video} is not finite: training has diverged; lower "
                "config.optimizer.learning_rate and train again"
            )
