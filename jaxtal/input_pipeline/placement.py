"""Where features live: on the device, or streamed to it by the host when they do not fit."""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxtal.data.dataset import Video
from jaxtal.input_pipeline.packing import (
    BatchIndices,
    PackedVideos,
    VideoIndex,
    build_index,
    pack_features,
    row_indices,
)
from jaxtal.input_pipeline.sampling import sample_batch_indices
from jaxtal.parallel import multihost, sharding
from jaxtal.parallel.mesh import DATA, MEMBER, MEMBER_SPEC, REPLICATED, make_mesh
from jaxtal.parallel.sharding import vmap_members

_LOG = logging.getLogger(__name__)
_SMALL_MACHINE = 4 * 2**30
DTYPES = ("", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class PlacedVideos:
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


def place_features(
    videos, num_classes: int, config, what: str, used: int = 0, mesh: Mesh | None = None
) -> PlacedVideos:
    """Put the features of `videos` onto the device if they fit, and say where they are.

    Args:
        videos: with features, which are packed as `config.data.device_dtype`, "" for their own.
        num_classes: C.
        config: with them, `config.data.device_share` is the share of the device's memory that all
            features together may take.
        what: "training" or "test".
        used: bytes of features that are on the device already.
        mesh: the devices; the first one by default. They have the features each, or, if
            `config.mesh.features` is "sharded", those of `data` have equal parts.

    Raises:
        ConfigError: a feature is too large for the type.
    """
    mesh = mesh or make_mesh(jax.local_devices(), 1, 1)
    parts = mesh.shape[DATA] if config.mesh.features == "sharded" else 1
    packed = pack_features(videos, config.data.device_dtype, parts)
    memory = device_memory()
    ends = np.cumsum([len(video.features) for video in videos])
    kept = tuple(
        dataclasses.replace(video, features=packed[end - len(video.features) : end])
        for video, end in zip(videos, ends, strict=True)
    )
    index = sharding.device_put(mesh, build_index(kept, num_classes))
    size = f"{what} features: {packed.nbytes / 2**20:,.0f} MiB {packed.dtype}"
    fits = used + packed.nbytes / parts <= config.data.device_share * memory
    if multihost.broadcast_from_primary(int(fits)):
        where = f"in {parts} parts on" if parts > 1 else "on"
        _LOG.info("%s, %s the device", size, where)
        spec = P(DATA) if parts > 1 else REPLICATED
        return PlacedVideos(
            PackedVideos(sharding.device_put(mesh, packed, spec), index), None, kept
        )
    beside = f" beside {used / 2**20:,.0f} MiB" if used else ""
    _LOG.info(
        "%s, do not fit%s into config.data.device_share=%g of the device's %s MiB: streamed by the "
        "host",
        size,
        beside,
        config.data.device_share,
        f"{memory / 2**20:,.0f}",
    )
    return PlacedVideos(PackedVideos(None, index), packed, kept)


def device_memory() -> int:
    """Bytes of the default device's memory; of this machine's where it is the processor."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or _machine_memory()


def _machine_memory() -> int:
    """Bytes of this machine's memory; of a small one's where the system does not say."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kibibytes, windows = ctypes.c_ulonglong(), getattr(ctypes, "windll", None)
    if windows and windows.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes)):
        return kibibytes.value * 2**10
    return _SMALL_MACHINE


def prefetch(
    items: Iterable[int], load: Callable[[int], Any], ahead: int = 2
) -> Generator[Any, None, None]:
    """Yield `load` of each item, in order, done ahead in other threads.

    An error in `load` is raised where its result would come. Once the generator is closed or
    deleted, nothing is loaded: what has begun is waited for, what has not is dropped.

    Args:
        items: taken one after the other, no more than `ahead` before they are asked for.
        load: called in several threads at once.
        ahead: how many results are loaded beside the one that was yielded.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="prefetch") as threads:
        try:
            for item in items:
                waiting.append(threads.submit(load, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def _host_device() -> jax.Device:
    """The CPU, or where JAX_PLATFORMS leaves it out the device itself."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def trim_host_memory() -> None:
    """Give freed memory back to the system, which glibc's allocator keeps: a copy of the features
    after they were packed, a compiler's work space.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class HostStream:
    """Training batches gathered by the host: the draws that the compiled step would make.

    The draws depend on (seed, step) and the index alone, so they are made ahead, on the processor.
    """

    def __init__(
        self, placed: PlacedVideos, method, config, seeds: np.ndarray, mesh: Mesh | None = None
    ):
        self._host = placed.host
        self._mesh = mesh or make_mesh(jax.local_devices(), 1, 1)
        self._sample, self._config = method.sample, config
        known = jax.tree.map(np.asarray, (seeds, placed.data.videos))
        self._known = jax.device_put(known, _host_device())
        self._draw = jax.jit(vmap_members(self._draw_one, len(seeds), (0, None, None)))

    def _draw_one(self, seed, index: VideoIndex, step):
        drawn = sample_batch_indices(seed, step, index, self._sample, self._config)
        return drawn, row_indices(index, drawn)[0]

    def load(self, step: int) -> tuple[BatchIndices, jax.Array]:
        """Draw and features of a step's batches, one of each member: leaves [M, 1, ...]."""
        found = jax.device_get(self._draw(*self._known, np.int32(step)))
        drawn, rows = jax.tree.map(lambda leaf: leaf[:, None], found)
        assert self._host is not None
        of_batches = P(MEMBER, None, DATA)
        features = sharding.device_put_rows(self._mesh, self._host, rows, of_batches)
        return sharding.device_put(self._mesh, drawn, MEMBER_SPEC), features
