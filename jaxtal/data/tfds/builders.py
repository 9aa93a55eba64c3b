"""TFDS builders of the field's data sets and of generated videos; TensorFlow is not needed.

    import jaxtal.data.tfds.builders  # registers them
    builder = tfds.builder("jaxtal_untrimmed/demo")
    builder.download_and_prepare()
    videos = builder.as_data_source("train")
    features = prepared.from_bytes(videos[0]["features"], videos[0]["dtype"].decode())

A record holds features as bytes, because TFDS has one type for all records of a data set and we
keep the source's: `features` is (T, bytes) uint8, `dtype` what to view them as. Class names, the
time grid and all annotations are in `builder.info.metadata`, in ActivityNet form; class indices
are positions in its "classes".
"""

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tensorflow_datasets.core.utils import tqdm_utils

from jaxtal.data.dataset import NO_FEATURES, Video
from jaxtal.data.io.files import check_name, check_unique
from jaxtal.data.lazy_dataset import LazyDataset, check_width
from jaxtal.data.synthetic.annotations import annotations
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.data.synthetic.features import World, generate_video
from jaxtal.data.tfds import reader, records
from jaxtal.data.tfds.records import record
from jaxtal.errors import DataError

_PER_SHARD = 128  # videos; of THUMOS14's float32 features about 350 MB
_SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class BuilderOptions:
    """How the files in the manual folder are read.

    Attributes:
        layout: its name, as `jaxtal data inspect --help` lists them; "" for what is recognized.
        name: <DS> of the files' names; "" for the builder's own.
        fps, stride, window: the features' time grid; 0 for what the data set or layout says.
        skip_damaged: leave out videos whose features are missing or damaged.
    """

    layout: str = ""
    name: str = ""
    fps: float = 0.0
    stride: float = 0.0
    window: float = 0.0
    skip_damaged: bool = False


class _Untrimmed(FileReaderBuilder):
    """What the builders share: from a `LazyDataset` to records, one video in memory at a time."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = ""

    def __init__(self, *, reading: BuilderOptions | None = None, **options: Any):
        self._reading = reading or BuilderOptions()
        super().__init__(**{"file_format": "array_record", **options})

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=record(),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    @abc.abstractmethod
    def _source(self, dl_manager) -> LazyDataset:
        """What is prepared."""

    # Not TFDS's own writer, which keeps 1 GB of examples and needs TensorFlow above that.
    def _download_and_prepare(self, dl_manager, download_config) -> None:
        if self.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise DataError(
                f"{self.name}: file format {self.info.file_format.value}; wanted array_record, "
                "which is read at random and without TensorFlow"
            )
        contents = _Contents(self._source(dl_manager), self._reading.skip_damaged)
        # An info of its own, because the writer writes where it says: now a temporary folder.
        info = self._info()
        writer = tfds.core.SequentialWriter(info, _PER_SHARD, file_format="array_record")
        writer.initialize_splits([*_SPLITS])
        for split in _SPLITS:
            examples = contents.examples(split)
            limit = download_config.max_examples_per_split
            writer.add_examples({split: itertools.islice(examples, limit)})
        writer.close_all()
        self.info.set_splits(info.splits)
        self.info.metadata.update(contents.metadata())


class _Contents:
    """The videos of a source as records, and what metadata.json says of those written."""

    def __init__(self, source: LazyDataset, skip_damaged: bool):
        check_unique([video.name for video in source.videos], f"{source.path}")
        self._source, self._skip_damaged = source, skip_damaged
        self._kept: dict[str, list[Video]] = {split: [] for split in _SPLITS}
        self._headers: dict[str, dict[str, Any]] = {}
        self._like: tuple[str, int] | None = None

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """The records of a split; DataError for damaged features or if there is none."""
        for video in self._videos(split):
            self._like = check_width(video, f"{self._source.path}", self._like)
            self._headers[video.name] = records.header(video.features)
            self._kept[split].append(dataclasses.replace(video, features=NO_FEATURES))
            yield self._example(video)
        if not self._kept[split]:
            raise DataError(
                f"{self._source.path}: no {split} video with features; wanted some of both splits"
            )

    def _videos(self, split: str) -> Iterable[Video]:
        whole = self._source.dataset
        train, test = (
            videos if split == own else ()
            for own, videos in zip(_SPLITS, (whole.train, whole.test), strict=True)
        )
        dataset = dataclasses.replace(whole, train=train, test=test)
        part = dataclasses.replace(self._source, dataset=dataset)
        return tqdm_utils.tqdm(
            part.iter_videos(self._skip_damaged),
            desc=f"Preparing {split} videos...",
            unit=" videos",
            total=len(part.videos),
            leave=False,
            mininterval=1.0,
        )

    def _example(self, video: Video) -> dict[str, Any]:
        fps = self._source.dataset.grid.fps if video.fps is None else video.fps
        return {
            "name": video.name,
            "features": records.to_bytes(video.features),
            "dtype": video.features.dtype.name,
            "duration": np.float64(video.duration),
            "fps": np.float64(fps),
            "labels": video.labels.astype(np.int64),
            "segments": video.segments.astype(np.float64),
            "segment_labels": video.segment_labels.astype(np.int64),
            "ambiguous": video.ambiguous.astype(np.float64),
        }

    def metadata(self) -> dict[str, Any]:
        """Once all records are written: the content of metadata.json."""
        train, test = (tuple(self._kept[split]) for split in _SPLITS)
        dataset = dataclasses.replace(self._source.dataset, train=train, test=test)
        left_out = [v.name for v in self._source.videos if v.name not in self._headers]
        return reader.metadata(dataset, self._headers, self._source, left_out)


class _FromFiles(_Untrimmed):
    """Reads whatever layout lies in the manual folder."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the annotations and the features (.npy) of the data set into one folder, the manual_dir, in
    any layout that jaxtal data inspect --help lists. The commonest, of W-TALC, CO2-Net and D2-Net:
    <DS>-I3D-JOINTFeatures.npy beside <DS>-Annotations/, with <DS> Thumos14reduced, ActivityNet1.2
    or ActivityNet1.3. Others: the same with gt.json (HAM-Net); gt.json, split_train.txt and
    split_test.txt with features/ (BaSNet, CoLA) or train/ and test/ (ACM-Net, ASM-Loc);
    annotations/ with i3d_features/ (ActionFormer) or features/ (OpenTAD).
    """

    @abc.abstractmethod
    def _called(self) -> str:
        """What the data set itself is called, by which its protocols are chosen."""

    def _source(self, dl_manager) -> LazyDataset:
        from jaxtal.data import layouts

        how, folder = self._reading, Path(dl_manager.manual_dir)
        usual = self._called() * (folder / f"{self._called()}-Annotations").is_dir()
        source = layouts.read(
            folder, how.layout, how.name or usual, how.fps, how.stride, how.window
        )
        name = self._called() or source.dataset.name
        return dataclasses.replace(source, dataset=dataclasses.replace(source.dataset, name=name))


class JaxtalThumos14(_FromFiles):
    """THUMOS14's 20 classes with temporal annotations, validation and test videos."""

    DESCRIPTION = "THUMOS14 for temporal action localization: snippet features of two streams."

    def _called(self) -> str:
        return "Thumos14reduced"


