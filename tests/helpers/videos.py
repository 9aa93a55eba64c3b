"""Random batches of videos for tests of networks and losses."""

import jax.numpy as jnp
import numpy as np

from jaxtal.input_pipeline.packing import Batch


def draw_batch(seed: int, lengths, num_classes: int, width: int) -> Batch:
    """Return features in 0 to 1, noise behind each video's end, and labels, at least one each."""
    rng = np.random.default_rng(seed)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    labels = (rng.random((len(lengths), num_classes)) < 0.4).astype(np.float32)
    labels[:, 0] = 1
    features = rng.random((*mask.shape, width)).astype(np.float32)
    return Batch(jnp.asarray(features), jnp.asarray(mask), jnp.asarray(labels))
