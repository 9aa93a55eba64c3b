"""Feature files of any form, name, depth and axes give the same data set."""

import contextlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxtal.data import axes, conversion, inputs, inspection, layouts, synthetic
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.layouts.per_video import LAYOUT_SPECS
from jaxtal.errors import JaxtalError
from jaxtal.visualization import console
from tests.data.test_axes import stored
from tests.helpers import array_forms, layout_cases

SPECS = {spec.name: spec for spec in LAYOUT_SPECS}
WANTED = layout_cases.source(layout_cases.dataset())
NAMES = [video.name for video in WANTED.videos]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """Return {layout: folder} of a data set as other programs write it."""
    root = tmp_path_factory.mktemp("made")
    for layout in SPECS:
        conversion.convert(WANTED, layout, root / layout)
        (root / layout / "jaxtal.json").unlink()
        (root / layout / "SHA256SUMS").unlink()
    return {layout: root / layout for layout in SPECS}


def changed(source: Path, folder: Path, form: str, name: str, depth: int, letters: str) -> None:
    """Copy a data set with its feature files in another form, under other names, deeper.

    Args:
        source: folder with .npy files.
        folder: folder to write.
        form: one of array_forms.FORMS.
        name: form of the names, e.g. "v_{}_feat".
        depth: level at which a folder `more` is added; -1: none.
        letters: axes of the files.
    """
    for path in sorted(source.rglob("*.*")):
        parts = list(path.relative_to(source).parts)
        if path.suffix == ".npy":
            if depth >= 0:
                parts.insert(min(depth, len(parts) - 1), "more")
            array = stored(np.load(path), letters, crops=2)
            target = folder.joinpath(*parts[:-1])
            array_forms.write(form, target, name.format(path.stem), array)
        else:
            folder.joinpath(*parts[:-1]).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder.joinpath(*parts))


def assert_same(folder: Path, form: str = "npy", **options) -> layouts.LazyDataset:
    """Check that a folder has the data set's annotations and features, and return it."""
    source = layouts.read(folder, **options)
    for video in WANTED.videos if form in array_forms.TEXT else ():
        wanted, found = WANTED.read(video).features, source.read(video).features
        np.testing.assert_array_equal(found, wanted.astype(np.float32))
    if form in array_forms.TEXT:
        layout_cases.assert_same(source, layout_cases.source(layout_cases.dataset(), False))
    else:
        layout_cases.assert_same(source, WANTED)
    assert not source.missing
    assert not source.unannotated
    shapes = [source.snippets(video) for video in source.videos]
    assert shapes == [WANTED.read(video).features.shape for video in WANTED.videos]
    return source


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(sorted(SPECS)),
    form=st.sampled_from(sorted(array_forms.FORMS)),
    name=st.sampled_from(["{}", "v_{}", "{}_feat", "{}.mp4", "x-{}_i3d", "v_{}-rgb"]),
    depth=st.integers(-1, 3),
    letters=st.sampled_from(["TD", "DT", "TCD", "CTD", "1TD", "TD1", "DT1", "1CDT"]),
    nested=st.booleans(),
)
def test_any_form_name_depth_and_axes(
    made, tmp_path_factory, layout, form, name, depth, letters, nested
):
    letters = letters if form not in array_forms.FLAT else "TD"
    folder = tmp_path_factory.mktemp("changed")
    inner = folder / "inner" if nested else folder
    changed(made[layout], inner, form, name, depth, letters)
    source = assert_same(folder, form, axes=letters)
    assert source.layout == layout
    assert source.path == inner
    said = " ".join(source.notes)
    assert ("the data set is in inner, the only one in" in said) == nested
    assert ("features of 10 of 10 videos are recognized by" in said) == (name not in ("{}", "v_{}"))
    assert (" read from " in said) == (depth >= 0)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("prefix", ["", "v_"])
@pytest.mark.parametrize("place", ["features/i3d/all.h5", "features/c3d.hdf5", "all.h5"])
def test_one_file_for_all_videos(made, tmp_path, place, prefix, grouped):
    root = tmp_path / "there"
    shutil.copytree(made["opentad"], root)
    shutil.rmtree(root / "features")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / place, "w") as file:
        for video in WANTED.videos:
            key = f"{prefix}{video.name}" + "/c3d_features" * grouped
            file[key] = WANTED.read(video).features
        file.create_dataset("a note", data="text")
    source = layouts.read(root)
    layout_cases.assert_same(source, WANTED)
    assert source.unannotated == ("a note",)
    assert f"features are read from {place}; the layout has them in features/" in source.notes[0]
    shutil.copy(root / place, root / "copy.h5")
    shutil.move(root / place, root / "other.h5")
    with pytest.raises(JaxtalError, match=r"has .* too; remove it from one of them"):
        layouts.read(root)


def test_rgb_and_flow_apart_in_any_layout(made, tmp_path):
    for layout, place in (
        ("opentad", "features"),
        ("actionformer", "features/i3d"),
        ("acmnet", ""),
    ):
        root = tmp_path / layout
        shutil.copytree(made[layout], root)
        for path in root.rglob("*.npy"):
            rgb, flow = np.split(np.load(path), 2, axis=1)
            path.unlink()
            for stream, part in (("rgb", rgb), ("flow", flow)):
                array_forms.write("npy", root / place / stream, f"{path.stem}_{stream}", part)
        assert_same(root)


def test_windows_of_activitynet_follow_from_the_prefix(made, tmp_path):
    for name, grid in (("v_{}", TimeGrid()), ("v_{}_x", TimeGrid()), ("{}_x", TimeGrid(30, 4, 16))):
        folder = tmp_path / name
        changed(made["actionformer"], folder, "npy", name, -1, "TD")
        (path,) = folder.glob("annotations/*.json")
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"database": content["database"]}))
        assert layouts.read(folder).dataset.grid == grid


