"""Data sets written by a conversion are verified while they are read."""

import json

import numpy as np
import pytest

from jaxtal.data import conversion, layouts
from jaxtal.data.io import checksums
from jaxtal.data.layouts import manifest
from jaxtal.errors import DataError
from tests.helpers import layout_cases


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(params=["wtalc", "basnet", "actionformer"])
def converted(request, tmp_path):
    """A data set in one of the forms: a joint file, two files per video, one file per video."""
    source = layout_cases.source(layout_cases.dataset())
    conversion.convert(source, request.param, tmp_path / "data")
    return tmp_path / "data"


def features_file(folder):
    """Return the largest file, which has features."""
    return max(folder.rglob("*.npy"), key=lambda path: path.stat().st_size)


def test_an_intact_data_set_is_read(converted):
    for verify in ("auto", "always", "never"):
        assert len(layouts.read(converted, verify=verify).load().train) > 0


def test_changed_features_are_refused(converted):
    flip(features_file(converted))
    with pytest.raises(DataError, match=r", video \w+: the features have changed since the conv"):
        layouts.read(converted).load()
    layouts.read(converted, verify="never").load()


def test_changed_features_are_damaged_features(converted):
    if list(converted.rglob("*JOINT*")):
        return
    flip(features_file(converted))
    whole = layouts.read(converted, verify="never").load()
    kept = layouts.read(converted).load(skip_damaged=True)
    assert len(kept.videos) == len(whole.videos) - 1


def test_changed_annotations_are_refused(converted):
    stated = json.loads((converted / manifest.NAME).read_text())["annotations"]
    assert stated
    for name in stated:
        before = (converted / name).read_bytes()
        flip(converted / name)
        with pytest.raises(DataError, match=f"{name} has changed since the conversion; copy or"):
            layouts.read(converted)
        (converted / name).write_bytes(before)


def test_a_modality_is_verified_as_well(converted):
    layouts.read(converted, modality="rgb").load()
    flip(features_file(converted))
    with pytest.raises(DataError, match="the features have changed"):
        layouts.read(converted, modality="rgb").load()


def test_checksums_may_be_required(converted, tmp_path):
    path = converted / manifest.NAME
    content = json.loads(path.read_text())
    for name in ("sha256", "annotations"):
        del content[name]
    path.write_text(json.dumps(content))
    layouts.read(converted).load()
    with pytest.raises(
        DataError, match=r"verify=always, but there are no checksums in jaxtal\.json"
    ):
        layouts.read(converted, verify="always")
    path.unlink()
    with pytest.raises(DataError, match="verify=always, but there are no checksums"):
        layouts.read(converted, verify="always")


def test_a_checksum_of_every_video_may_be_required(converted):
    path = converted / manifest.NAME
    content = json.loads(path.read_text())
    del content["sha256"], next(iter(content["videos"].values()))["crc32"]
    path.write_text(json.dumps(content))
    layouts.read(converted).load()
    with pytest.raises(DataError, match=r", video \w+: verify=always, but there are no checksums"):
        layouts.read(converted, verify="always").load()


def test_links_to_files_elsewhere_are_verified(converted, tmp_path):
    name = next(iter(json.loads((converted / manifest.NAME).read_text())["annotations"]))
    (converted / name).rename(tmp_path / "elsewhere")
    (converted / name).symlink_to(tmp_path / "elsewhere")
    layouts.read(converted).load()
    flip(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has changed since the conversion"):
        layouts.read(converted)


def test_a_list_of_sums_that_lost_a_line_is_refused(converted):
    path = converted / checksums.LIST
    path.write_text("".join(path.read_text().splitlines(True)[1:]))
    with pytest.raises(DataError, match=r"SHA256SUMS has changed since the conversion"):
        layouts.read(converted)


def test_a_damaged_manifest_is_refused(converted):
    path = converted / manifest.NAME
    content = json.loads(path.read_text())
    content["grid"]["fps"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"jaxtal\.json: damaged or edited"):
        layouts.read(converted)


def test_the_checksum_is_of_the_values():
    features = np.arange(12, dtype=np.float16).reshape(3, 4)
    assert manifest.checksum(features) == manifest.checksum(np.asfortranarray(features))
    assert manifest.checksum(features) != manifest.checksum(features + np.float16(0.5))
