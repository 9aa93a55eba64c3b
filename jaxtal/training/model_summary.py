"""The size of a config's network, and the cost of using and of training it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal import methods
from jaxtal.data import synthetic
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline.packing import Batch
from jaxtal.input_pipeline.sampling import Context
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state, loss_fn

_CLASSES = {"Thumos14": 20, "Thumos14reduced": 20, "ActivityNet1.2": 100, "ActivityNet1.3": 200}
_I3D = (1024, 1024)  # features per snippet of RGB and flow


class ModelSummary(NamedTuple):
    """The size and the cost of one model.

    Attributes:
        num_classes: C, without the background class.
        widths: features per snippet of each stream.
        parameters: number of parameters by layer, in the network's order.
        state: number of values that are saved with the parameters and not trained.
        forward_flops: floating-point operations of the network on a video of `data.num_snippets`
            snippets, as compiled for this machine, before the compiler's optimizations.
        step_flops: those of the loss and its gradient on a batch.
    """

    num_classes: int
    widths: tuple[int, ...]
    parameters: dict[str, int]
    state: int
    forward_flops: float
    step_flops: float


def summarize(config: ConfigDict, classes: int | None = None) -> ModelSummary:
    """Compute the summary of a config's network from shapes; no data are read.

    Args:
        config: the whole config of a run.
        classes: C; None for that of the generated videos or of the data set's name.

    Returns:
        The summary of one member of the population.

    Raises:
        ConfigError: the config is invalid, or the number of classes is not known.
    """
    method = methods.get(config.method)
    method.validate_config(config)
    classes, widths = _data_shape(config, classes)
    model = method.build(config.model, classes, widths)
    hyper = hyperparams_from_config(config)
    state = jax.eval_shape(lambda: init_state(model, hyper, sum(widths)))
    layers = {name: _size(tree) for name, tree in state.params.items()}
    return ModelSummary(
        classes,
        widths,
        layers,
        _size(state.model_state),
        *_flops(config, model, hyper, state, classes, sum(widths)),
    )


def _data_shape(config: ConfigDict, given: int | None) -> tuple[int, tuple[int, ...]]:
    """Return the number of classes and the widths of the streams that the config's data have."""
    widths = tuple(config.data.stream_widths) or _I3D
    classes = given or _CLASSES.get(config.data.name)
    if not config.data.dir and config.data.generator:
        made = synthetic.parse(config.data.generator)
        widths, classes = (made.feature_width,) * 2, given or made.num_classes
    if not classes:
        raise ConfigError(
            f"config.data.name is {config.data.name!r}, a data set whose number of classes is not "
            "known without reading it; give classes=..."
        )
    if config.data.modality:
        widths = widths[:1] if config.data.modality == "rgb" else widths[1:]
    return classes, (sum(widths),) if config.data.streams == 1 else widths


def _size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _flops(config, model, hyper, state, classes: int, width: int) -> tuple[float, float]:
    """Return the operations of a video's forward pass and of a batch's loss and gradient."""
    method, time = methods.get(config.method), config.data.num_snippets

    def batch_of(size: int) -> Any:
        shapes = ((size, time, width), jnp.float32), ((size, time), bool), ((size, classes), float)
        return Batch(*map(jax.ShapeDtypeStruct, *zip(*shapes, strict=True)))  # type: ignore[arg-type]

    def forward(params, model_state, batch):
        return model.apply({"params": params, **model_state}, batch.features, batch.mask)

    def step(params, model_state, batch):
        key = jax.random.key(0)
        context = Context(jnp.int32(0), key, key, model_state)
        arguments = (batch, context, key, hyper, model, method, config)
        return jax.grad(loss_fn, has_aux=True)(params, *arguments)

    found = []
    for function, size in ((forward, 1), (step, config.train.batch_size)):
        lowered = jax.jit(function).lower(state.params, state.model_state, batch_of(size))
        found.append(float((lowered.cost_analysis() or {}).get("flops", float("nan"))))
    return found[0], found[1]
