"""One training step of each method in plain PyTorch: what the project's speed is compared with.

    reference = build("co2net", config, num_classes=20, width=2048, form="conv1d")
    loss = reference.step(features, labels)

The mathematics are those of `jaxtal.methods` for batches without padding, see METHODS 2 to 4; the
step has no loop over videos or classes and no host synchronization.
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
    """A network, its weighted losses and Adam.

    Args:
        network: of a method.
        config: of the method; its loss weights and optimizer count.

    Attributes:
        network: the module; `network.to(device)` moves the reference.
        optimizer: PyTorch's Adam, fused: about four times as fast as "foreach" on a CPU.
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
        """One update on [B, T, 2D] and [B, C]: the weighted total before it, a scalar tensor.

        Args:
            choices: of D2-Net its `pairing`, drawn at random if it is not given.
        """
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = self._total(features, labels, **choices)
        total.backward()
        self.optimizer.step()
        return total.detach()

    def compiled(self) -> "Reference":
        """The same on the same network and optimizer, losses and gradients by torch.compile."""
        other = copy.copy(self)
        other._total = torch.compile(self._weighted, dynamic=False)
        return other

    def load(self, params: dict) -> None:
        """Take the parameters from those of Flax, a nested dict of arrays."""
        for path, module, name in self._parameters():
            value = np.asarray(functools.reduce(operator.getitem, path, params))
            if isinstance(module, Conv1d | UnfoldedConv) and name == "weight":
                value = module.from_kernel(value)
            getattr(module, name).data.copy_(torch.as_tensor(np.array(value)))

    def losses(self, features: Tensor, labels: Tensor, **choices) -> dict[str, Tensor]:
        """The unweighted loss terms, without dropout."""
        self.network.eval()
        return self.network.losses(features, labels, **choices)

    def gradients(self, features: Tensor, labels: Tensor, **choices) -> dict:
        """Gradients of the weighted total without dropout, as Flax nests and arranges them."""
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
        """Every parameter's Flax path, its module and its name there."""
        for prefix, module in self.network.named_modules():
            for name, _ in module.named_parameters(recurse=False):
                leaf = "kernel" if name == "weight" else name
                path = [*prefix.split("."), leaf] if prefix else [leaf]
                yield ["global" if key == "global_" else key for key in path], module, name


def build(method: str, config, num_classes: int, width: int, form: str) -> Reference:
    """The reference of a method, with PyTorch's initial values until `Reference.load`.

    Args:
        method: "co2net", "d2net" or "twostream".
        config: of the method; ValueError for options other than the default ones.
        num_classes: C.
        width: 2D.
        form: of the temporal convolutions, "conv1d" or "unfold".
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