def test_two_candidates_are_named(made, tmp_path):
    changed(made["opentad"], tmp_path / "a", "npy", "{}", -1, "TD")
    changed(made["opentad"], tmp_path / "b", "npz", "{}", 2, "TD")
    with pytest.raises(JaxtalError, match="2 data sets in it, a and b; give the folder of one"):
        layouts.read(tmp_path)
    changed(made["acmnet"], tmp_path / "c", "npy", "{}", 0, "TD")
    changed(made["acmnet"], tmp_path / "c", "npy", "{}", 1, "TD")
    with pytest.raises(JaxtalError, match=r"two folders have features, those of .*more/t.* and .*"):
        layouts.read(tmp_path / "c")
    changed(made["acmnet"], tmp_path / "d", "npz", "{}", -1, "TD")
    changed(made["acmnet"], tmp_path / "d", "npy", "{}", -1, "TD")
    with pytest.raises(JaxtalError, match=r"npz: .*npy has the features of .* too; remove one"):
        layouts.read(tmp_path / "d")


@pytest.mark.parametrize("layout", SPECS)
def test_files_that_cannot_be_used_are_described(made, tmp_path, layout):
    changed(made[layout], tmp_path, "npz", "{}", -1, "TD")
    for number, path in enumerate(sorted(tmp_path.rglob("*.npz"))):
        path.rename(path.with_name(f"other{number}.npz"))
    count = 6 if layout in ("acmnet", "basnet") else 10
    said = rf"no features of any video, such as '{NAMES[0]}', among .*{count} files \*\.npz in "
    with pytest.raises(JaxtalError, match=said):
        layouts.read(tmp_path)
    source = layouts.read(tmp_path, features=None)
    assert len(source.missing) == 10
    for path in tmp_path.rglob("*.npz"):
        path.rename(path.with_suffix(".mat"))
    with pytest.raises(JaxtalError, match=rf"{count} files \*\.mat in .*; wanted .*VIDEO.*npz"):
        layouts.read(tmp_path)
    (note,) = layouts.read(tmp_path, features=None).notes
    assert "files *.mat in" in note


def test_axes_that_do_not_fit_are_offered(made, tmp_path):
    for letters in ("TCD", "CTD", "1TD"):
        changed(made["opentad"], tmp_path / letters, "npy", "{}", -1, letters)
        source = layouts.read(tmp_path / letters)
        with pytest.raises(JaxtalError, match=f"give axes={letters}"):
            source.snippets(source.videos[0])
        with pytest.raises(JaxtalError, match=f"give axes={letters}"):
            source.load()
    changed(made["opentad"], tmp_path / "DT", "npy", "{}", -1, "DT")
    source = layouts.read(tmp_path / "DT")
    assert axes.recognize([source.snippets(video) for video in source.videos]) == "DT"


@pytest.mark.parametrize("layout", ["wtalc", "hamnet"])
@pytest.mark.parametrize("letters", ["DT", "TCD", "1TD"])
def test_axes_of_joint_files(tmp_path, layout, letters):
    conversion.convert(WANTED, layout, tmp_path)
    (path,) = tmp_path.glob("*JOINT*.npy")
    arrays = np.load(path, allow_pickle=True)
    for row, array in enumerate(arrays):
        arrays[row] = stored(array, letters, crops=3)
    np.save(path, arrays, allow_pickle=True)
    source = layouts.read(tmp_path, axes=letters)
    layout_cases.assert_same(source, WANTED)
    assert source.snippets(source.videos[0]) == source.read(source.videos[0]).features.shape
    if letters != "DT":
        with pytest.raises(JaxtalError, match=f"video {NAMES[0]}: an array .*give axes={letters}"):
            layouts.read(tmp_path).load()


@pytest.mark.parametrize("form", array_forms.FORMS)
def test_files_without_annotations(tmp_path, form):
    for video in WANTED.videos:
        array_forms.write(form, tmp_path / "in", video.name, WANTED.read(video).features)
    for path in (tmp_path / "in", tmp_path):
        found = [read() for read in inputs.in_path(path, TimeGrid()).reads]
        assert [video.name for video in found] == sorted(NAMES)
        by_name = {video.name: video for video in WANTED.videos}
        for video in found:
            wanted = WANTED.read(by_name[video.name]).features
            np.testing.assert_array_equal(video.read(), wanted.astype(video.read().dtype))
            assert video.shape == wanted.shape
    options = layouts.ReadingOptions(axes="1TD")
    if form not in array_forms.FLAT:
        one = array_forms.write(form, tmp_path / "one", "a", np.ones((1, 3, 4), np.float32))
        (read,) = inputs.in_path(one, TimeGrid(), options).reads
        assert read().shape == (3, 4)
        with pytest.raises(JaxtalError, match="give axes=1TD"):
            inputs.in_path(one, TimeGrid()).reads[0]()


def test_annotations_alone_say_what_is_missing(tmp_path):
    conversion.convert(WANTED, "wtalc", tmp_path)
    (path,) = tmp_path.glob("*JOINT*.npy")
    path.rename(tmp_path / "features.npy")
    (note,) = layouts.read(tmp_path, features=None).notes
    assert "1 file *.npy in . (features.npy)" in note
    assert "wanted Tiny-I3D-JOINTFeatures.npy, an object array" in note


def test_features_that_were_not_examined_are_not_without_defects(capsys):
    wanted = layout_cases.source(synthetic.generate(layout_cases.SMALL), features=False)
    report = inspection.inspect(wanted, True, lambda *_: contextlib.nullcontext(lambda: None))
    report["defects"] = {}
    console.print_inspection(report)
    assert "no defects found; features were not examined" in capsys.readouterr().out
