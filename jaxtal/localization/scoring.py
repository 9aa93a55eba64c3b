"""What proposals are made of, and how it follows from a model's outputs; in NumPy, float64.

A method says it as data, an `ScoreSpec`, which an exported model's file can hold: predictions from
it need none of the method's code.
"""

import dataclasses

import numpy as np

from jaxtal.errors import NonFiniteError
from jaxtal.localization import proposals

# Terms of a video's outputs by name, from its T-CAM (T, C or C + 1) and attention (T, 1).
TERMS = {
    "attention": lambda cas, attention: attention,
    "attention_of_classes": lambda cas, attention: np.broadcast_to(attention, cas.shape),
    "cas": lambda cas, attention: cas,
    "probability": lambda cas, attention: proposals.softmax(cas),
    "refined": lambda cas, attention: attention * cas,
    "refined_probability": lambda cas, attention: attention * proposals.softmax(cas),
}
PRECOMPUTED = "scores"  # class scores that are an output themselves


@dataclasses.dataclass(frozen=True)
class ScoreSpec:
    """How sequence, gate and class scores follow from the outputs of one video.

    Attributes:
        sequence: the term (`TERMS`) that proposals are scored by.
        gate: the term that the thresholds apply to.
        activation: the term that is drawn, in 0 to 1.
        scores: the term whose max(1, floor(T / topk_divisor)) largest entries over time, averaged,
            are the class scores; or `PRECOMPUTED`, the output "scores" (1, C or C + 1).
        topk_divisor: see `scores`.
        softmax: the averages go through a softmax over all columns.
        relative_attention: the attention is taken relative to half of its largest value.
        background: the last column of T-CAM and scores is the background's, and is cut off.
    """

    sequence: str
    gate: str
    activation: str
    scores: str
    topk_divisor: int = 10
    softmax: bool = False
    relative_attention: bool = False
    background: bool = True

    def __post_init__(self):
        """Raise ValueError for terms that there are not, and numbers that cannot be."""
        for field in ("sequence", "gate", "activation", "scores"):
            known = [*TERMS, PRECOMPUTED] if field == "scores" else [*TERMS]
            if getattr(self, field) not in known:
                raise ValueError(f"{field} is {getattr(self, field)!r}, none of {', '.join(known)}")
        if not isinstance(self.topk_divisor, int) or self.topk_divisor < 1:
            raise ValueError(f"topk_divisor is {self.topk_divisor!r}, no whole number above 0")

    def compute(self, outputs: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute sequence (T, C) or (T, 1), gate (the same) and class scores (C,).

        They are what `proposals.generate_proposals` takes.

        Args:
            outputs: {name: (T, n)} of one video; an attention that no term needs may be missing.
        """
        terms = self._terms(outputs, {self.sequence, self.gate, self.scores} - {PRECOMPUTED})
        sequence, gate = self._cut(terms[self.sequence]), self._cut(terms[self.gate])
        if self.scores == PRECOMPUTED:
            return sequence, gate, self._cut(np.asarray(outputs[PRECOMPUTED], np.float64))[0]
        pooled = terms[self.scores]
        pooled = proposals.topk_mean(pooled, max(1, len(pooled) // self.topk_divisor))
        return sequence, gate, self._cut(proposals.softmax(pooled) if self.softmax else pooled)

    def activations(self, outputs: dict) -> np.ndarray:
        """(T, C) in 0 to 1, how active each class is, for pictures."""
        return self._cut(self._terms(outputs, {self.activation})[self.activation])

    def _terms(self, outputs: dict, names: set[str]) -> dict[str, np.ndarray]:
        cas = np.asarray(outputs["cas"], np.float64)
        attention = np.asarray(outputs.get("attention", np.ones((len(cas), 1))), np.float64)
        if self.relative_attention:
            attention = 2 * attention / max(attention.max(), 1e-8)
        return {name: TERMS[name](cas, attention) for name in names}

    def _cut(self, columns: np.ndarray) -> np.ndarray:
        """Without the background's column; an attention that all classes share has none."""
        shared = columns.ndim == 2 and columns.shape[1] == 1
        return columns[..., :-1] if self.background and not shared else columns


def check_finite(outputs: dict, names, video: str) -> None:
    """Raise NonFiniteError if one of the outputs `names` of `video` has a number that is none."""
    for name in names:
        if not np.isfinite(outputs[name]).all():
            raise NonFiniteError(
                f"the model's {name} of {video} is not finite: training has diverged; lower "
                "config.optimizer.learning_rate and train again"
            )
