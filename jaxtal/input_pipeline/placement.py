"""Placement of features on the device, or on the host, which streams them if they do not fit."""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

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
_SMALL_MACHINE = 4 * 2**30  # bytes, assumed where the memory size is unknown
DTYPES = ("", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class PlacedVideos:
    """Packed videos with the location of their features.

    Attributes:
        data: packed videos on the device; their features are None where they are streamed.
        host: [total snippets, 2D] features on the host; None where they are on the device.
        videos: the videos as given, with views of the packed features, so that the original arrays
            can be freed.
    """

    data: PackedVideos
    host: np.ndarray | None
    videos: tuple[Video, ...] = ()


def place_features(
    videos: Sequence[Video],
    num_classes: int,
    config: ConfigDict,
    what: str,
    used: int = 0,
    mesh: Mesh | None = None,
) -> PlacedVideos:
    """Put the features of videos on the device if they fit, and log where they are.

    Args:
        videos: videos with features (T, 2D).
        num_classes: C.
        config: the whole config. `data.device_dtype` is the float type of the packed features;
            `data.device_share` is the share of the device's memory that all features may occupy;
            with `mesh.features` "sharded" the devices of the axis `data` hold equal parts of them.
        what: "training" or "test", for the log.
        used: bytes of other features that are already on the device.
        mesh: the devices; the first local device by default.

    Returns:
        The packed videos, with the features on the device or on the host.

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
    """Return the memory of the default device in bytes; on a CPU the memory of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or _machine_memory()


def _machine_memory() -> int:
    """Memory of the machine in bytes; `_SMALL_MACHINE` where the system does not report it."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kibibytes, windows = ctypes.c_ulonglong(), getattr(ctypes, "windll", None)
    if windows and windows.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes)):
        return kibibytes.value * 2**10
    return _SMALL_MACHINE


def prefetch(
    items: Iterable[int], load: Callable[[int], Any], ahead: int = 2
) -> Generator[Any, None, None]:
    """Yield the results of `load` for each item in order, computed ahead in other threads.

    An error in `load` is raised in place of its result. When the generator is closed or deleted, it
    waits for the calls in progress and cancels the others.

    Args:
        items: arguments of `load`, consumed at most `ahead` items before their result is needed.
        load: function of an item, called in several threads at once.
        ahead: number of results that are loaded in advance.

    Yields:
        The result of each item.
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
    """Return the CPU device, or the default device where JAX_PLATFORMS excludes the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def trim_host_memory() -> None:
    """Return freed memory to the system.

    glibc's allocator keeps it otherwise, for example the memory of the features before packing, and
    the compiler's work space.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class HostStream:
    """Training batches gathered by the host, equal to those that the compiled step would sample.

    The indices of a batch depend on (seed, step) and on the index of the videos only, so that the
    CPU computes them in advance.

    Args:
        placed: training videos whose features are on the host.
        method: the method, for its `sample`.
        config: the whole config.
        seeds: [M] uint32, the seed of each population member.
        mesh: the devices; the first local device by default.
    """

    def __init__(
        self,
        placed: PlacedVideos,
        method: Any,
        config: ConfigDict,
        seeds: np.ndarray,
        mesh: Mesh | None = None,
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
        """Gather the batches of a step.

        Args:
            step: number of updates done before this step.

        Returns:
            Indices, and features [M, 1, B, T, 2D]; every array has the leading axes [M, 1], with
            one batch for each member.
        """
        found = jax.device_get(self._draw(*self._known, np.int32(step)))
        drawn, rows = jax.tree.map(lambda leaf: leaf[:, None], found)
        assert self._host is not None
        of_batches = P(MEMBER, None, DATA)
        features = sharding.device_put_rows(self._mesh, self._host, rows, of_batches)
        return sharding.device_put(self._mesh, drawn, MEMBER_SPEC), features
