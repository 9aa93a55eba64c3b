"""Reports of data sets with known defects."""

import contextlib
import dataclasses
import time

import numpy as np

from jaxtal.data import conversion, inspection, layouts
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.io import checksums
from jaxtal.visualization import console, plots
from tests.helpers import layout_cases


@contextlib.contextmanager
def silent(total, done):
    yield lambda: None


def report_of(source, features=False):
    return inspection.inspect(source, features, silent)


def counts(report) -> dict[str, int]:
    return {found["kind"]: found["count"] for found in report["findings"]}


def test_thumos14(thumos14):
    """The known irregularities of its annotations."""
    report = report_of(layouts.read(thumos14, features=None))
    assert counts(report) == {
        "test videos without a label": 1,
        "instances outside their video": 30,
        "instances whose class is not a label of the video": 150,
        "labels without an instance": 10,
    }
    train, test = (report["subsets"][name] for name in ("train", "test"))
    assert (train["overlapping_instances"], test["overlapping_instances"]) == (5, 3)
    assert (train["videos"], train["instances"], test["videos"], test["instances"]) == (
        200, 3007, 212, 3358,
    )  # fmt: skip
    np.testing.assert_allclose([train["hours"], test["hours"]], [11.61, 12.76], atol=0.005)
    quantiles = train["quantiles"]["seconds an instance"]
    np.testing.assert_allclose(quantiles, [0.2, 0.7, 1.5, 2.9, 5.5, 9.7, 118.1], atol=0.06)
    assert report["classes"]["CliffDiving"]["test"] == {"videos": 17, "instances": 217}
    assert test["labels_a_video"] == [1, 181, 29, 1]


def test_activitynet13(shared):
    report = report_of(layouts.read(shared / "activitynet/activitynet_1.3.json", features=None))
    found = counts(report)
    assert found["instances of no length"] == 9 + 3
    assert found["instances that end after their video"] == 15 + 11
    assert len(report["classes"]) == 200


def test_damaged_features(tmp_path):
    data = layout_cases.dataset()
    changed = {
        data.train[0].name: np.full((5, 6), np.nan, np.float16),
        data.train[2].name: np.zeros((5, 6), np.float16),
        data.train[3].name: np.ones((5, 8), np.float16),
    }
    source = layout_cases.source(data)
    whole = source.features
    broken = dataclasses.replace(
        source,
        features=lambda v: inspection_check(changed.get(v.name, whole(v)), v.name),
        missing=(data.test[0].name,),
    )
    report = report_of(broken, features=True)
    found = {finding["kind"]: finding["first"] for finding in report["findings"]}
    assert "NaN features in 5 of 5" in found["videos with damaged features"][0]
    assert found["widths that differ"] == ["1 videos of width 8"]
    assert found["videos of zeros"] == [data.train[2].name]
    assert found["videos without features"] == [data.test[0].name]
    longer = found["features much longer or shorter than the video"]
    assert any(name.startswith(data.train[3].name) for name in longer)
    assert report["features"]["width"] == 6
    assert report["features"]["videos"] == 8


def inspection_check(array, name):
    from jaxtal.data.io.feature_files import check_features

    return check_features(array, f"video {name}")


def test_files_that_have_changed(tmp_path):
    conversion.convert(layout_cases.source(layout_cases.dataset()), "acmnet", tmp_path)
    assert inspection.changed_files(tmp_path) == []
    first, second = sorted(tmp_path.glob("train/*.npy"))[:2]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.unlink()
    names = [path.relative_to(tmp_path).as_posix() for path in (first, second)]
    (found,) = inspection.changed_files(tmp_path)
    assert found.examples == (f"{names[0]} has changed", f"{names[1]} is missing")
    (tmp_path / checksums.LIST).unlink()
    assert inspection.changed_files(tmp_path) == []


def test_a_figure_of_any_data_set(tmp_path):
    data = layout_cases.dataset()
    empty = dataclasses.replace(data, train=())
    many = dataclasses.replace(data, classes=tuple(f"c{n}" for n in range(200)))
    for number, case in enumerate((data, empty, many)):
        report = report_of(layout_cases.source(case))
        plots.save(plots.draw_dataset(case, report), tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000


def of_many_classes(count: int) -> Dataset:
    """Return a data set of one training video with an instance of each class, and a test video."""
    starts = np.random.default_rng(0).uniform(0, 90, count)
    empty, features = np.empty((0, 2)), np.ones((4, 6), np.float16)
    labels = np.arange(count)
    segments = np.stack([starts, starts + 1], axis=1)
    train = Video("a", 100.0, labels, segments, labels, empty, features)
    test = Video("b", 100.0, labels[:1], segments[:1], labels[:1], empty, features)
    return Dataset("Many", tuple(f"class {n:06}" for n in range(count)), (train,), (test,))


def test_very_many_classes(capsys):
    """The work is linear: it is of 30,000 classes done in a second or two, not in minutes."""
    data = of_many_classes(30_000)
    begun = time.process_time()
    report = report_of(layout_cases.source(data), features=True)
    console.print_inspection(report)
    plots.draw_dataset(data, report).draw_without_rendering()
    assert time.process_time() - begun < 20
    assert "... and 29,000 more" in capsys.readouterr().out
    assert report["subsets"]["train"]["overlapping_instances"] == 0
    assert len(report["classes"]) == 30_000


def test_overlapping_instances_of_a_class():
    times = np.array([[0, 9], [1, 2], [2, 3], [9, 10], [8, 11], [0, 5.0]])
    labels = np.array([1, 1, 0, 1, 1, 2])
    data = of_many_classes(3)
    train = dataclasses.replace(data.train[0], segments=times, segment_labels=labels)
    data = dataclasses.replace(data, train=(train,))
    report = report_of(layout_cases.source(data))
    assert report["subsets"]["train"]["overlapping_instances"] == 3  # the second, last two of 1
