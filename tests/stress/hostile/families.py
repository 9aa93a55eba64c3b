"""Families of hostile files: how they are made, and how a user would use them."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.checkpoint_conversion import torch_writer
from jaxtal.data import (
    activations,
    activitynet,
    activitynet_writer,
    conversion,
    detections,
    inspection,
    layouts,
    synthetic,
)
from jaxtal.data.dataset import Dataset, TimeGrid, count_annotation_errors
from jaxtal.data.io import feature_files, json_files, object_arrays
from jaxtal.data.io.array_files import Place, torch_files
from jaxtal.data.layouts import wtalc
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.segments import Segments, ground_truth
from jaxtal.data.synthetic.config import SyntheticConfig
from jaxtal.evaluation import detection_map, protocols
from jaxtal.training.workdir import fingerprint
from tests.helpers import array_forms
from tests.stress.hostile import crafted

OUTPUTS = ("cas", "attention")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """Hostile file on disk.

    Attributes:
        what: description.
        path: path that the message of a rejection must name.
        use: reads the file and uses its content as the package does.
    """

    what: str
    path: Path
    use: Callable[[], None]


def use_array(array: np.ndarray) -> None:
    """Access all values of an array, those of nested object arrays too."""
    for value in array.ravel().tolist() if array.dtype.hasobject else [array]:
        if isinstance(value, np.ndarray):
            use_array(value) if value.dtype.hasobject else value.tolist()
    if array.dtype.kind == "f":
        array.astype(np.float64).sum()


def use_dataset(dataset: Dataset) -> None:
    """Use a data set as the programs do, without training."""
    videos = (*dataset.train, *dataset.test)
    for video in videos:
        assert video.name.isprintable()
        assert "/" not in video.name
        assert np.isfinite(video.features.astype(np.float64)).all()
        assert np.isfinite(video.segments).all()
        assert np.isfinite(video.ambiguous).all()
        assert 0 < video.duration < np.inf
        assert (video.labels < len(dataset.classes)).all()
    assert all(name.isprintable() for name in (dataset.name, *dataset.classes))
    if videos:
        count_annotation_errors(videos)
    if dataset.train:
        fingerprint(dataset, False)
    grid = dataset.grid.of(videos)
    assert np.isfinite(grid.to_snippets(7.0)).all()
    assert np.isfinite(grid.to_seconds(7.0)).all()
    if dataset.test:
        use_detections(ground_truth(dataset.test), dataset)


def use_detections(found: Segments, dataset: Dataset) -> None:
    """Evaluate detections under two protocols, and write them."""
    for name in ("thumos14", "thumos_co2"):
        protocol = protocols.get(name)
        result = detection_map.evaluate(
            dataset.test, found, protocol, len(dataset.classes), dataset.grid
        )
        result.report(dataset.classes)
    names = [video.name for video in dataset.test]
    json.loads(detections.to_json(found, names, dataset.classes))


def use_source(source: LazyDataset, rng: np.random.Generator, folder: Path, how: float) -> None:
    """Load a data set, write its annotations and read them again; convert some of them."""
    dataset = source.dataset
    if source.features is not None:
        dataset = source.load(skip_damaged=how < 0.5)
    use_dataset(dataset)
    if how % 0.1 < 0.03:
        report = inspection.inspect(source, True, lambda *_: contextlib.nullcontext(lambda: None))
        json.loads(json_files.to_text(report))
    content = activitynet_writer.to_json(dataset)
    (folder / "again.json").write_text(content)
    again = activitynet.read(folder / "again.json")
    assert len(again.test) == len(dataset.test), "annotations differ after writing and reading"
    if how % 0.1 < 0.02:
        name = str(rng.choice(conversion.LAYOUTS))
        conversion.convert(source, name, folder / "converted", skip_damaged=how < 0.5)
        if name == "activitynet":
            return
        written = layouts.read(folder / "converted", features=None)
        assert [video.name for video in written.videos] == [
            video.name for video in (*dataset.train, *dataset.test)
        ], f"videos differ after conversion to {name}"


@functools.cache
def tiny() -> Dataset:
    """Return two training and three test videos of a few snippets."""
    config = SyntheticConfig(
        num_train=2, num_test=3, num_classes=2, feature_width=4, latent_width=3, backgrounds=4,
        min_snippets=9, median_snippets=12, max_snippets=20, sub_modes=1,
    )  # fmt: skip
    return dataclasses.replace(synthetic.generate(config), name="Tiny")


@functools.cache
def folders() -> dict[str, dict[str, bytes]]:
    """Return {layout: {path in the data set's folder: content}}."""
    dataset = tiny()
    by_name = {video.name: video.features for video in (*dataset.train, *dataset.test)}
    bare = dataset.map(lambda video: dataclasses.replace(video, features=np.empty((0, 0))))
    source = LazyDataset("memory", Path("memory"), bare, lambda video: by_name[video.name])
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in conversion.LAYOUTS:
            folder = Path(temporary) / name
            conversion.convert(source, name, folder)
            found[name] = {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path.name != "SHA256SUMS"
            }
    # Variants like the files of other programs, without the fields that only jaxtal writes.
    for name in ("basnet", "acmnet", "actionformer", "opentad"):
        files = found[name] = dict(found[name])
        (path,) = [path for path in files if path.endswith(".json") and path != "jaxtal.json"]
        content = json.loads(files[path])
        spare = {key: value for key, value in files.items() if key != "jaxtal.json"}
        for entry in content["database"].values():
            entry.pop("video_labels"), entry.pop("ambiguous")
            if name == "basnet":
                entry.pop("duration")
        spare[path] = json.dumps({"database": content["database"]}).encode()
        found[f"{name}, plain"] = spare
    return found


@functools.cache
def arrays() -> list[bytes]:
    """Return contents of valid .npy files."""
    rng = np.random.default_rng(0)
    ragged = np.empty(3, object)
    ragged[:] = [rng.random((n, 4)).astype("f2") for n in (2, 3, 5)]
    lists = np.empty(3, object)
    lists[:] = [[[1.5, 2.5], [3, 4]], ["Diving", b"Cliff"], np.array([b"x", b"yz"])]
    found = []
    for array in (
        rng.random((6, 4)).astype("f4"), rng.random((6, 4)).astype("f2"), np.array(["ab", "c"]),
        np.array([b"ab", b"c"]), np.arange(5), np.asfortranarray(rng.random((3, 4)), ">f4"),
        np.zeros((0, 4), "f4"), np.array(3.5),
    ):  # fmt: skip
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    import pickle

    for array in (ragged, lists):
        for protocol in range(5):
            pickled = pickle.dumps(array, protocol)
            if protocol < 4 and protocol % 2:
                pickled = pickled.replace(b"numpy._core", b"numpy.core")
            found.append(crafted.object_file(pickled, 3))
    # As Python 2 wrote it.
    old = crafted.objects(crafted.numbers(2, 2), b"U\x04abcd", b"](U\x01aU\x02bce")
    found.append(crafted.object_file(b"\x80\x02" + old + b".", 3))
    return found


@functools.cache
def activation_members() -> dict[str, bytes]:
    """Return the members of a valid .npz file of two videos."""
    members = {
        "videos": np.array(["a", "b"]),
        "classes": np.array(["Dive", "Jump"]),
        "rows": np.array([20, 30]),
        "snippets": np.array([20, 30]),
        "grid": np.array([25.0, 16, 16]),
        "cas": np.random.default_rng(0).random((50, 3)),
        "attention": np.ones((50, 1), np.float32),
    }
    return {f"{name}.npy": _saved(array) for name, array in members.items()}


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@functools.cache
def features_of_every_form() -> dict[str, bytes]:
    """Return {name of a file: content} of valid feature files."""
    array = np.random.default_rng(0).random((6, 4)).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            array_forms.write(form, Path(folder) / str(number), "a", array)
            for number, form in enumerate(array_forms.FORMS)
        ]
        return {f"{path.parent.name}{path.suffix}": path.read_bytes() for path in paths}


@functools.cache
def checkpoint() -> bytes:
    """Return a valid PyTorch file of named tensors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        torch_writer.save(
            path,
            {
                "a.weight": np.arange(6, dtype="f4").reshape(2, 3),
                "b": np.arange(2),
                "c": np.ones(()),
            },
        )
        return path.read_bytes()


def _tensor(storage: bytes = b"", shape: bytes = b"", rest: bytes = b"") -> bytes:
    """Return the opcodes of a tensor."""
    c = crafted
    stored = storage or (
        c.sequence(c.text("storage"), c.named("torch", "FloatStorage"), c.text("0"), c.text("cpu"),
                   c.integer(6)) + b"Q"
    )  # fmt: skip
    sizes = shape or b"K\x02K\x03\x86" + b"K\x03K\x01\x86"
    hooks = rest or b"\x89" + c.named("collections", "OrderedDict") + b")R"
    called = c.named("torch._utils", "_rebuild_tensor_v2")
    return called + c.sequence(stored, b"K\x00", sizes, hooks) + b"R"


def _named_tensor() -> bytes:
    return b"}" + crafted.text("a") + _tensor() + b"s"


def _archive(pickled: bytes) -> dict[str, bytes]:
    return {
        "archive/data.pkl": b"\x80\x02" + pickled + b".",
        "archive/byteorder": b"little",
        "archive/data/0": np.arange(6, dtype="f4").tobytes(),
        "archive/version": b"3\n",
    }


def _archives() -> list[bytes]:
    return [crafted.zipped(_archive(_named_tensor()))]


def _old_form() -> bytes:
    return _old_checkpoint(_named_tensor(), b"]" + crafted.text("0") + b"a")


def _old_checkpoint(saved: bytes, keys: bytes) -> bytes:
    """Return a PyTorch file in the format before zip archives."""
    c = crafted
    system = b"}" + c.sequence(
        c.text("protocol_version"), c.integer(1001), c.text("little_endian"), b"\x88", code=b"u"
    )  # fmt: skip
    parts = c.integer(0x1950A86A20F9469CFC6C), c.integer(1001), system, saved, keys
    head = b"".join(b"\x80\x02" + part + b"." for part in parts)
    return head + struct.pack("<q", 6) + np.arange(6, dtype="f4").tobytes()


Family = Callable[[Path, int, np.random.Generator], Mutant]


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _laid_out(folder: Path, layout: str) -> Path:
    root = folder / "data"
    for name, content in folders()[layout].items():
        _write(root / name, content)
    return root


def _reading(folder: Path, root: Path, layout: str, rng: np.random.Generator):
    """Return a function that reads a data set, with detection of its layout or without."""
    how, forced = rng.random(), rng.random() < 0.5
    path = root / _json_file(layout) if layout == "activitynet" else root

    def use() -> None:
        source = layouts.read(
            path, layout=layout.partition(",")[0] if forced else "", features=None
        )
        use_source(source, rng, folder, how)

    return use


def _pick(items: list, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def npy_bytes(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Altered .npy files."""
    content = arrays()[number % len(arrays())]
    what, content = crafted.altered(content, _pick(arrays(), rng), rng)
    return _array_mutant(folder, what, content, rng)


def npy_header(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """.npy files with hostile headers."""
    return _array_mutant(folder, *crafted.hostile_npy(number, rng), rng)


def _array_mutant(folder: Path, what: str, content: bytes, rng: np.random.Generator) -> Mutant:
    path = _write(folder / "a.npy", content)
    as_features = rng.random() < 0.4

    def use() -> None:
        if as_features:
            feature_files.feature_shape(Place(path))
            use_array(feature_files.load_features(Place(path)))
        else:
            use_array(object_arrays.load(path))

    return Mutant(what, path, use)


_COLUMNS = ("videoname", "subset", "classlist", "labels", "labels_all", "segments", "duration")


def _column(root: Path, name: str) -> Path:
    if name == "features":
        return root / "Tiny-I3D-JOINTFeatures.npy"
    return root / "Tiny-Annotations" / f"{name}.npy"


def pickles(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Object arrays with hostile pickles: alone, as an entry, and in a data set."""
    what, payload = crafted.PAYLOADS[number % len(crafted.PAYLOADS)]
    way = (number // len(crafted.PAYLOADS) + number) % 3
    if way == 0:
        pickled = b"\x80\x02" + payload + b"."
        return _array_mutant(folder, f"{what}, alone", crafted.object_file(pickled, 1), rng)
    if way == 1:
        pickled = b"\x80\x02" + crafted.objects(payload) + b"."
        return _array_mutant(folder, f"{what}, an entry", crafted.object_file(pickled, 1), rng)
    root = _laid_out(folder, "wtalc")
    column = _pick([*_COLUMNS, "features"], rng)
    path = _column(root, column)
    valid = np.load(path, allow_pickle=True)
    entries = [crafted.plain(_simple(value)) for value in valid[1:]]
    if column == "features":
        entries = [crafted.numbers(*value.shape, code="f2") for value in valid[1:]]
    pickled = b"\x80\x02" + crafted.objects(payload, *entries) + b"."
    _write(path, crafted.object_file(pickled, len(valid)))
    return Mutant(f"{what}, in {column}", root, _reading(folder, root, "wtalc", rng))


def _simple(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def columns(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """W-TALC arrays with entries of other types."""
    layout = ("wtalc", "hamnet")[number % 2]
    root = _laid_out(folder, layout)
    column = _pick([*_COLUMNS, "features"], rng)
    path = _column(root, column)
    if rng.random() < 0.3:
        array = _pick(crafted.strange_arrays(), rng)
        if rng.random() < 0.5 and array.ndim and len(array) == 4:
            array = np.concatenate([array, array[-1:]])
        what = f"{column} is {array.dtype}{array.shape}"
    else:
        valid = np.load(path, allow_pickle=True)
        array = np.empty(len(valid), object)
        for index, value in enumerate(valid):
            array[index] = value if valid.dtype.hasobject else _simple(value)
        values = crafted.strange_values()
        row, which = int(rng.integers(len(array))), number // 2 % len(values)
        array[row] = values[which]
        what = f"{column}[{row}] is {str(type(values[which]))[:40]} number {which}"
    _write(path, _saved(array))
    return Mutant(what, root, _reading(folder, root, layout, rng))


def npz_bytes(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Altered .npz files."""
    good = [crafted.zipped(activation_members(), method) for method in (0, 8)]
    what, content = crafted.altered(good[number % 2], good[1 - number % 2], rng)
    return _activations_mutant(folder, what, content)


def npz_archive(folder: Path, _: int, rng: np.random.Generator) -> Mutant:
    """.npz files with a hostile archive structure."""
    return _activations_mutant(folder, *crafted.hostile_zip(activation_members(), rng))


def npz_arrays(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """.npz files with wrong arrays."""
    members = dict(activation_members())
    name = _pick(list(members), rng)
    way = rng.random()
    if way < 0.35:
        what, members[name] = crafted.hostile_npy(number, rng)
    elif way < 0.6:
        what, members[name] = crafted.altered(members[name], _pick(arrays(), rng), rng)
    else:
        numbers = (
            2**62, 2**31, -1, 0, 25, 1, 50, 2**63 - 1, 0.5, 1e300, 1e-300, np.nan, np.inf, 1e9, "x",
            "../../x", "\x1b[31m", "", "x" * 9000, b"\xff", True, 10**7, np.float16(60000), 1e-9,
        )  # fmt: skip
        shapes = (
            (2,),
            (3,),
            (50, 3),
            (50, 1),
            (2, 1, 3),
            (2, 3),
            (),
            (0,),
            (0, 3),
            (50, 0),
            (2, 1, 0),
        )
        which = number % len(numbers)
        shape = _pick(shapes, rng)
        if rng.random() < 0.6:
            array = np.load(io.BytesIO(members[name]))
            value = np.array(numbers[which])
            if array.dtype.kind in "fiu" and value.dtype.kind in "fiu" and rng.random() < 0.8:
                array = array.astype(np.result_type(array, value))
                array[(0,) * array.ndim] = value
            elif array.dtype.kind == value.dtype.kind and array.ndim == 1:
                array = np.array([value, *array[1:]])
            else:
                array = np.full(array.shape, value)
        else:
            array = np.full(shape, numbers[which])
        what, members[name] = f"{array.dtype}{array.shape} of {numbers[which]!r:.20}", _saved(array)
    return _activations_mutant(folder, f"{name}: {what}", crafted.zipped(members, 8))


def _activations_mutant(folder: Path, what: str, content: bytes) -> Mutant:
    path = _write(folder / "a.npz", content)

    def use() -> None:
        found = activations.read(path, OUTPUTS)
        grid = found.grid
        for index, (name, output) in enumerate(zip(found.videos, found.outputs, strict=True)):
            assert name.isprintable()
            # Localization allocates this much.
            assert found.snippets[index] < 10**8
            for array in output.values():
                assert np.isfinite(array.astype(np.float64)).all()
            fps = np.broadcast_to(grid.fps, len(found.videos))[index]
            own = TimeGrid(float(fps), grid.stride, grid.window)
            assert np.isfinite(own.to_seconds(found.snippets[index]))
        assert all(name.isprintable() for name in found.classes)

    return Mutant(what, path, use)


def _json_file(layout: str) -> str:
    return next(
        name for name in folders()[layout] if name.endswith(".json") and name != "jaxtal.json"
    )


_WITH_JSON = (
    "activitynet", "hamnet", "basnet", "basnet, plain", "acmnet", "acmnet, plain", "opentad",
    "opentad, plain", "actionformer", "actionformer, plain",
)  # fmt: skip


def json_tree(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Annotations with wrong types and structure."""
    layout = _WITH_JSON[number % len(_WITH_JSON)]
    root = _laid_out(folder, layout)
    name = _json_file(layout)
    content = json.loads(folders()[layout][name])
    what, changed = crafted.hostile_json(content, number // len(_WITH_JSON), rng)
    _write(root / name, changed)
    return Mutant(f"{layout}, {name}: {what}", root, _reading(folder, root, layout, rng))


def manifests(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """jaxtal.json with wrong types and structure."""
    layout = _pick(list(conversion.LAYOUTS), rng)
    root = _laid_out(folder, layout)
    content = json.loads(folders()[layout]["jaxtal.json"])
    content.pop("sha256")  # otherwise no change would be read
    what, changed = crafted.hostile_json(content, number, rng)
    _write(root / "jaxtal.json", changed)
    return Mutant(f"{layout}, jaxtal.json: {what}", root, _reading(folder, root, layout, rng))


def json_bytes(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Altered JSON texts."""
    layout = _WITH_JSON[number % len(_WITH_JSON)]
    root = _laid_out(folder, layout)
    name = "jaxtal.json" if rng.random() < 0.2 and "plain" not in layout else _json_file(layout)
    what, changed = crafted.altered(folders()[layout][name], folders()["hamnet"]["gt.json"], rng)
    _write(root / name, changed)
    return Mutant(f"{layout}, {name}: {what}", root, _reading(folder, root, layout, rng))


def detection_files(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Files of detections: altered bytes, strange names, wrong types."""
    dataset = tiny()
    truth = ground_truth(dataset.test)
    scored = dataclasses.replace(truth, score=np.linspace(0, 1, len(truth)))
    content = json.loads(
        detections.to_json(scored, [video.name for video in dataset.test], dataset.classes)
    )
    content.pop("sha256")  # otherwise no change would be read
    if rng.random() < 0.2:
        what, changed = crafted.altered(json.dumps(content).encode(), b'{"results": {"a":', rng)
    elif rng.random() < 0.2:
        name = crafted.NAMES[number % len(crafted.NAMES)]
        what, key = f"video {name!r:.20}", next(iter(content["results"]))
        content["results"][name] = content["results"].pop(key)
        changed = json.dumps(content).encode()
    else:
        what, changed = crafted.hostile_json(content, number, rng)
    path = _write(folder / "detections.json", changed)
    skipped = Counter() if rng.random() < 0.5 else None

    def use() -> None:
        use_detections(detections.read(path, dataset, skipped), dataset)

    return Mutant(what, path, use)


def texts(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Split lists, class lists, lists of ambiguous intervals."""
    layout, name = (
        ("basnet", "split_train.txt"), ("basnet, plain", "split_test.txt"),
        ("acmnet", "split_test.txt"), ("acmnet, plain", "split_train.txt"),
        ("opentad", "annotations/category_idx.txt"),
        ("opentad, plain", "annotations/category_idx.txt"),
        ("wtalc", "Tiny-Annotations/Ambiguous_test.txt"),
        ("opentad", "features/i3d/missing_files.txt"),
    )[number % 8]  # fmt: skip
    root = _laid_out(folder, layout)
    content = (folders()[layout].get(name) or b"").decode()
    test = tiny().test[0].name
    if "Ambiguous" in name:
        content = f"{test} 1.0 2.0\n{test}  3 4\n"
    lines = content.splitlines() or [test]
    way = rng.random()
    if way < 0.35:
        what, changed = crafted.altered(content.encode(), bytes(rng.bytes(30)), rng)
    else:
        strange = (
            *crafted.NAMES, f"{test} nan 1", f"{test} 1 inf", f"{test} 1e300 1e301", f"{test} 5 2",
            f"{test} 1", f"{test} -1e309 1", f"{test} 1_0 2_0", f"{test} ٣ ٤", "", lines[0],
            "\ufeff" + lines[0], f"{test} 1 2 3 4", "a " * 3000,
        )  # fmt: skip
        line = strange[number // 8 % len(strange)]
        lines[int(rng.integers(len(lines)))] = line
        if rng.random() < 0.3:
            lines.append(line)
        what = f"a line {line!r:.30}"
        changed = "\n".join(lines).encode("utf-8", "surrogatepass")
    _write(root / name, changed)
    return Mutant(f"{layout}, {name}: {what}", root, _reading(folder, root, layout, rng))


def names(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Strange names of a video, a class or the data set, in every layout."""
    every = [*_WITH_JSON, "wtalc"]
    layout = every[number % len(every)]
    name = crafted.NAMES[number // len(every) % len(crafted.NAMES)]
    kind = ("video", "video", "class", "dataset")[int(rng.integers(4))]
    root = _laid_out(folder, layout)
    if layout in ("wtalc", "hamnet"):
        column = "classlist" if kind == "class" else "videoname"
        values = np.load(_column(root, column)).tolist()
        old = values[-1].decode()
        changed = [*(value.decode() for value in values[:-1]), name]
        if rng.random() < 0.5:
            array = np.array(changed)
        else:
            array = np.empty(len(changed), object)
            array[:] = changed
        _write(_column(root, column), _saved(array))
    if layout != "wtalc":
        path = root / _json_file(layout)
        content = json.loads(path.read_bytes())
        database = content["database"]
        if kind == "dataset":
            content["name"] = name
        elif kind == "class":
            old = content.get("classes", ["GuineaPig"])[0]
            if isinstance(content.get("classes"), list):
                content["classes"][0] = name
            for entry in database.values():
                for one in entry["annotations"]:
                    one["label"] = name if one["label"] == old else one["label"]
                entry.pop("video_labels", None)
        else:
            old = list(database)[-1]
            database[name] = database.pop(old)
            for split in root.glob("split_test.txt"):
                lines = split.read_text().replace(old, name.replace("\n", " "))
                split.write_bytes(lines.encode("utf-8", "surrogatepass"))
            moved = name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace")
            for feature_file in root.rglob(f"{old}.npy") if 0 < len(moved) < 250 else ():
                feature_file.rename(feature_file.with_name(moved.decode() + ".npy"))
        _write(path, json.dumps(content).encode())
    if rng.random() < 0.5:
        (root / "jaxtal.json").unlink(missing_ok=True)
    read = _reading(folder, root, layout, rng)
    return Mutant(f"{layout}: {kind} {name!r:.30}", root, read)


SPECIAL = (
    "/dev/zero", "/dev/null", "/dev/full", "a loop", "dangling", "a folder", "a FIFO",
    "a link to a FIFO", "a link to a folder", "empty", "unreadable", "a link out", "one byte",
    "a socket",
)  # fmt: skip


def special_files(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Devices, pipes, loops and folders in the place of a file."""
    every = list(folders())
    layout = every[number % len(every)]
    kind = SPECIAL[number // len(every) % len(SPECIAL)]
    place = rng.random()
    if place < 0.1:
        path = folder / "single"
        root, use = path, _single(path, rng)
    else:
        root = _laid_out(folder, layout)
        present = list(folders()[layout])
        if place < 0.5:
            present = [name for name in present if name.endswith(".npy")] or present
        path = root / _pick(present, rng)
        use = _reading(folder, root, layout, rng)
    path.unlink(missing_ok=True)
    _special(path, kind)
    return Mutant(f"{layout}: {path.name} is {kind}", root, use)


def _single(path: Path, rng: np.random.Generator) -> Callable[[], None]:
    """Return a function that reads one file by one of the readers."""
    dataset = tiny()
    readers: list[Callable[[], Any]] = [
        lambda: object_arrays.load(path), lambda: feature_files.load_features(Place(path)), lambda:
            feature_files.feature_shape(Place(path)),
        lambda: activations.read(path, OUTPUTS), lambda: detections.read(path, dataset),
        lambda: activitynet.read(path), lambda: torch_files.load(path),
    ]  # fmt: skip
    return _pick(readers, rng)


def _special(path: Path, kind: str) -> None:
    if kind.startswith("/dev/"):
        path.symlink_to(kind)
    elif kind == "a loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a link to a FIFO":
        os.mkfifo(path.with_name("fifo"))
        path.symlink_to("fifo")
    elif kind == "a link to a folder":
        path.symlink_to(".")
    elif kind == "a link out":
        path.symlink_to("/etc/passwd")
    elif kind == "unreadable":
        path.touch(0)
    elif kind == "a socket":
        os.mknod(path, 0o140600)
    else:
        path.write_bytes(b"" if kind == "empty" else b"\x93")


def folder_bytes(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Data sets in every layout with one file altered or missing."""
    every = list(folders())
    layout = every[number % len(every)]
    root = _laid_out(folder, layout)
    present = folders()[layout]
    name = _pick(list(present), rng)
    if rng.random() < 0.1:
        (root / name).unlink()
        return Mutant(f"{layout}: {name} is missing", root, _reading(folder, root, layout, rng))
    what, changed = crafted.altered(present[name], present[_pick(list(present), rng)], rng)
    _write(root / name, changed)
    return Mutant(f"{layout}: {name} {what}", root, _reading(folder, root, layout, rng))


def torch_bytes(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Altered PyTorch files of both formats."""
    good = [checkpoint(), _old_form()]
    what, content = crafted.altered(good[number % 2], good[1 - number % 2], rng)
    return _checkpoint_mutant(folder, what, content)


def torch_crafted(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """PyTorch files with a hostile pickle or archive."""
    c = crafted
    what, payload = c.PAYLOADS[number % len(c.PAYLOADS)]
    way = int(rng.integers(8))
    pickled = {
        0: payload,
        1: b"}" + c.text("a") + payload + b"s",
        2: b"}" + payload + _tensor() + b"s",
        3: b"}" + c.text("a") + _tensor(storage=payload) + b"s",
        4: b"}" + c.text("a") + _tensor(storage=payload + b"Q") + b"s",
        5: b"}" + c.text("a") + _tensor(shape=payload + b"K\x01\x85") + b"s",
        6: b"}" + c.text("a") + _tensor(rest=b"\x89" + payload) + b"s",
        7: _named_tensor(),
    }[way]
    keys = b"]" + c.text("0") + b"a"
    if rng.random() < 0.3:
        return _checkpoint_mutant(folder, f"old, {what}, {way}", _old_checkpoint(pickled, keys))
    members = _archive(pickled)
    if way == 7:
        return _checkpoint_mutant(folder, *c.hostile_zip(members, rng))
    return _checkpoint_mutant(folder, f"{what}, {way}", c.zipped(members))


def _checkpoint_mutant(folder: Path, what: str, content: bytes) -> Mutant:
    path = _write(folder / "a.pt", content)

    def use() -> None:
        for name, array in torch_files.load(path).items():
            assert isinstance(name, str)
            with np.errstate(all="ignore"):
                array.astype(np.float64).sum()

    return Mutant(what, path, use)


def feature_forms(folder: Path, number: int, rng: np.random.Generator) -> Mutant:
    """Altered feature files of every form."""
    good = features_of_every_form()
    name = list(good)[number % len(good)]
    what, content = crafted.altered(good[name], _pick(list(good.values()), rng), rng)
    return _feature_mutant(folder, f"{name}: {what}", name, content)


def _feature_mutant(folder: Path, what: str, name: str, content: bytes) -> Mutant:
    path = _write(folder / f"a{Path(name).suffix}", content)

    def use() -> None:
        feature_files.feature_shape(Place(path))
        use_array(feature_files.load_features(Place(path)))

    return Mutant(what, path, use)


# Family -> its number of mutants in each hundred.
SHARES: dict[Family, int] = {
    npy_bytes: 8, npy_header: 6, pickles: 11, feature_forms: 4, columns: 9, npz_bytes: 5,
    npz_archive: 4, npz_arrays: 5, json_tree: 10, manifests: 4, json_bytes: 3,
    detection_files: 6, texts: 5, names: 5, special_files: 4,
    folder_bytes: 3, torch_bytes: 3, torch_crafted: 5,
}  # fmt: skip
_ROUND = [family for family, share in SHARES.items() for _ in range(share)]
assert len(_ROUND) == 100


def family_of(number: int) -> tuple[str, Family, int]:
    """Return the name and the family of a mutant, and its index within the family."""
    place = number % 100
    family = _ROUND[place]
    before = _ROUND[:place].count(family)
    return family.__name__, family, number // 100 * SHARES[family] + before


def mutant(number: int, folder: Path) -> tuple[str, Mutant]:
    """Write the mutant of a number below an empty folder; return its family and the mutant."""
    name, family, index = family_of(number)
    return name, family(folder, index, np.random.default_rng([number, 2024]))


def valid(folder: Path) -> list[Mutant]:
    """Write valid files of every kind, which must be loaded."""
    rng = np.random.default_rng(0)
    found = []
    for index, content in enumerate(arrays()):
        path = _write(folder / f"{index}.npy", content)
        found.append(
            Mutant(f"array {index}", path, lambda p=path: use_array(object_arrays.load(p)))
        )
    found.append(_activations_mutant(folder, "npz", crafted.zipped(activation_members(), 8)))
    for index, content in enumerate((checkpoint(), _old_form(), *_archives())):
        found.append(_checkpoint_mutant(folder / f"pt {index}", f"pt {index}", content))
    for name, content in features_of_every_form().items():
        found.append(_feature_mutant(folder / f"of {name}", f"features {name}", name, content))
    for layout in folders():
        below = folder / layout
        root = _laid_out(below, layout)
        found.append(Mutant(layout, root, _reading(below, root, layout, rng)))
    assert wtalc.find(folder / "wtalc" / "data") == ["Tiny"]
    return found
