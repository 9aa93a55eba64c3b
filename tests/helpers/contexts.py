"""Contexts for tests that call samplers and losses directly."""

import jax
import jax.numpy as jnp

from jaxtal.input_pipeline.packing import Batch, PackedVideos, gather
from jaxtal.input_pipeline.sampling import Context
from jaxtal.methods.base import Method


def context(state=None, *, step=0, key=None) -> Context:
    """Return a context with the model's `state`; the default key is fixed."""
    key = jax.random.key(0) if key is None else key
    return Context(jnp.int32(step), key, jax.random.key(1), {} if state is None else state)


def drawn(method: Method, data: PackedVideos, config, **where) -> Batch:
    """Return the batch that a method samples in the context `context(**where)`."""
    return gather(data, method.sample(context(**where), data.videos, config))
