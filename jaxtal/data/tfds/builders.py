"""TFDS builders of the field's data sets and of generated videos, without TensorFlow.

    import jaxtal.data.tfds.builders  # registers the builders
    from jaxtal.data.tfds.records import from_bytes
    builder = tfds.builder("jaxtal_untrimmed/demo")
    builder.download_and_prepare()
    videos = builder.as_data_source("train")
    features = from_bytes(videos[0]["features"], videos[0]["dtype"].decode())

Records store features as bytes, to keep the source's type, whereas TFDS has one type for all
records of a data set: `features` is (T, bytes) uint8, and `dtype` is the type of the features.
Class names, the time grid and all annotations are in `builder.info.metadata`, in ActivityNet form;
class indices are positions in its "classes".
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
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.data.synthetic.annotations import annotations
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.data.synthetic.features import World, generate_video
from jaxtal.data.tfds import reader, records
from jaxtal.data.tfds.records import record
from jaxtal.errors import DataError

_PER_SHARD = 128  # videos, about 350 MB of THUMOS14's float32 features


class _Untrimmed(FileReaderBuilder):
    """Base class: writes a `LazyDataset` as records, with one video in memory at a time."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = ""

    def __init__(
        self,
        *,
        reading: ReadingOptions = NOTHING_STATED,
        skip_damaged: bool = False,
        **options: Any,
    ):
        self._reading, self._skip_damaged = reading, skip_damaged
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
        """Return the data set to prepare."""

    # Not TFDS's own writer: it keeps up to 1 GB in memory, and needs TensorFlow beyond that.
    def _download_and_prepare(self, dl_manager, download_config) -> None:
        if self.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise DataError(
                f"{self.name}: file format {self.info.file_format.value}; wanted array_record, "
                "which allows random access without TensorFlow"
            )
        source = self._source(dl_manager)
        contents = _Contents(source, self._skip_damaged)
        splits = [split for split, videos in source.dataset.parts.items() if videos]
        # A separate info: the writer uses its data_dir, which is now a temporary folder.
        info = self._info()
        writer = tfds.core.SequentialWriter(info, _PER_SHARD, file_format="array_record")
        writer.initialize_splits(splits)
        for split in splits:
            examples = contents.examples(split)
            limit = download_config.max_examples_per_split
            writer.add_examples({split: itertools.islice(examples, limit)})
        writer.close_all()
        self.info.set_splits(info.splits)
        self.info.metadata.update(contents.metadata())


class _Contents:
    """Records of the videos of a source, and the metadata of the written records."""

    def __init__(self, source: LazyDataset, skip_damaged: bool):
        check_unique([video.name for video in source.videos], f"{source.path}")
        self._source, self._skip_damaged = source, skip_damaged
        self._kept: dict[str, list[Video]] = {split: [] for split in source.dataset.parts}
        self._headers: dict[str, dict[str, Any]] = {}
        self._like: tuple[str, int] | None = None

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the records of a split; DataError if features are damaged or none are kept."""
        for video in self._videos(split):
            self._like = check_width(
                video, f"{self._source.path}", self._like, self._source.dataset.stream_widths
            )
            self._headers[video.name] = records.header(video.features)
            self._kept[split].append(dataclasses.replace(video, features=NO_FEATURES))
            yield self._example(video)
        if not self._kept[split]:
            raise DataError(f"{self._source.path}: no {split} video with features; wanted some")

    def _videos(self, split: str) -> Iterable[Video]:
        whole = self._source.dataset
        parts = {own: videos if own == split else () for own, videos in whole.parts.items()}
        dataset = whole.with_parts(parts)
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
        """Return the content of metadata.json, after all records have been written."""
        dataset = self._source.dataset.with_parts(self._kept)
        skipped = [v.name for v in self._source.videos if v.name not in self._headers]
        return reader.metadata(dataset, self._headers, self._source, skipped)


class _FromFiles(_Untrimmed):
    """Base class of builders that read a data set in any layout from the manual folder."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put the annotations and the features (.npy) of the data set into one folder, the manual_dir, in
    any layout that jaxtal data inspect --help lists. The most common one (W-TALC, CO2-Net, D2-Net):
    <DS>-I3D-JOINTFeatures.npy beside <DS>-Annotations/, where <DS> is Thumos14reduced,
    ActivityNet1.2 or ActivityNet1.3. Others: the same with gt.json (HAM-Net); gt.json,
    split_train.txt and split_test.txt with features/ (BaSNet, CoLA) or train/ and test/ (ACM-Net,
    ASM-Loc); annotations/ with i3d_features/ (ActionFormer) or features/ (OpenTAD).
    """

    @abc.abstractmethod
    def _called(self) -> str:
        """Return the data set's name, which selects its evaluation protocols."""

    def _source(self, dl_manager) -> LazyDataset:
        from jaxtal.data import layouts

        how, folder = self._reading, Path(dl_manager.manual_dir)
        usual = self._called() * (folder / f"{self._called()}-Annotations").is_dir()
        source = layouts.read(folder, how, name=how.name or usual)
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
    """Any other data set, with config=named("NAME")."""

    DESCRIPTION = "Untrimmed videos for temporal action localization."

    def _called(self) -> str:
        return self.builder_config.name if self.builder_config else ""


def named(name: str) -> tfds.core.BuilderConfig:
    """Return the configuration of `JaxtalVideos` for a data set.

    Args:
        name: name of the data set.

    Raises:
        DataError: the name is empty or not a valid file name.
    """
    if not name:
        raise DataError("jaxtal_videos: no name; wanted jaxtal_videos/NAME for the data set NAME")
    return tfds.core.BuilderConfig(name=check_name(name, "the name of the data set"))


@dataclasses.dataclass(eq=False)
class GeneratorConfig(tfds.core.BuilderConfig):
    """Configuration of `JaxtalUntrimmed`.

    Attributes:
        generator: parameters of the generator.
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
            description="The numbers of videos and classes, lengths and width of THUMOS14.",
            generator=PRESETS["thumos14"],
        ),
    ]

    def _source(self, dl_manager) -> LazyDataset:
        return generated(self.builder_config.generator)


def generated(config: SyntheticConfig) -> LazyDataset:
    """Return a generated data set; its features are generated when they are read.

    Args:
        config: parameters of the generator.

    Raises:
        DataError: a field of `config` or the file `config.annotations` is invalid.
    """
    path = Path(config.annotations or "generator")
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))

    def features(video: Video) -> np.ndarray:
        return generate_video(config, world, video, dataset.grid).features

    return LazyDataset("generator", path, dataset, features)


BUILDERS = (JaxtalThumos14, JaxtalActivitynet, JaxtalVideos, JaxtalUntrimmed)
