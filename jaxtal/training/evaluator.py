"""Evaluate models: forward passes over test videos in length buckets, localization and mAP."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from jaxtal.data.dataset import Dataset, TimeGrid, Video, multi_hot
from jaxtal.data.segments import Segments, clip
from jaxtal.errors import ConfigError, JaxtalError
from jaxtal.evaluation import detection_map, protocols
from jaxtal.evaluation.protocols import OFFICIAL, Protocol
from jaxtal.input_pipeline.packing import (
    PackedVideos,
    gather,
    length_buckets,
    subsampled_batch_indices,
)
from jaxtal.input_pipeline.placement import PlacedVideos, prefetch
from jaxtal.localization import proposals
from jaxtal.localization.scoring import check_finite
from jaxtal.methods.base import STREAM_ATTENTIONS, Method
from jaxtal.nn.layers import cast_params
from jaxtal.parallel import multihost, sharding
from jaxtal.parallel.mesh import DATA, MEMBER, make_mesh
from jaxtal.parallel.sharding import vmap_members


def forward(
    method: Method, model: nn.Module, precision: str
) -> Callable[..., dict[str, jax.Array]]:
    """Build the test-time forward pass of one model, for evaluation, prediction and export.

    Args:
        method: the method.
        model: the method's network.
        precision: `config.precision`.

    Returns:
        A traceable function of the variables, features [B, T, 2D] float32 (0 outside the mask) and
        mask [B, T], which returns {name: [B, T, n]} for those of `method.output_names` that the
        network has.
    """

    def outputs_of(variables: dict, features: jax.Array, mask: jax.Array) -> dict:
        variables = {**variables, "params": cast_params(variables["params"], precision)}
        outputs: Any = model.apply(variables, features, mask, train=False)
        absent = {*STREAM_ATTENTIONS} - {*outputs}
        return {name: outputs[name] for name in method.output_names if name not in absent}

    return outputs_of


def evaluation_fn(
    method: Method, model: nn.Module, config: ConfigDict, mesh: Mesh
) -> jax.stages.Wrapped:
    """Build the jitted forward pass of all members over a batch of test videos.

    Args:
        method: the method.
        model: the method's network.
        config: the whole config of the run.
        mesh: members are divided over its axis `member`, videos over `data`.

    Returns:
        A function of the variables, arrays [M, ...]; the packed test videos; `videos`, `rows` and
        `time` of `subsampled_batch_indices`; and the features [B, T, 2D] if they are streamed, else
        None. It returns the outputs, {name: [M, B, T, n]}.
    """
    outputs_of = forward(method, model, config.precision)
    sharded = config.mesh.features == "sharded"

    def of_one(time, variables, data: PackedVideos, videos, rows, streamed):
        drawn, _ = subsampled_batch_indices(data.videos, videos, rows, time=time)
        batch = gather(data, drawn, streamed, sharded)
        return outputs_of(variables, batch.features, batch.mask)

    def of_members(variables, data, videos, rows, streamed, *, time: int):
        axes = (0, None, None, None, None)
        of_all = vmap_members(functools.partial(of_one, time), config.population, axes, mesh)
        return of_all(variables, data, videos, rows, streamed)

    divided = NamedSharding(mesh, P(MEMBER, DATA))
    return jax.jit(of_members, static_argnames="time", out_shardings=divided)


class Evaluator:
    """A compiled forward pass of all members over a fixed list of videos.

    Videos of fewer than `config.data.min_snippets` snippets are skipped: they have no outputs and
    no detections.

    Args:
        method: the method.
        model: the method's network.
        videos: the videos, with features (T, 2D).
        config: the whole config of the run.
        placed: the same videos, packed and placed.
        mesh: the devices; the first local device by default.
    """

    def __init__(
        self,
        method: Method,
        model: nn.Module,
        videos: Sequence[Video],
        config: ConfigDict,
        placed: PlacedVideos,
        mesh: Mesh | None = None,
    ):
        self._mesh = mesh = mesh or make_mesh(jax.local_devices(), 1, 1)
        lengths = np.array([len(video.features) for video in videos])
        self._rows = np.clip(lengths, *method.test_length_limits(config))
        included = lengths >= config.data.min_snippets
        self._batches = [
            (
                time,
                members,
                *sharding.device_put(mesh, (members.astype(np.int32), self._rows[members])),
            )
            for time, members in length_buckets(self._rows, included, mesh.shape[DATA])
        ]
        self._placed = placed
        self._compiled: dict[int, Any] = {}
        self._members = config.population
        self._forward = evaluation_fn(method, model, config, mesh)
        self._draw = jax.jit(subsampled_batch_indices, static_argnames="time")

    def _feed(self) -> Iterable[jax.Array | None]:
        """Return the features of each batch, None where they are on the device."""
        host = self._placed.host
        if host is None:
            return [None] * len(self._batches)

        index = jax.tree.map(np.asarray, self._placed.data.videos)

        def load(number: int) -> jax.Array:
            time, videos, *_ = self._batches[number]
            rows = np.asarray(self._draw(index, videos, self._rows[videos], time=time)[1])
            return sharding.device_put_rows(self._mesh, host, rows, P(DATA))

        return prefetch(range(len(self._batches)), load)

    def compile(self, variables: Mapping[str, Any]) -> None:
        """Compile the forward pass of every bucket ahead of time.

        Args:
            variables: {"params": ..., ...}, arrays [M, ...].
        """
        host = self._placed.host
        # One compiled function per padded length, regardless of the number of batches.
        for time, videos, *batch in self._batches:
            if time not in self._compiled:
                streamed = None
                if host is not None:
                    shape = (len(videos), time, host.shape[1])
                    divided = NamedSharding(self._mesh, P(DATA))
                    streamed = jax.ShapeDtypeStruct(shape, host.dtype, sharding=divided)
                arguments = (variables, self._placed.data, *batch, streamed)
                self._compiled[time] = self._forward.lower(*arguments, time=time).compile()

    def __call__(self, variables: Mapping[str, Any]) -> list[list[dict[str, np.ndarray]]]:
        """Compute all members' outputs for every video.

        Args:
            variables: {"params": ..., ...}, arrays [M, ...].

        Returns:
            For each member a list with the outputs of each video, {name: (T, n)} without padding;
            {} for a skipped video.
        """
        # All batches are dispatched before the first is fetched, so that the host never waits.
        pending = [
            self._compiled[time](variables, self._placed.data, *batch, streamed)
            for (time, _, *batch), streamed in zip(self._batches, self._feed(), strict=True)
        ]
        result: list[list[dict]] = [[{} for _ in self._rows] for _ in range(self._members)]
        fetched = sharding.device_get(pending)
        for (_, videos, *_), outputs in zip(self._batches, fetched, strict=True):
            for row, video in enumerate(videos):
                for member in range(self._members if video >= 0 else 0):
                    result[member][video] = {
                        name: out[member, row, : self._rows[video]] for name, out in outputs.items()
                    }
        return result


def average_outputs(members: Sequence[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """Average the outputs of several models for every video, as an ensemble does.

    Args:
        members: for each model the outputs of all videos, as returned by `Evaluator`.

    Returns:
        The mean outputs of each video, {name: (T, n)}.
    """
    return [
        {name: np.mean([own[name] for own in outputs], axis=0) for name in outputs[0]}
        for outputs in zip(*members, strict=True)
    ]


def pick_protocols(method: Method, dataset: Dataset, name: str = "") -> tuple[Protocol, Protocol]:
    """Return the protocol of the result, and the official protocol of the data set.

    Args:
        method: selects the default protocol.
        dataset: its name selects both protocols.
        name: name of the wanted protocol; "" for the protocol of the method's authors.

    Raises:
        ConfigError: there is no protocol of that name.
    """
    official = OFFICIAL.get(dataset.name, "official")
    name = name or method.protocols.get(dataset.name, method.default_protocol) or official
    try:
        return protocols.get(name), protocols.get(official)
    except JaxtalError as error:
        raise ConfigError(f"config.evaluation.protocol: {error}") from None


def localize(
    method: Method,
    config: ConfigDict,
    outputs: Sequence[dict[str, np.ndarray]],
    snippets: Sequence[int] | np.ndarray,
    grid: TimeGrid,
) -> Segments:
    """Localize actions in all videos.

    Args:
        method: the method.
        config: the whole config of the run.
        outputs: for each of V videos {name: (T, n)}, as returned by `Evaluator`; {} for a video
            without detections.
        snippets: (V,) number of snippets of each video; the rows of its outputs are spread over
            them.
        grid: time grid of all videos, or one per video, as returned by `TimeGrid.of`.

    Returns:
        The detections, in seconds.

    Raises:
        NonFiniteError: an output is not finite.
    """
    _check_finite(method, outputs)
    spec = method.score_spec(config)
    scores = (spec.compute(output) if output else None for output in outputs)
    rows = [
        max((len(output[name]) for name in method.localization_inputs if output), default=1)
        for output in outputs
    ]
    settings = method.localization_config_cls(**config.localization)
    return proposals.localize_videos(scores, rows, snippets, grid, settings)


def _check_finite(method: Method, outputs: Sequence[dict]) -> None:
    for index, output in enumerate(outputs):
        if output:
            where = f"evaluated video {index} (counted from 0)"
            check_finite(output, method.localization_inputs, where)


def _localize_on_all_processes(
    method: Method, config: ConfigDict, outputs: Sequence[dict], snippets: list[int], grid: TimeGrid
) -> Segments:
    """Localize actions, with the videos divided over the processes of a job."""
    if jax.process_count() == 1:
        return localize(method, config, outputs, snippets, grid)
    _check_finite(method, outputs)
    # Localization runs on the host, independently per video: a process handles every n-th video.
    mine = range(jax.process_index(), len(outputs), jax.process_count())
    shared = [output if index in mine else {} for index, output in enumerate(outputs)]
    found = localize(method, config, shared, snippets, grid)
    columns = dataclasses.asdict(found)
    found = Segments(**{name: multihost.all_gather_rows(x) for name, x in columns.items()})
    return found.take(np.argsort(found.video, kind="stable"))


def evaluate_outputs(
    method: Method, config: ConfigDict, dataset: Dataset, outputs: Sequence[dict[str, np.ndarray]]
) -> tuple[dict[str, Any], Segments]:
    """Localize actions in all test videos and evaluate the detections.

    Args:
        method: the method.
        config: the whole config of the run.
        dataset: the data set, with the features of its test videos.
        outputs: {name: (T, n)} for each test video, as returned by `Evaluator`; a video with {} has
            no detections, but its instances count as missed.

    Returns:
        The result under the method's protocol, with `classification_map` and, under "official",
        the result under the official protocol; and the detections, in seconds, cut at the ends of
        their videos. Without annotated instances the result has no mAP, and without labels no
        `classification_map`.
    """
    seen = [index for index, output in enumerate(outputs) if output]
    snippets = [len(video.features) for video in dataset.test]
    grids = dataset.grid.of(dataset.test)
    detections = _localize_on_all_processes(method, config, outputs, snippets, grids)
    detections = clip(detections, [video.duration for video in dataset.test])
    count = len(dataset.classes)
    labels = multi_hot(dataset.test, count)[seen]
    result: dict[str, Any] = {}
    if dataset.has_ground_truth:
        result, official = (
            detection_map.evaluate(
                dataset.test, detections, protocol, count, dataset.grid
            ).summary()
            for protocol in pick_protocols(method, dataset, config.evaluation.protocol)
        )
    if dataset.has_ground_truth or labels.any():
        scores = np.stack([method.video_scores(outputs[index], config) for index in seen])
        result["classification_map"] = detection_map.classification_map(scores, labels)
    if dataset.has_ground_truth:
        result["official"] = official
    return result, detections
