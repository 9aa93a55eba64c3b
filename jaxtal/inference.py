"""The model over test videos, in length buckets, and what comes of it: results."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtal import evaluation, localization, protocols
from jaxtal.data.dataset import Dataset, TimeGrid, multi_hot
from jaxtal.errors import NotFiniteError, UserError
from jaxtal.feeding import Placed, prefetched
from jaxtal.methods.method import Method
from jaxtal.protocols import Protocol
from jaxtal.sampling import Batch, Draw, Index, PackedVideos, evenly, gather, locate
from jaxtal.segments import Segments
from jaxtal.step import in_precision, over_members

_SHORTEST = 64  # rows in the smallest bucket
_PER_BATCH = 8192  # rows in a batch, unless a single video is longer

_OFFICIAL = {
    "Thumos14reduced": "thumos14",
    "Thumos14": "thumos14",
    "ActivityNet1.2": "anet12",
    "ActivityNet1.3": "anet13",
}


def length_buckets(lengths: np.ndarray, included: Any = True) -> list[tuple[int, np.ndarray]]:
    """Group videos into batches of one padded length each.

    Args:
        lengths: (V,) rows of every video.
        included: (V,) bool or one for all; others are in no batch.

    Returns:
        [(T, (B,) video indices)]: T is a power of two, B the same for every batch of a T; an index
        of -1 fills up a batch. As many programs are compiled as there are different T.
    """
    padded = np.maximum(_SHORTEST, 2 ** np.ceil(np.log2(lengths)).astype(int))
    batches = []
    padded = np.where(included, padded, 0)
    for time in np.unique(padded[padded > 0]):
        members = np.flatnonzero(padded == time)
        size = min(len(members), max(1, _PER_BATCH // time))
        members = np.pad(members, (0, -len(members) % size), constant_values=-1)
        batches += [(int(time), row) for row in members.reshape(-1, size)]
    return batches


class Inference:
    """A compiled forward pass of all members over a fixed list of videos.

    Videos of fewer than `config.data.min_snippets` are left out: they have no outputs, so no
    detections.
    """

    def __init__(self, method: Method, model, videos, config, placed: Placed):
        lengths = np.array([len(video.features) for video in videos])
        self._rows = np.asarray(method.rows(lengths, config))
        self._batches = [
            (time, members, jnp.asarray(members), jnp.asarray(self._rows[members]))
            for time, members in length_buckets(self._rows, lengths >= config.data.min_snippets)
        ]
        self._placed = placed
        self._model, self._names, self._precision = model, method.outputs, config.precision
        self._compiled: dict[int, Any] = {}
        self._members = config.population
        self._forward = jax.jit(self._of_members, static_argnames="time")
        self._draw = jax.jit(self._draw_rows, static_argnames="time")

    def _draw_rows(self, index: Index, videos, rows, *, time: int):
        drawn = Draw(videos, evenly(index.lengths[videos], rows, time))
        return drawn, locate(index, drawn)[0]

    def _of_members(self, variables, data: PackedVideos, videos, rows, streamed, *, time: int):
        drawn, _ = self._draw_rows(data.videos, videos, rows, time=time)
        batch = gather(data, drawn, streamed)

        def forward(variables, batch: Batch) -> dict:
            params = in_precision(variables["params"], self._precision)
            variables = {**variables, "params": params}
            outputs = self._model.apply(variables, batch.features, batch.mask, train=False)
            return {name: outputs[name] for name in self._names}

        return over_members(forward, self._members, (0, None))(variables, batch)

    def _feed(self):
        """Features for each batch, or None where they are on the device."""
        host = self._placed.host
        if host is None:
            return [None] * len(self._batches)

        def load(number: int) -> np.ndarray:
            time, _, *batch = self._batches[number]
            return host[np.asarray(self._draw(self._placed.data.videos, *batch, time=time)[1])]

        return prefetched(range(len(self._batches)), load)

    def compile(self, variables) -> None:
        """Compile every bucket's program ahead of time."""
        host = self._placed.host
        for time, videos, *batch in self._batches:
            if time not in self._compiled:
                streamed = None
                if host is not None:
                    shape = (len(videos), time, host.shape[1])
                    streamed = jax.ShapeDtypeStruct(shape, host.dtype)
                arguments = (variables, self._placed.data, *batch, streamed)
                self._compiled[time] = self._forward.lower(*arguments, time=time).compile()

    def __call__(self, variables) -> list[list[dict[str, np.ndarray]]]:
        """All members' outputs for every video.

        Args:
            variables: {"params": ..., ...}, leaves [M, ...].

        Returns:
            For each member a list: of each video its outputs, each (T, ...) with the padding cut
            off, or {} for one left out.
        """
        pending = [
            self._compiled[time](variables, self._placed.data, *batch, streamed)
            for (time, _, *batch), streamed in zip(self._batches, self._feed(), strict=True)
        ]
        result: list[list[dict]] = [[{} for _ in self._rows] for _ in range(self._members)]
        fetched = jax.device_get(pending)
        for (_, videos, *_), outputs in zip(self._batches, fetched, strict=True):
            for row, video in enumerate(videos):
                for member in range(self._members if video >= 0 else 0):
                    result[member][video] = {
                        name: out[member, row, : self._rows[video]] for name, out in outputs.items()
                    }
        return result


