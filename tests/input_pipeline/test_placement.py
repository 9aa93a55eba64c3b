"""Placement of features, and equality of streamed batches with batches sampled on the device."""

import contextlib
import ctypes
import functools
import gc
import importlib
import itertools
import os
import threading
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from jaxtal import methods
from jaxtal.data.dataset import Video
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline import placement
from jaxtal.input_pipeline.packing import gather
from jaxtal.input_pipeline.sampling import sample_batch_indices
from jaxtal.parallel.sharding import vmap_members
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state, train_steps
from tests.methods import toy, toy_config

C, WIDTH = 3, 8


def config_of(name: str = "co2net"):
    config = importlib.import_module(f"configs.{name}_demo").get_config()
    config.data.num_snippets, config.train.batch_size = 12, 6
    return config


def videos(dtype=np.float16, scale: float = 1) -> tuple[Video, ...]:
    rng = np.random.default_rng(0)
    empty = np.empty((0, 2))
    made = tuple(
        Video(f"v{i}", 1.0, np.array([i % C]), empty, empty[:, 0], empty,
              (scale * rng.random((5 + 3 * i, WIDTH))).astype(dtype))
        for i in range(9)
    )  # fmt: skip
    made[4].features[2] = 0
    return made


def packed(videos) -> np.ndarray:
    return np.concatenate([video.features for video in videos])


@pytest.mark.parametrize("dtype", ["", "float32", "float16", "bfloat16"])
def test_features_are_kept_in_the_configured_type(dtype, caplog):
    caplog.set_level("INFO", "jaxtal")
    config = config_of()
    config.data.device_dtype = dtype
    placed = placement.place_features(videos(), C, config, "training")
    features = placed.data.features
    assert placed.host is None
    assert features.dtype == jnp.dtype(dtype or "float16")
    np.testing.assert_array_equal(features, packed(videos()).astype(features.dtype))
    assert "training features: 0 MiB" in caplog.text


def test_too_large_for_the_type_is_an_error():
    config = config_of()
    config.data.device_dtype = "float16"
    with pytest.raises(JaxtalError, match=r"a feature of v0 is .*e\+0[67], too large .* bfloat16"):
        placement.place_features(videos(np.float32, 1e7), C, config, "training")
    config.data.device_dtype = "bfloat16"
    placement.place_features(videos(np.float32, 1e7), C, config, "training")


def test_features_that_do_not_fit_stay_on_the_host(monkeypatch, caplog):
    caplog.set_level("INFO", "jaxtal")
    config, size = config_of(), packed(videos()).nbytes
    monkeypatch.setattr(placement, "device_memory", lambda: 4 * size)
    config.data.device_share = 0.5
    assert placement.place_features(videos(), C, config, "test", used=size).host is None
    placed = placement.place_features(videos(), C, config, "test", used=size + 1)
    assert placed.data.features is None
    np.testing.assert_array_equal(placed.host, packed(videos()))
    out = " ".join(caplog.messages)
    assert "do not fit beside 0 MiB into config.data.device_share=0.5 of the device's" in out
    assert "streamed by the host" in out


def test_the_device_has_memory():
    assert 2**28 < placement.device_memory() < 2**50


@pytest.mark.parametrize("name", ["co2net", "d2net", "twostream"])
def test_streamed_batches_equal_those_sampled_on_the_device(name):
    """Bit by bit, for two members, in the order of the steps; D2-Net masks zero snippets."""
    config, method = config_of(name), methods.get(name)
    resident = placement.place_features(videos(), C, config, "training").data
    config.data.device_share = 0
    placed = placement.place_features(videos(), C, config, "training")
    stream = placement.HostStream(placed, method, config, np.array([3, 8], np.uint32))
    steps = range(2, 9)
    seen = 0
    for step, (drawn, rows) in zip(steps, placement.prefetch(steps, stream.load), strict=True):
        for member, seed in enumerate((3, 8)):
            one = jax.tree.map(lambda leaf, m=member: leaf[m, 0], drawn)
            batch = gather(placed.data, one, rows[member, 0])
            wanted = gather(
                resident,
                sample_batch_indices(
                    jnp.uint32(seed), jnp.int32(step), resident.videos, method.sample, config
                ),
            )
            for value, other in zip(batch, wanted, strict=True):
                np.testing.assert_array_equal(value, other)
            seen += int(batch.mask.sum())
    assert seen > 100