class JaxtalActivitynet(_FromFiles):
    """ActivityNet 1.2 or 1.3, training and validation videos."""

    DESCRIPTION = "ActivityNet for temporal action localization: snippet features of two streams."
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"ActivityNet {name}")
        for name in ("1.3", "1.2")
    ]

    def _called(self) -> str:
        return f"ActivityNet{self.builder_config.name}"


class JaxtalVideos(_FromFiles):
    """Any other data set, with config=named("what it is called")."""

    DESCRIPTION = "Untrimmed videos for temporal action localization."

    def _called(self) -> str:
        return self.builder_config.name if self.builder_config else ""


def named(name: str) -> tfds.core.BuilderConfig:
    """A configuration of `JaxtalVideos`: what a data set of one's own is called.

    Raises:
        DataError: no folder can be called so.
    """
    if not name:
        raise DataError("jaxtal_videos: no name; say jaxtal_videos/NAME for the data set NAME")
    return tfds.core.BuilderConfig(name=check_name(name, "the name of the data set"))


@dataclasses.dataclass(eq=False)
class GeneratorConfig(tfds.core.BuilderConfig):
    """Which untrimmed videos are generated.

    Attributes:
        generator: every property of the generator.
    """

    generator: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)


class JaxtalUntrimmed(_Untrimmed):
    """Generated untrimmed videos; others with config=GeneratorConfig(name=..., generator=...)."""

    DESCRIPTION = "Generated features of untrimmed videos: easy to label, hard to localize."
    BUILDER_CONFIGS: ClassVar = [
        GeneratorConfig(
            name="demo",
            description="The videos of configs/co2net_demo.py.",
            generator=PRESETS["demo"],
        ),
        GeneratorConfig(
            name="thumos14",
            description="As many videos and classes as THUMOS14, as long and as wide.",
            generator=PRESETS["thumos14"],
        ),
    ]

    def _source(self, dl_manager) -> LazyDataset:
        return generated(self.builder_config.generator)


def generated(config: SyntheticConfig) -> LazyDataset:
    """What `config` describes, each video generated when it is asked for."""
    path = Path(config.annotations or "generator")
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))

    def features(video: Video) -> np.ndarray:
        return generate_video(config, world, video, dataset.grid).features

    return LazyDataset("generator", path, dataset, features)


BUILDERS = (JaxtalThumos14, JaxtalActivitynet, JaxtalVideos, JaxtalUntrimmed)
