"""Where features live: on the device, or streamed to it by the host when they do not fit."""

import contextlib
import ctypes
import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
import psutil

from jaxtal import console
from jaxtal.data.dataset import Video
from jaxtal.sampling import Draw, Index, PackedVideos, index_of, locate, pack_on_host
from jaxtal.step import draw, over_members

DTYPES = ("", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Placed:
    """Packed videos and where their features are.

    Attributes:
        data: on the device; its features are None where they are streamed.
        host: [total snippets, 2D], the features on the host, or None where they are not streamed.
        videos: as they were given, their features being those that were packed, so that nobody
            needs to keep a second copy.
    """

    data: PackedVideos
    host: np.ndarray | None
    videos: tuple[Video, ...] = ()


def place(videos, num_classes: int, config, what: str, used: int = 0) -> Placed:
    """Put the features of `videos` onto the device if they fit, and say where they are.

    Args:
        videos: with features, which are packed as `config.data.device_dtype`, "" for their own.
        num_classes: C.
        config: with them, `config.data.device_share` is the share of the device's memory that all
            features together may take.
        what: "training" or "test".
        used: bytes of features that are on the device already.

    Raises:
        UserError: a feature is too large for the type.
    """
    packed = pack_on_host(videos, config.data.device_dtype)
    memory = device_memory()
    ends = np.cumsum([len(video.features) for video in videos])
    parts = tuple(
        dataclasses.replace(video, features=packed[end - len(video.features) : end])
        for video, end in zip(videos, ends, strict=True)
    )
    index = index_of(parts, num_classes)
    size = f"{what} features: {packed.nbytes / 2**20:,.0f} MiB {packed.dtype}"
    if used + packed.nbytes <= config.data.device_share * memory:
        console.say(f"{size}, on the device")
        return Placed(PackedVideos(jax.device_put(packed), index), None, parts)
    beside = f" beside {used / 2**20:,.0f} MiB" if used else ""
    console.say(
        f"{size}, do not fit{beside} into config.data.device_share={config.data.device_share:g} of "
        f"the device's {memory / 2**20:,.0f} MiB: streamed by the host"
    )
    return Placed(PackedVideos(None, index), packed, parts)


def device_memory() -> int:
    """Bytes of the default device's memory; of this machine's where it is the processor."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or psutil.virtual_memory().total


def prefetched(items: Sequence[int], load: Callable[[int], Any]) -> Iterator:
    """`load` of each item, in order, on the device, done ahead in other threads."""
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    loaded = grain.MapDataset.source(items).map(load).to_iter_dataset(options)
    device = jax.local_devices()[0]
    return iter(grain.experimental.device_put(loaded, device, cpu_buffer_size=1))


def _processor() -> jax.Device:
    """The CPU, or where JAX_PLATFORMS leaves it out the device itself."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def return_memory() -> None:
    """Give freed memory back to the system, which glibc's allocator keeps: a copy of the features
    after they were packed, a compiler's work space.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Stream:
    """Training batches gathered by the host: the draws that the compiled step would make.

    The draws depend on (seed, step) and the index alone, so they are made ahead, on the processor.
    """

    def __init__(self, placed: Placed, method, config, seeds: np.ndarray):
        self._host = placed.host
        self._method, self._config = method, config
        self._known = jax.device_put((seeds, placed.data.videos), _processor())
        self._draw = jax.jit(over_members(self._draw_one, len(seeds), (0, None, None)))

    def _draw_one(self, seed, index: Index, step):
        drawn = draw(seed, step, index, self._method, self._config)
        return drawn, locate(index, drawn)[0]

    def load(self, step: int) -> tuple[Draw, np.ndarray]:
        """Draw and features of a step's batches, one of each member: leaves [M, 1, ...]."""
        drawn, rows = jax.device_get(self._draw(*self._known, np.int32(step)))
        assert self._host is not None
        return jax.tree.map(lambda leaf: leaf[:, None], (drawn, self._host[rows]))
