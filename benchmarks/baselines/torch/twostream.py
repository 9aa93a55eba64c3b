"""Two-stream network in PyTorch (Wang, Li and Wang 2023) after its warm-up.

Equations: docs/methods/twostream.md.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.torch.layers import (
    Convolution,
    Network,
    opposition,
    top_mean,
    with_background,
)

SUPPORTED = {
    "model.embedding": "residual",
    "model.attention": "softmax",
    "model.branches": "both",
    "model.share_fc": False,
    "loss.fusion": "scores",
    "loss.label_norm": True,
    "loss.guide_reduction": "mean",
    "loss.guide_stop_attention": False,
    "loss.warmup": "loss_ramp",
}


class TwoStream(Network):
    """Network, semantic dictionary and losses for batches without padding."""

    def __init__(self, config, num_classes: int, width: int, conv: Convolution):
        super().__init__()
        self.dropout = float(config.model.dropout)
        self.divisors = tuple(config.model.topk_divisors)
        self.arrange, self.channels, self.dense = conv.arrange, conv.channels, conv.dense
        self.conv, self.att = conv(width, width, 3), conv(width, 3)
        self.cls, self.mil = conv(width, num_classes + 1), conv(width, num_classes + 1)
        self.dictionary = nn.Parameter(torch.rand(num_classes + 1, width))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Run on a batch [B, T, 2D].

        Returns:
            embeddings [B, T, 2D] in the convolutions' arrangement, attention [B, T, 3], logits
            [B, T, C + 1], and by_attention [B, 3, C + 1], the attention branch's probabilities.
        """
        features = self.arrange(features).contiguous()
        x = features + F.relu(self.conv(features))
        attention = self.arrange(self.att(x).softmax(self.channels))
        logits = self.arrange(self.mil(F.dropout(x, self.dropout, self.training)))
        pooled = attention.transpose(1, 2) @ self.arrange(x)
        pooled = pooled / (attention.sum(1)[..., None] + 1e-8)  # eq. 1
        by_attention = self.arrange(self.cls(self.arrange(pooled))).softmax(-1)
        return {
            "embeddings": x,
            "attention": attention,
            "logits": logits,
            "by_attention": by_attention,
        }

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the unweighted loss terms from features [B, T, 2D] and labels [B, C]."""
        outputs = self(features)
        attention, logits = outputs["attention"], outputs["logits"]
        z = [attention[..., r : r + 1] * logits for r in range(3)]  # eq. 2
        time = features.shape[1]
        by_mil = [
            top_mean(cas, max(1, time // divisor))
            for cas, divisor in zip(z, self.divisors, strict=True)
        ]
        scores = (outputs["by_attention"] + torch.stack(by_mil, dim=1).softmax(-1)) / 2
        foreground, context, background = scores.unbind(1)
        return {
            "foreground": cross_entropy(foreground, with_background(labels, 0.0)),
            "context": cross_entropy(context, with_background(labels, 1.0)),
            "background": cross_entropy(background, with_background(0 * labels, 1.0)),
            "guide": opposition(attention[..., :1], z[0]),
            "semantic": self._distance(outputs["embeddings"], logits),
        }

    def _distance(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        """Mean distance of snippets from the centroid of their predicted class (eq. 6)."""
        # A product with one-hot columns costs no more than F.embedding, whose compiled gradient
        # overruns its memory in this layout (PyTorch 2.13 on a CPU).
        nearest = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        centroid = self.dense(self.arrange(nearest), self.dictionary.T)
        return ((embeddings - centroid).square().sum(self.channels) + 1e-12).sqrt().mean()


def cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Compute the cross-entropy of probabilities [B, C + 1] with normalized targets (eq. 5).

    Args:
        probability: [B, C + 1], background last; clamped at 1e-8.
        target: [B, C + 1] multi-hot; divided by its sum.
    """
    target = target / target.sum(-1, keepdim=True).clamp(min=1)
    return -(target * probability.clamp(min=1e-8).log()).sum(-1).mean()
