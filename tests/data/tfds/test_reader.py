"""Data sets prepared with TFDS: bitwise equality, random access, and detection of damage."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxtal.data import layouts, synthetic
from jaxtal.data.dataset import NO_FEATURES, Dataset, TimeGrid, Video
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.synthetic.config import SyntheticConfig
from jaxtal.data.tfds import builders, reader
from jaxtal.data.tfds.records import from_bytes
from jaxtal.errors import JaxtalError
from jaxtal.training.workdir import fingerprint
from tests.conftest import ROOT

TINY = SyntheticConfig(
    num_train=12, num_test=6, num_classes=3, feature_width=8, max_snippets=100, ambiguous=0.9
)


def build(data_dir: Path, config: SyntheticConfig = TINY) -> Path:
    """Prepare generated videos and return the folder."""
    chosen = builders.GeneratorConfig(name="tiny", generator=config)
    builder = tfds.builder("jaxtal_untrimmed", data_dir=data_dir, config=chosen)
    builder.download_and_prepare()
    return Path(builder.data_dir)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tfds")
    build(folder)
    return folder


def assert_same(one: Video, other: Video) -> None:
    assert (one.name, one.duration, one.fps) == (other.name, other.duration, other.fps)
    for field in ("labels", "segments", "segment_labels", "ambiguous", "features"):
        left, right = getattr(one, field), getattr(other, field)
        assert (left.dtype, left.shape) == (right.dtype, right.shape), field
        assert left.tobytes() == right.tobytes(), field


def assert_equal(one: Dataset, other: Dataset) -> None:
    assert (one.name, one.classes, one.grid) == (other.name, other.classes, other.grid)
    for mine, theirs in ((one.train, other.train), (one.test, other.test)):
        for left, right in zip(mine, theirs, strict=True):
            assert_same(left, right)


def test_generated_videos_come_back_bit_for_bit(data_dir):
    expected = synthetic.generate(TINY)
    read = reader.read(data_dir, "jaxtal_untrimmed/tiny").load()
    assert_equal(read, expected)
    assert fingerprint(read, generated=False) == fingerprint(expected, generated=False)
    assert any(len(video.ambiguous) for video in read.test)


@pytest.mark.parametrize(
    "name",
    ["", "jaxtal_untrimmed", "jaxtal_untrimmed/tiny", "jaxtal_untrimmed/tiny:1.0.0", "Synthetic"],
)
def test_names(data_dir, name):
    assert reader.detect(data_dir)
    assert len(reader.read(data_dir, name).dataset.train) == 12
    assert len(reader.read(data_dir / "jaxtal_untrimmed" / "tiny" / "1.0.0", "").videos) == 18


def test_is_a_layout(data_dir):
    assert layouts.detect(data_dir) == "tfds"
    source = layouts.read(data_dir, layout="tfds", name="jaxtal_untrimmed", fps=10)
    assert (source.layout, source.dataset.grid.fps) == ("tfds", 10)
    only = reader.read(data_dir, features=False)
    with pytest.raises(JaxtalError, match="annotations only"):
        only.read(only.videos[0])


@pytest.mark.parametrize("name", ["jaxtal_thumos14", "tiny", "..", "/", "jaxtal_untrimmed/tiny/2"])
def test_no_such_name(data_dir, name):
    with pytest.raises(
        JaxtalError, match=r"0 prepared data sets .*wanted one of: jaxtal_untrimmed/"
    ):
        reader.read(data_dir, name)


def test_several_data_sets(data_dir, tmp_path):
    assert not reader.detect(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(data_dir / "jaxtal_untrimmed", tmp_path / name)
    with pytest.raises(
        JaxtalError, match=r"2 prepared .*wanted one of: a/tiny/1.0.0, b/tiny/1.0.0"
    ):
        reader.read(tmp_path, "Synthetic")
    assert reader.read(tmp_path, "b").path == tmp_path / "b" / "tiny" / "1.0.0"


def video(name: str, features: np.ndarray, fps: float | None = None) -> Video:
    segments = np.array([[0.1, 1 / 3], [np.pi, 7e-300]])
    return Video(
        name, 10 / 3, np.array([0, 1]), segments, np.array([1, 0]), -segments, features, fps
    )


def hand_made() -> Dataset:
    """Return values with many digits, both types, an empty video, and one with its own fps."""
    rng = np.random.default_rng(0)
    single = rng.random((3, 4), np.float32)
    single[-1, 2:] = np.array([-0.0, np.finfo(np.float32).smallest_subnormal])
    nothing = np.empty((0, 2)), np.empty(0, np.int64)
    empty = Video("vidéo ß", 1.0, nothing[1], *nothing, nothing[0], np.zeros((2, 4), np.float16))
    train = (video("one", single), empty)
    test = (video("two", rng.random((1, 4)).astype(np.float16), 29.97002997),)
    grid = TimeGrid(30.0, 4, 16)
    return Dataset("Hand", ("Žabka", "a b "), train, test, grid, stream_widths=(1, 3))


class HandMade(builders.JaxtalUntrimmed):
    BUILDER_CONFIGS: ClassVar = []

    def _source(self, dl_manager) -> LazyDataset:
        features = {v.name: v.features for v in (*hand_made().train, *hand_made().test)}
        stripped = hand_made().map(lambda v: dataclasses.replace(v, features=NO_FEATURES))
        return LazyDataset("hand", Path("hand"), stripped, lambda v: features[v.name])


def test_every_type_and_digit(tmp_path):
    builder = HandMade(data_dir=tmp_path)
    builder.download_and_prepare()
    source = reader.read(tmp_path)
    assert_equal(source.load(), hand_made())
    assert (source.dataset.stream_widths, source.has_streams) == ((1, 3), True)
    # Plain TFDS reads all of it, too.
    record = builder.as_data_source("test")[0]
    features = from_bytes(record["features"], record["dtype"].decode())
    two = hand_made().test[0]
    assert features.tobytes() == two.features.tobytes()
    assert (record["name"], record["fps"], record["duration"]) == (b"two", two.fps, two.duration)
    for field in ("labels", "segments", "segment_labels", "ambiguous"):
        assert record[field].tobytes() == getattr(two, field).tobytes()
    assert builder.info.metadata["classes"] == ["Žabka", "a b "]
    assert [builder.info.splits[split].num_examples for split in ("train", "test")] == [2, 1]


def test_names_are_unique(tmp_path):
    both = dataclasses.replace(hand_made(), test=hand_made().train)
    with pytest.raises(JaxtalError, match="'one' is listed twice"):
        builders._Contents(LazyDataset("hand", tmp_path, both), skip_damaged=False)


def test_recordings(shared, tmp_path):
    builder = builders.JaxtalVideos(data_dir=tmp_path, config=builders.named("AudioWTAL"))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=shared / "audio_wtal")
    )
    read = reader.read(tmp_path, "AudioWTAL").load()
    assert (len(read.train), len(read.test)) == (160, 80)
    assert_equal(read, layouts.read(shared / "audio_wtal").load())


def test_reads_only_the_requested_record(data_dir, tmp_path):
    folder = copied(data_dir, tmp_path)
    records = folder / "jaxtal_untrimmed-train.array_record-00000"
    content = bytearray(records.read_bytes())
    content[30_000] ^= 4
    records.write_bytes(content)
    source, unharmed = reader.read(folder), synthetic.generate(TINY).train
    for index in (7, 0, 3):
        assert_same(source.read(source.dataset.train[index]), unharmed[index])
    with pytest.raises(
        JaxtalError, match=r"record 11 of split train, video train_00011, cannot be"
    ):
        source.load()


def test_without_tensorflow_and_pickle(data_dir):
    program = f"""
