"""The model over test videos, in length buckets, and what comes of it: results."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtal import evaluation, localization, protocols
from jaxtal.buckets import length_buckets
from jaxtal.data.dataset import Dataset, TimeGrid, multi_hot
from jaxtal.errors import UserError
from jaxtal.evidence import check_finite
from jaxtal.feeding import Placed, prefetched
from jaxtal.methods.method import Method
from jaxtal.protocols import Protocol
from jaxtal.sampling import Draw, Index, PackedVideos, evenly, gather, locate
from jaxtal.segments import Segments
from jaxtal.step import in_precision, over_members

_OFFICIAL = {
    "Thumos14reduced": "thumos14",
    "Thumos14": "thumos14",
    "ActivityNet1.2": "anet12",
    "ActivityNet1.3": "anet13",
}


def forward(method: Method, model, precision: str):
    """The model at test time, as evaluations, predictions and exported files have it.

    Returns:
        A function of one model's variables, features [B, T, 2D] float32, 0 outside the mask, and
        mask [B, T], to be traced: {name: [B, T, n]} of `method.outputs`.
    """

    def outputs_of(variables: dict, features: jax.Array, mask: jax.Array) -> dict:
        variables = {**variables, "params": in_precision(variables["params"], precision)}
        outputs = model.apply(variables, features, mask, train=False)
        return {name: outputs[name] for name in method.outputs}

    return outputs_of


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
        of_one = forward(method, model, config.precision)
        self._outputs = over_members(of_one, config.population, (0, None, None))
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
        return self._outputs(variables, batch.features, batch.mask)

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


def averaged(members: Sequence[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """The mean of several models' outputs for every video: an ensemble's.

    Args:
        members: of each model the outputs of all videos, as of `Inference`.
    """
    return [
        {name: np.mean([own[name] for own in outputs], axis=0) for name in outputs[0]}
        for outputs in zip(*members, strict=True)
    ]


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
        grid: where snippets lie in time, of all videos or, as by `TimeGrid.of`, of each.

    Raises:
        NotFiniteError: an output is not finite.
    """
    for index, output in enumerate(outputs):
        if output:
            check_finite(output, method.localized, f"test video {index} (counted from 0)")
    evidence = (method.evidence(output, config) if output else None for output in outputs)
    rows = [
        max((len(output[name]) for name in method.localized if output), default=1)
        for output in outputs
    ]
    settings = method.localization(**config.localization)
    return localization.localize_all(evidence, rows, snippets, grid, settings)


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
    grids = dataset.grid.of(dataset.test)
    detections = localize(method, config, outputs, snippets, grids)
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
