"""CO2-Net in PyTorch as in the published code (Hong et al. 2021); docs/methods/co2net.md."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.torch.layers import (
    Convolution,
    Network,
    leaky_relu,
    opposition,
    top_mean,
    with_background,
)

SUPPORTED = {
    "model.attention_unit": "code",
    "model.classifier": "code",
    "model.ccm_dropout": "code",
    "model.pool_window": 1,
    "loss.suppression": "min_shift",
    "loss.mutual_metric": "mse",
    "loss.opposition_reduction": "mean",
    "loss.norm_reduction": "mean",
}


class AttentionUnit(nn.Module):
    """Attention of one modality from its enhanced features, D channels to 1 (eq. 4)."""

    def __init__(self, width: int, conv: Convolution):
        super().__init__()
        half = max(1, width // 2)
        self.att0, self.att1 = conv(width, half, 3), conv(half, half, 3)
        self.att2 = conv(half, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the attention from enhanced features, in the convolutions' arrangement."""
        hidden = F.dropout(leaky_relu(self.att0(x)), 0.5, self.training)
        hidden = leaky_relu(self.att1(hidden))
        return F.dropout(self.att2(hidden), 0.5, self.training).sigmoid()


class CrossModalConsensus(nn.Module):
    """Cross-modal consensus module and attention unit of a modality of D channels (eq. 1 to 4)."""

    def __init__(self, width: int, conv: Convolution):
        super().__init__()
        self.time = 3 - conv.channels
        self.global_, self.local = conv(width, width), conv(width, width, 3)
        self.attention = AttentionUnit(width, conv)

    def forward(self, main: Tensor, auxiliary: Tensor) -> tuple[Tensor, Tensor]:
        """Compute attention and enhanced features of the main modality."""
        context = leaky_relu(self.global_(main.mean(self.time, keepdim=True)))
        local = leaky_relu(self.local(auxiliary))
        context, local = (F.dropout(x, 0.5, self.training) for x in (context, local))
        enhanced = (local * context).sigmoid() * main
        return self.attention(enhanced), enhanced


class CO2Net(Network):
    """Network and losses for batches without padding."""

    def __init__(self, config, num_classes: int, width: int, conv: Convolution):
        super().__init__()
        self.pairs, self.divisor = int(config.train.pairs), int(config.loss.topk_divisor)
        self.alpha = float(config.loss.mutual_alpha)
        self.arrange, self.channels = conv.arrange, conv.channels
        self.ccm_rgb = CrossModalConsensus(width // 2, conv)
        self.ccm_flow = CrossModalConsensus(width // 2, conv)
        self.fusion, self.cls0 = conv(width, width), conv(width, width, 3)
        self.cls1 = conv(width, num_classes + 1)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Run on a batch [B, T, 2D].

        Returns:
            cas [B, T, C + 1]; attention_rgb, attention_flow [B, T, 1]; embeddings [B, T, 2D].
        """
        rgb, flow = self.arrange(features).contiguous().chunk(2, dim=self.channels)
        attention_rgb, rgb_hat = self.ccm_rgb(rgb, flow)
        attention_flow, flow_hat = self.ccm_flow(flow, rgb)
        enhanced = torch.cat([rgb_hat, flow_hat], dim=self.channels)
        embeddings = F.dropout(leaky_relu(self.fusion(enhanced)), 0.7, self.training)
        hidden = leaky_relu(self.cls0(F.dropout(embeddings, 0.7, self.training)))
        outputs = {
            "cas": self.cls1(F.dropout(hidden, 0.7, self.training)),
            "attention_rgb": attention_rgb,
            "attention_flow": attention_flow,
            "embeddings": embeddings,
        }
        return {name: self.arrange(value) for name, value in outputs.items()}

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the unweighted loss terms from features [B, T, 2D] and labels [B, C]."""
        outputs = self(features)
        cas, rgb, flow = (outputs[name] for name in ("cas", "attention_rgb", "attention_flow"))
        attention = (rgb + flow) / 2
        lowest = cas.amin(-1, keepdim=True)
        suppressed = attention * (cas - lowest) + lowest
        k, paired = max(1, features.shape[1] // self.divisor), slice(0, 2 * self.pairs)
        attentions = (rgb, flow, attention)
        return {
            "mil_original": top_k_mil(cas, labels, k, 1.0),
            "mil_suppressed": top_k_mil(suppressed, labels, k, 0.0),
            "co_activity": co_activity(
                outputs["embeddings"][paired], suppressed[paired], labels[paired]
            ),
            "mutual": mutual_learning(rgb, flow, self.alpha),
            "opposition": torch.stack([opposition(a, cas) for a in attentions]).mean(),
            "norm": torch.stack([a.mean() for a in attentions]).mean(),
        }


def top_k_mil(cas: Tensor, labels: Tensor, k: int, background: float) -> Tensor:
    """Compute L_mil, the cross-entropy of pooled logits.

    Args:
        cas: [B, T, C + 1] logits, background last.
        labels: [B, C] multi-hot.
        k: number of snippets that are pooled.
        background: label of the background class.
    """
    target = with_background(labels, background)
    target = target / (target.sum(-1, keepdim=True) + 1e-4)
    return -(target * top_mean(cas, k).log_softmax(-1)).sum(-1).mean()


def co_activity(embeddings: Tensor, cas: Tensor, labels: Tensor) -> Tensor:
    """Compute L_cas, the co-activity similarity of P pairs of videos, with a margin of 0.5.

    Args:
        embeddings: [2P, T, E]; the pairs are rows (0, 1), (2, 3), ...
        cas: [2P, T, C + 1] logits, background last.
        labels: [2P, C] multi-hot.
    """
    features, rest = embeddings.transpose(1, 2), max(cas.shape[1] - 1, 1)
    weight = cas[..., :-1].softmax(1)
    high, low = features @ weight, features @ ((1 - weight) / rest)  # [2P, E, C]
    near = _cosine(high[::2], high[1::2])
    hinge = F.relu(_cosine(high[::2], low[1::2]) - near + 0.5)
    hinge = hinge + F.relu(_cosine(high[1::2], low[::2]) - near + 0.5)
    shared = labels[::2] * labels[1::2]
    return 0.5 * (shared * hinge).sum() / shared.sum().clamp(min=1)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine over axis 1: two arrays [P, E, C] to [P, C]."""
    square = x.square().sum(1) * y.square().sum(1)
    return (x * y).sum(1) / square.clamp(min=1e-24).sqrt()


def mutual_learning(rgb: Tensor, flow: Tensor, alpha: float) -> Tensor:
    """Compute L_ml (eq. 6, MSE): each attention is fitted to the other, without gradient there.

    Args:
        rgb: [B, T, 1] attention of RGB.
        flow: [B, T, 1] attention of flow.
        alpha: weight of fitting RGB to flow.
    """
    to_flow, to_rgb = F.mse_loss(rgb, flow.detach()), F.mse_loss(flow, rgb.detach())
    return alpha * to_flow + (1 - alpha) * to_rgb