import pickle, sys
from pathlib import Path
from jaxtal.data.tfds import reader
assert reader.detect(Path({str(data_dir)!r}))
assert "tensorflow_datasets" not in sys.modules
def refuse(*_, **__):
    raise AssertionError("pickle")
pickle.load = pickle.loads = pickle.Unpickler = refuse
source = reader.read(Path({str(data_dir)!r}), "Synthetic")
assert source.read(source.videos[-1]).features.dtype == "float16"
assert "array_record.python.array_record_module" in sys.modules
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT)


def copied(data_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(data_dir / "jaxtal_untrimmed" / "tiny" / "1.0.0", tmp_path / "copy")


def cut(name: str, size: int):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def swapped(name: str, old: str, new: str):
    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


def exchanged(folder: Path) -> None:
    shutil.copy(folder / _TEST, folder / _TRAIN)


def relabeled(**changes):
    """Change a video's annotations and the checksum consistently, as an attacker would."""

    def damage(folder):
        content = json.loads((folder / "metadata.json").read_text())
        about = content.pop("jaxtal_prepared")
        content["database"]["train_00003"] |= changes
        about["crc32"] = reader._checksum(content)
        text = json.dumps({"jaxtal_prepared": about, **content})
        (folder / "metadata.json").write_text(text)

    return damage


_TRAIN, _TEST = (f"jaxtal_untrimmed-{part}.array_record-00000" for part in ("train", "test"))
_FIRST = "record 0 of split train, video train_00000, "
DAMAGE = {
    "cut": (cut(_TRAIN, 70_000), f"{_FIRST}cannot be read"),
    "cut short": (cut(_TRAIN, 100), f"{_FIRST}cannot be read .*at least 64KB"),
    "emptied": (cut(_TRAIN, 0), f"{_FIRST}cannot be read"),
    "missing shard": (lambda folder: (folder / _TEST).unlink(), f"{_TEST} is missing"),
    "shard of another split": (exchanged, f"{_FIRST}does not match metadata.json"),
    "no metadata": (lambda folder: (folder / "metadata.json").unlink(), "No such file"),
    "no JSON": (cut("metadata.json", 900), r"metadata\.json: not a JSON file"),
    "another builder's": (cut("metadata.json", 0), r"metadata\.json: not a JSON file"),
    "other format": (swapped("metadata.json", '"format": 1', '"format": 2'), "wanted format 1"),
    "flipped digit": (swapped("metadata.json", '"duration": ', '"duration": 1'), "its checksum"),
    "shape": (relabeled(feature_shape=[10**9, 16]), "train_00003, does not match metadata.json"),
    "no shape": (relabeled(feature_shape="many"), "features of shape 'many'"),
    "type": (relabeled(feature_dtype="object"), "type 'object'"),
    "checksum": (relabeled(feature_crc32=-1), "train_00003, does not match metadata.json"),
    "split": (relabeled(subset="validation"), "12 records in split train, but .* lists 11"),
    "label": (relabeled(video_labels=["Nothing"]), "'Nothing' is not among the 3 classes"),
    "info": (cut("dataset_info.json", 50), "cannot be opened"),
    "counts": (swapped("dataset_info.json", '"12"', '"13"'), "13 records in split train"),
    "path": (swapped("dataset_info.json", '"{DATASET}', '"../{DATASET}'), "is missing"),
    "import": (swapped("features.json", "tensorflow_datasets.core", "antigravity"), "antigravity"),
    "fields": (swapped("features.json", "uint8", "int8"), "the fields are not those of jaxtal"),
    "no fields": (cut("features.json", 0), "not a JSON file"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage(data_dir, tmp_path, what):
    damage, message = DAMAGE[what]
    folder = copied(data_dir, tmp_path)
    damage(folder)
    with pytest.raises(JaxtalError, match=message) as error:
        reader.read(folder).load()
    assert "\n" not in str(error.value)
    assert "antigravity" not in sys.modules


def test_flipped_bits_are_detected_or_harmless(data_dir, tmp_path):
    folder, expected = copied(data_dir, tmp_path), synthetic.generate(TINY)
    rng = np.random.default_rng(0)
    detected = 0
    for _ in range(60):
        path = folder / str(rng.choice([_TRAIN, _TEST, "metadata.json", "features.json"]))
        content = path.read_bytes()
        used = np.flatnonzero(np.frombuffer(content, np.uint8))
        flipped = bytearray(content)
        flipped[rng.choice(used)] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            assert_equal(reader.read(folder).load(), expected)
        except JaxtalError:
            detected += 1
        path.write_bytes(content)
    assert detected > 40
