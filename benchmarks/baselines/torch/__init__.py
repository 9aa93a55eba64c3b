"""One training step of each method in plain PyTorch, the baseline of the speed measurements.

    reference = build("co2net", config, num_classes=20, width=2048, form="conv1d")
    loss = reference.step(features, labels)

The equations are those of `jaxtal.methods` for batches without padding (docs/methods/). The step
has no loop over videos or classes and no host synchronization.
"""

import copy
import functools
import operator
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines.torch import co2net, d2net, twostream
from benchmarks.baselines.torch.layers import FORMS, Conv1d, Network, UnfoldedConv

_METHODS = {
    "co2net": (co2net.CO2Net, co2net.SUPPORTED),
    "d2net": (d2net.D2Net, d2net.SUPPORTED),
    "twostream": (twostream.TwoStream, twostream.SUPPORTED),
}


class Reference:
    """Training step of a network: weighted losses and Adam.

    Args:
        network: network of a method.
        config: config of the method, for its loss weights and optimizer.

    Attributes:
        network: the module; `network.to(device)` moves the reference to a device.
        optimizer: PyTorch's fused Adam, about four times as fast as "foreach" on a CPU.
    """

    def __init__(self, network: Network, config):
        self.network = network
        self._weights = config.loss.weights.to_dict()
        self.optimizer = torch.optim.Adam(
            network.parameters(),
            lr=config.optimizer.learning_rate,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        self._total = self._weighted

    def step(self, features: Tensor, labels: Tensor, **choices) -> Tensor:
        """Update the parameters on one batch.

        Args:
            features: [B, T, 2D].
            labels: [B, C] multi-hot.
            **choices: random choices of the loss: D2-Net's `pairing`, drawn if it is not given.

        Returns:
            The weighted total loss before the update, a scalar.
        """
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = self._total(features, labels, **choices)
        total.backward()
        self.optimizer.step()
        return total.detach()

    def compiled(self) -> "Reference":
        """Return a reference with the same network and optimizer that uses torch.compile."""
        other = copy.copy(self)
        other._total = torch.compile(self._weighted, dynamic=False)
        return other

    def load(self, params: dict) -> None:
        """Load parameters from Flax's, a nested dict of arrays."""
        for path, module, name in self._parameters():
            value = np.asarray(functools.reduce(operator.getitem, path, params))
            if isinstance(module, Conv1d | UnfoldedConv) and name == "weight":
                value = module.from_kernel(value)
            getattr(module, name).data.copy_(torch.as_tensor(np.array(value)))

    def losses(self, features: Tensor, labels: Tensor, **choices) -> dict[str, Tensor]:
        """Compute the unweighted loss terms without dropout.

        Args:
            features: [B, T, 2D].
            labels: [B, C] multi-hot.
            **choices: random choices of the loss, as of `step`.
        """
        self.network.eval()
        return self.network.losses(features, labels, **choices)

    def gradients(self, features: Tensor, labels: Tensor, **choices) -> dict:
        """Compute the gradients of the weighted total loss without dropout.

        Args:
            features: [B, T, 2D].
            labels: [B, C] multi-hot.
            **choices: random choices of the loss, as of `step`.

        Returns:
            The gradients, nested and arranged like Flax's parameters.
        """
        self.network.eval()
        self.optimizer.zero_grad(set_to_none=True)
        self._total(features, labels, **choices).backward()
        result: dict = {}
        for path, module, name in self._parameters():
            gradient = getattr(module, name).grad.cpu().numpy()
            if isinstance(module, Conv1d | UnfoldedConv) and name == "weight":
                gradient = module.as_kernel(gradient)
            inner = result
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = gradient
        return result

    def _weighted(self, features: Tensor, labels: Tensor, **choices) -> Tensor:
        terms = self.network.losses(features, labels, **choices)
        return torch.stack([self._weights[name] * term for name, term in terms.items()]).sum()

    def _parameters(self) -> Iterator[tuple[list[str], nn.Module, str]]:
        """Yield the Flax path of each parameter, its module and its name in the module."""
        for prefix, module in self.network.named_modules():
            for name, _ in module.named_parameters(recurse=False):
                leaf = "kernel" if name == "weight" else name
                path = [*prefix.split("."), leaf] if prefix else [leaf]
                yield ["global" if key == "global_" else key for key in path], module, name


def build(method: str, config, num_classes: int, width: int, form: str) -> Reference:
    """Build the reference of a method, with PyTorch's initial values until `Reference.load`.

    Args:
        method: "co2net", "d2net" or "twostream".
        config: config of the method.
        num_classes: C.
        width: 2D, features of a snippet.
        form: form of the temporal convolutions, "conv1d" or "unfold".

    Raises:
        ValueError: unknown method or form, or the config has an option that is not the default.
    """
    if method not in _METHODS or form not in FORMS:
        raise ValueError(
            f"method {method!r} in the form {form!r}; wanted one of {', '.join(_METHODS)} in one "
            f"of {', '.join(FORMS)}"
        )
    network, supported = _METHODS[method]
    for field, wanted in supported.items():
        if (got := operator.attrgetter(field)(config)) != wanted:
            raise ValueError(
                f"config.{field} is {got!r}; the PyTorch reference has {wanted!r} only"
            )
    return Reference(network(config, num_classes, width, FORMS[form]), config)