def test_streamed_steps_equal_those_on_the_device():
    config, method = toy_config.get_config(), toy.METHOD
    config.data.num_snippets, config.train.batch_size = 12, 6
    resident = placement.place_features(videos(), C, config, "training").data
    config.data.device_share = 0
    placed = placement.place_features(videos(), C, config, "training")
    model, hyper = method.build(config.model, C), hyperparams_from_config(config)
    hyper = jax.tree.map(lambda leaf: leaf[None], hyper)
    begin = vmap_members(functools.partial(init_state, model, feature_width=WIDTH), 1, (0,))
    one = functools.partial(train_steps, steps=1, model=model, method=method, config=config)
    one = jax.jit(vmap_members(one, 1, (0, 0, None, None, 0)))
    stream = placement.HostStream(placed, method, config, np.asarray(hyper.seed))
    streamed = here = begin(hyper)
    for step, batch in enumerate(placement.prefetch(range(3), stream.load)):
        stop = jnp.int32(step + 1)
        streamed, mean, _ = one(streamed, hyper, stop, placed.data, batch)
        here, wanted, _ = one(here, hyper, stop, resident, None)
        np.testing.assert_allclose(mean["loss"], wanted["loss"], rtol=1e-5)
    assert placed.data.features is None
    assert int(streamed.step[0]) == 3


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_prefetched_results_are_in_order():
    """The order is kept if a later result is ready first."""

    def load(step: int) -> int:
        time.sleep(0.02 * (step % 2 == 0))
        return step

    assert list(placement.prefetch(range(3, 20), load)) == [*range(3, 20)]
    assert list(placement.prefetch([], load)) == []
    assert prefetch_threads() == []


def test_prefetching_is_bounded():
    """Items may be infinite; they are loaded concurrently, in other threads."""
    loading, both = [], threading.Barrier(2, timeout=10)

    def load(step: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        loading.append(step)
        if step < 2:
            both.wait()
        return step

    loaded = placement.prefetch(itertools.count(), load, ahead=2)
    assert loading == []
    assert next(loaded) == 0
    assert next(loaded) == 1
    loaded.close()
    assert {0, 1} <= set(loading) <= {0, 1, 2, 3}
    assert prefetch_threads() == []


@pytest.mark.parametrize("end", ["close", "del", "an error in the consumer"])
def test_prefetching_ends_with_its_consumer(end):
    """Calls in progress finish, and no call begins."""
    begun, ended = [], []

    def load(step: int) -> int:
        begun.append(step)
        time.sleep(0.05)
        ended.append(step)
        return step

    def take() -> None:
        loaded = placement.prefetch(range(1000), load, ahead=20)
        next(loaded)
        if end == "close":
            loaded.close()
        elif end == "an error in the consumer":
            raise KeyError("mine")

    with contextlib.suppress(KeyError):
        take()
    gc.collect()
    assert prefetch_threads() == []
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 10


def test_errors_in_prefetching_threads_are_raised():
    """The error is raised in place of its result and ends the iteration."""

    def load(step: int) -> int:
        if step == 2:
            raise ValueError(f"step {step} cannot be read")
        return step

    loaded = placement.prefetch(range(1000), load)
    assert [next(loaded), next(loaded)] == [0, 1]
    with pytest.raises(ValueError, match="step 2 cannot be read"):
        next(loaded)
    assert list(loaded) == []
    assert prefetch_threads() == []


def test_the_machine_memory_equals_psutil_s():
    assert placement._machine_memory() == psutil.virtual_memory().total


def test_the_memory_of_other_systems(monkeypatch):
    """Windows is queried where sysconf is missing; otherwise a small machine is assumed."""
    monkeypatch.delattr(os, "sysconf")
    assert placement._machine_memory() == placement._SMALL_MACHINE

    def installed(pointer) -> bool:
        pointer._obj.value = 32 * 2**20
        return True

    kernel = SimpleNamespace(GetPhysicallyInstalledSystemMemory=installed)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert placement._machine_memory() == 32 * 2**30
