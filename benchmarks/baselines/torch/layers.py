"""Layers and losses for batches without padding, shared by the methods; shapes as in `jaxtal`.

There are two classes of temporal convolutions. `Conv1d` works on [B, C, T], as PyTorch's own does,
`UnfoldedConv` on [B, T, C]. Their `arrange` converts [B, T, C] to that form and back.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv1d(nn.Conv1d):
    """PyTorch's convolution, [B, I, T] to [B, O, T], with zero padding that keeps T."""

    channels = 1  # the axis

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, dilation: int = 1):
        padding = dilation * (kernel_size // 2)
        super().__init__(inputs, outputs, kernel_size, padding=padding, dilation=dilation)

    @staticmethod
    def arrange(x: Tensor) -> Tensor:
        """Convert [B, T, C] to [B, C, T] or back; returns a view."""
        return x.transpose(1, 2)

    @staticmethod
    def dense(x: Tensor, weight: Tensor) -> Tensor:
        """Apply a weight [O, I] to every snippet of [B, I, T]."""
        return F.conv1d(x, weight[..., None])

    def from_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """Convert a Flax kernel [k, I, O] to a weight of this layer."""
        return kernel.transpose(2, 1, 0)

    def as_kernel(self, weight: np.ndarray) -> np.ndarray:
        """Convert a weight of this layer, or its gradient, to a Flax kernel [k, I, O]."""
        return weight.transpose(2, 1, 0)


class UnfoldedConv(nn.Linear):
    """Convolution of [B, T, I] to [B, T, O] as shifted copies and one matrix product."""

    channels = 2

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, dilation: int = 1):
        super().__init__(kernel_size * inputs, outputs)
        self.kernel_size, self.dilation = kernel_size, dilation

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, T, I]; return [B, T, O]."""
        if self.kernel_size > 1:
            time, reach = x.shape[1], self.dilation * (self.kernel_size // 2)
            padded = F.pad(x, (0, 0, reach, reach))
            starts = range(0, self.kernel_size * self.dilation, self.dilation)
            x = torch.cat([padded[:, start : start + time] for start in starts], dim=-1)
        return super().forward(x)

    @staticmethod
    def arrange(x: Tensor) -> Tensor:
        """Return [B, T, C] unchanged."""
        return x

    @staticmethod
    def dense(x: Tensor, weight: Tensor) -> Tensor:
        """Apply a weight [O, I] to every snippet of [B, T, I]."""
        return F.linear(x, weight)

    def from_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """Convert a Flax kernel [k, I, O] to a weight of this layer."""
        return kernel.reshape(-1, kernel.shape[-1]).T

    def as_kernel(self, weight: np.ndarray) -> np.ndarray:
        """Convert a weight of this layer, or its gradient, to a Flax kernel [k, I, O]."""
        return weight.T.reshape(self.kernel_size, -1, len(weight))


Convolution: TypeAlias = type[Conv1d] | type[UnfoldedConv]
FORMS: dict[str, Convolution] = {"conv1d": Conv1d, "unfold": UnfoldedConv}


class Network(nn.Module):
    """Network of a method, constructed from a config, C, 2D and a class of convolutions.

    Attributes:
        losses: function of (features [B, T, 2D], labels [B, C], ...) that returns the unweighted
            loss terms, scalars.
    """

    losses: Callable[..., dict[str, Tensor]]


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with negative slope 0.2."""
    return F.leaky_relu(x, 0.2)


def top_mean(sequence: Tensor, k: int) -> Tensor:
    """Compute the mean of the k largest entries over time: [B, T, C] to [B, C]."""
    return sequence.topk(k, dim=1, sorted=False).values.mean(1)


def with_background(labels: Tensor, background: float) -> Tensor:
    """Append the background's label: [B, C] to [B, C + 1]."""
    return F.pad(labels, (0, 1), value=background)


def opposition(attention: Tensor, cas: Tensor) -> Tensor:
    """Compute the mean of |1 - attention - P(background)| over snippets and videos.

    It is CO2-Net's L_oppo (eq. 7), and with attention-weighted logits the two-stream network's
    L_gui (eq. 7).

    Args:
        attention: [B, T, 1].
        cas: [B, T, C + 1] logits, background last.
    """
    background = cas.softmax(-1)[..., -1]
    return (1 - attention[..., 0] - background).abs().mean()
