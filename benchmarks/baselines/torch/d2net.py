"""D2-Net in PyTorch (Narayan et al. 2021), at a step with denoising.

B videos of T snippets, each with a label, C classes, D columns of an embedding. A video may lack
foreground or background, which is a mask over the batch, as in `jaxtal.nn.discriminative_loss`.
Equations: docs/methods/d2net.md.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.torch.layers import Convolution, Network, leaky_relu, top_mean

SUPPORTED = {
    "model.residual": True,
    "loss.classification": "discriminative",
    "loss.separation_row": "list_index",
    "loss.pairs": "any",
    "loss.reduction": "mean",
    "loss.reweight_positives": True,
    "loss.running_background": "peak",
    "loss.denoising": "pdmi",
    "loss.snippet_joint": "class_conditional",
    "loss.video_joint": "filtered",
}

_MARGIN = 1e-3  # distance of the losses' probabilities from 0 and 1


class Pairing(NamedTuple):
    """Compared videos, rows [B] of the batch, as in `discriminative_loss.Pairing`."""

    foreground: Tensor
    background: Tensor
    crossed_foreground: Tensor
    crossed_background: Tensor


class Embeddings(NamedTuple):
    """One embedding per video, value [B, D]; exists [B] is False where there is none."""

    value: Tensor
    exists: Tensor


class Stream(nn.Module):
    """Network of one modality: D channels to embeddings, D, and logits, C."""

    def __init__(self, config, num_classes: int, width: int, conv: Convolution):
        super().__init__()
        size, dilation = int(config.kernel_size), int(config.dilation)
        self.dropout = float(config.dropout)
        self.conv0 = conv(width, width, size, dilation)
        self.conv1 = conv(width, width, size, dilation)
        self.cls = conv(width, num_classes, int(config.classifier_kernel_size), dilation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings and logits of one modality's features, in the layout of `conv`."""
        x = leaky_relu(self.conv0(x)) + x
        x = leaky_relu(self.conv1(x)) + x
        x = F.dropout(x, self.dropout, self.training)
        return x, self.cls(x)


