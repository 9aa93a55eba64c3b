"""What batches and losses are given besides data, for tests that call them directly."""

import jax
import jax.numpy as jnp

from jaxtal.input_pipeline.packing import Batch, PackedVideos, gather
from jaxtal.input_pipeline.sampling import Context
from jaxtal.methods.base import Method


def context(state=None, *, step=0, key=None) -> Context:
    """A context of the model's `state`; without `key` of a fixed one."""
    key = jax.random.key(0) if key is None else key
    return Context(jnp.int32(step), key, jax.random.key(1), {} if state is None else state)


def drawn(method: Method, data: PackedVideos, config, **where) -> Batch:
    """The batch that a method draws in the context that `context` makes of `where`."""
    return gather(data, method.sample(context(**where), data.videos, config))