def pick_protocols(method: Method, dataset: Dataset, name: str = "") -> tuple[Protocol, Protocol]:
    """The protocol that makes the result, and the official one beside it.

    Args:
        name: the protocol asked for; "" for the one of the method's authors.
    """
    official = _OFFICIAL.get(dataset.name, "official")
    name = name or method.protocols.get(dataset.name, method.default_protocol) or official
    try:
        return protocols.get(name), protocols.get(official)
    except UserError as error:
        raise UserError(f"config.evaluation.protocol: {error}") from None


def localize(method: Method, config, outputs, snippets, grid: TimeGrid) -> Segments:
    """Detections in all videos, in seconds.

    Args:
        outputs: of `Inference`; a video without outputs has no detections.
        snippets: (V,) number of snippets of each video, which its outputs' rows are spread over.
        grid: where snippets lie in time.

    Raises:
        NotFiniteError: an output is not finite.
    """
    for index, output in enumerate(outputs):
        for name in method.localized if output else ():
            if not np.isfinite(output[name]).all():
                raise NotFiniteError(
                    f"the model's {name} of test video {index} (counted from 0) is not finite: "
                    "training has diverged; lower config.optimizer.learning_rate and train again"
                )
    settings = method.localization(**config.localization)
    evidence = (method.evidence(output, config) if output else None for output in outputs)
    detections = localization.suppress(localization.propose_all(evidence, settings), settings)
    rows = [
        max((len(output[name]) for name in method.localized if output), default=1)
        for output in outputs
    ]
    scale = (np.asarray(snippets) / rows)[detections.video]
    return detections.with_times(lambda rows: grid.to_seconds(rows * scale))


def assess(method: Method, config, dataset: Dataset, outputs) -> tuple[dict, Segments]:
    """Localise in every test video and evaluate.

    Args:
        outputs: of `Inference` on `dataset.test`; a video without outputs has no detections, but
            its ground truth counts.

    Returns:
        The result under the method's protocol, with `classification_map` and, under "official",
        the official one's; and the detections, in seconds.
    """
    seen = [index for index, output in enumerate(outputs) if output]
    snippets = [len(video.features) for video in dataset.test]
    detections = localize(method, config, outputs, snippets, dataset.grid)
    count = len(dataset.classes)
    first, second = (
        evaluation.evaluate(dataset.test, detections, protocol, count, dataset.grid).summary()
        for protocol in pick_protocols(method, dataset, config.evaluation.protocol)
    )
    scores = np.stack([method.video_scores(outputs[index], config) for index in seen])
    first["classification_map"] = evaluation.classification_map(
        scores, multi_hot(dataset.test, count)[seen]
    )
    return {**first, "official": second}, detections