class D2Net(Network):
    """Network, running background embedding and losses, for videos of full length."""

    background: Tensor

    def __init__(self, config, num_classes: int, width: int, conv: Convolution):
        super().__init__()
        self.settings = config.loss.to_dict()
        self.arrange, self.channels = conv.arrange, conv.channels
        self.rgb = Stream(config.model, num_classes, width // 2, conv)
        self.flow = Stream(config.model, num_classes, width // 2, conv)
        self.register_buffer("background", torch.zeros(width // 2))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map [B, T, 2D] to cas [B, T, C] and embeddings [B, T, D], means of both streams."""
        rgb, flow = self.arrange(features).contiguous().chunk(2, dim=self.channels)
        (rgb, rgb_logits), (flow, flow_logits) = self.rgb(rgb), self.flow(flow)
        cas = (rgb_logits.sigmoid() + flow_logits.sigmoid()) / 2
        return {"cas": self.arrange(cas), "embeddings": self.arrange((rgb + flow) / 2)}

    def losses(
        self, features: Tensor, labels: Tensor, pairing: Pairing | None = None
    ) -> dict[str, Tensor]:
        """Compute the unweighted loss terms; in training, update the running background.

        Args:
            features: [B, T, 2D].
            labels: [B, C].
            pairing: sampled at random if None.
        """
        outputs, settings = self(features), self.settings
        cas, embeddings = outputs["cas"], outputs["embeddings"]
        pooled = top_mean(cas, math.ceil(cas.shape[1] / settings["topk_divisor"]))
        probability = pooled.clamp(_MARGIN, 1 - _MARGIN)
        attention = cas.amax(-1)
        foreground = attended(embeddings, attention, settings["foreground_threshold"])
        background = attended(embeddings, 1 - attention, settings["background_threshold"])
        running = self._running(embeddings, attention, background.exists)
        pairing = pairing or draw_pairing(foreground.exists, background.exists)
        weights = cosine_weights(foreground, background, pairing)
        return {
            "discriminative": discriminative_loss(probability, labels, weights, settings),
            "snippet_denoising": snippet_denoising(
                cas, labels, bottom_up_attention(embeddings, running), settings
            ),
            "video_denoising": video_denoising(probability, labels, settings),
        }

    @torch.no_grad()
    def _running(self, embeddings: Tensor, attention: Tensor, exists: Tensor) -> Tensor:
        """Compute the running background [D] after the batch, from its peak snippets."""
        newest = embeddings[torch.arange(len(attention)), attention.argmin(-1)]
        count = exists.sum()
        mean = (newest * exists[:, None]).sum(0) / count.clamp(min=1)
        running = torch.where(count > 0, 0.9 * self.background + 0.1 * mean, self.background)
        if self.training:
            self.background.copy_(running)
        return running


def attended(embeddings: Tensor, attention: Tensor, threshold: float) -> Embeddings:
    """Compute the mean of snippets [B, T, D] weighted by an attention [B, T] >= `threshold`."""
    weight = torch.where(attention >= threshold, attention, 0.0)
    total = weight.sum(-1)
    exists = total > 0
    value = (weight[:, None] @ embeddings)[:, 0]
    return Embeddings(value / torch.where(exists, total, 1.0)[:, None], exists)


def draw_pairing(foreground: Tensor, background: Tensor) -> Pairing:
    """Sample permutations of the videos with foreground [B], with background [B], and of both."""
    return Pairing(
        _shuffled(foreground)[_rank(foreground)],
        _shuffled(background)[_rank(background)],
        _shuffled(foreground),
        _shuffled(background),
    )


def _shuffled(members: Tensor) -> Tensor:
    """Return the rows of the batch, members first and in random order."""
    priority = torch.rand(members.shape, device=members.device)
    return torch.where(members, priority, 2.0).argsort()


def _rank(members: Tensor) -> Tensor:
    """Return each member's index among the members."""
    return (members.cumsum(0) - 1).clamp(min=0)


def cosine_weights(
    foreground: Embeddings, background: Embeddings, pairing: Pairing
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the compactness weights w_fg, w_bg and the separation weight w_fb, [B] each."""
    x, y = foreground.value, background.value
    compact = torch.where(foreground.exists, 1 - _cosine(x, x[pairing.foreground]), 0.0)
    compact_background = torch.where(background.exists, 1 - _cosine(y, y[pairing.background]), 0.0)
    first, second = pairing.crossed_foreground, pairing.crossed_background
    compared = foreground.exists[first] & background.exists[second]
    separation = torch.where(compared, F.relu(_cosine(x[first], y[second])), 0.0)
    # As published: the index in the list of foregrounds serves as the row of the batch.
    row = _rank(foreground.exists)[first]
    return compact, compact_background, torch.zeros_like(separation).index_add(0, row, separation)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Compute the cosine of two [B, D]: [B]."""
    square = (x.square().sum(-1) + 1e-12) * (y.square().sum(-1) + 1e-12)
    return (x * y).sum(-1) / square.sqrt()


def discriminative_loss(probability: Tensor, labels: Tensor, weights, settings: dict) -> Tensor:
    """Compute L_Dis of probabilities p and labels [B, C], with weights from `cosine_weights`."""
    compact, compact_background, separation = (weight[:, None] for weight in weights)
    gamma, focusing = settings["gamma"], settings["focusing"]
    positive = (1 - probability + separation + gamma * compact) ** focusing * probability.log()
    push = separation + gamma * compact_background
    negative = (probability + push) ** focusing * (-probability).log1p()
    return -(labels * positive * labels.shape[1] + (1 - labels) * negative).mean()


@torch.no_grad()
def bottom_up_attention(embeddings: Tensor, background: Tensor) -> Tensor:
    """Compute (1 - cos(F, r)) / 2 of snippets [B, T, D] and running background [D]: [B, T]."""
    norms = embeddings.norm(dim=-1).clamp(min=1e-8) * background.norm().clamp(min=1e-8)
    return (1 - embeddings @ background / norms) / 2


def snippet_denoising(cas: Tensor, labels: Tensor, bottom_up: Tensor, settings: dict) -> Tensor:
    """Compute L_DS, pDMI of snippets and pseudo-labels, averaged over videos with both kinds.

    Args:
        cas: [B, T, C].
        labels: [B, C].
        bottom_up: [B, T].
        settings: `config.loss`.
    """
    is_foreground = bottom_up > settings["bottom_up_foreground"]
    is_background = bottom_up < settings["bottom_up_background"]
    own = torch.where(labels[:, None] > 0, cas, 0.0).amax(-1)
    prediction = torch.where(is_foreground, own, cas.amax(-1))
    pseudo = torch.stack([is_foreground, is_background], dim=1).to(cas.dtype)
    prediction = torch.stack([prediction, 1 - prediction], dim=-1)
    joint = pseudo @ prediction / pseudo.sum(-1, keepdim=True).clamp(min=1)
    counted = is_foreground.any(-1) & is_background.any(-1)
    identity = torch.eye(2, device=cas.device)
    joint = torch.where(counted[:, None, None], joint.clamp(min=1e-10), identity)
    values = pdmi(joint, 0.0, settings["gradient_cap"])
    return (values * counted).sum() / counted.sum().clamp(min=1)


def video_denoising(probability: Tensor, labels: Tensor, settings: dict) -> Tensor:
    """Compute L_DV, pDMI of video-level probabilities and labels, both [B, C]."""
    kept = probability > 0.2 * probability.amax(-1, keepdim=True)
    probability = torch.where(kept, probability, 0.0)
    probability = probability / probability.sum(-1, keepdim=True)
    joint = labels.T @ probability / labels.sum(0)[:, None].clamp(min=1)
    return pdmi(joint, 1e-5, settings["gradient_cap"])


def pdmi(matrix: Tensor, discard: float, gradient_cap: float) -> Tensor:
    """Compute the log condition number of [..., N, N] from singular values above `discard`."""
    logs = log_singular_values(matrix, gradient_cap)
    largest = logs[..., :1]
    kept = logs.exp() > discard
    return largest[..., 0] - torch.where(kept, logs, largest).amin(-1)


def log_singular_values(matrix: Tensor, gradient_cap: float) -> Tensor:
    """Return the logs of the singular values, with a bounded gradient.

    Args:
        matrix: [..., N, N]; replaced by the identity where it is not finite.
        gradient_cap: upper bound of 1 / s_i in the gradient.

    Returns:
        [..., N], descending; values below the rounding error of the largest are replaced by it.
    """
    finite = matrix.isfinite().all(-1).all(-1)[..., None, None]
    matrix = torch.where(finite, matrix, torch.eye(matrix.shape[-1], device=matrix.device))
    left, values, right = torch.linalg.svd(matrix.detach())
    limits = torch.finfo(matrix.dtype)
    floor = (limits.eps * values[..., :1]).clamp(min=limits.tiny)
    # s_i = u_i^T M v_i, linear in M at fixed u_i, v_i: zero here, and the gradient of s_i.
    change = (left * (matrix @ right.mT)).sum(-2)
    slope = (1 / values.clamp(min=limits.tiny)).clamp(max=gradient_cap)
    return values.maximum(floor).log() + slope * (change - change.detach())
