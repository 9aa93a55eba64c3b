"""Where features live: on the device, or streamed to it by the host when they do not fit."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
import psutil

from jaxtal import console
from jaxtal.data.dataset import Video
from jaxtal.errors import UserError
from jaxtal.sampling import Draw, Index, PackedVideos, index_of, locate
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


def pack_on_host(videos, dtype: str) -> np.ndarray:
    """All features behind one another, [total snippets, 2D], filled video by video."""
    first = videos[0].features
    own = np.result_type(*{video.features.dtype for video in videos})
    lengths = [len(video.features) for video in videos]
    packed = _aligned((sum(lengths), first.shape[1]), jax.numpy.dtype(dtype or own))
    for video, end in zip(videos, np.cumsum(lengths), strict=True):
        with np.errstate(over="ignore"):
            rows = packed[end - len(video.features) : end]
            rows[:] = video.features
        if packed.dtype != own and not _still_finite(rows, video.features):
            raise UserError(
                f"a feature of {video.name} is {np.abs(video.features).max():g}, too large for "
                f"config.data.device_dtype={dtype}; use bfloat16 or float32"
            )
    return packed


def _aligned(shape: tuple[int, int], dtype) -> np.ndarray:
    """An empty array that begins where JAX can take it over as it is, if it computes on the CPU."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _still_finite(after: np.ndarray, before: np.ndarray) -> bool:
    return bool((np.isfinite(after.astype(np.float32)) | ~np.isfinite(before)).all())


def prefetched(items: Sequence[int], load: Callable[[int], Any]) -> Iterator:
    """`load` of each item, in order, on the device, done ahead in other threads."""
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    loaded = grain.MapDataset.source(items).map(load).to_iter_dataset(options)
    device = jax.local_devices()[0]
    return iter(grain.experimental.device_put(loaded, device, cpu_buffer_size=1))


class Stream:
    """Training batches gathered by the host: the draws that the compiled step would make.

    The draws depend on (seed, step) and the index alone, so they are made ahead, on the processor.
    """

    def __init__(self, placed: Placed, method, config, seeds: np.ndarray):
        self._host = placed.host
        self._method, self._config = method, config
        processor = jax.local_devices(backend="cpu")[0]
        self._known = jax.device_put((seeds, placed.data.videos), processor)
        self._draw = jax.jit(over_members(self._draw_one, len(seeds), (0, None, None)))

    def _draw_one(self, seed, index: Index, step):
        drawn = draw(seed, step, index, self._method, self._config)
        return drawn, locate(index, drawn)[0]

    def load(self, step: int) -> tuple[Draw, np.ndarray]:
        """Draw and features of a step's batches, one of each member: leaves [M, 1, ...]."""
        drawn, rows = jax.device_get(self._draw(*self._known, np.int32(step)))
        assert self._host is not None
        return jax.tree.map(lambda leaf: leaf[:, None], (drawn, self._host[rows]))
