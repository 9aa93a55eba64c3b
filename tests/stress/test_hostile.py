"""Hostile files are loaded, or rejected with a one-line error; nothing else happens.

tests/stress/hostile/ makes the files and watches the readers. CI reads 500 files, `-m slow` reads
23,000. `python -m tests.stress.hostile --only 1234` reads the file of that number again and prints
its faults.
"""

import sys
from collections import Counter

import pytest

from tests.stress.hostile import families, runner, unsafe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and devices are Linux's")

COUNT = 500  # in CI
MANY = 3000
# Family -> least share of rejected files, least share of loaded files.
SHARES = {
    "npy_bytes": (0.5, 0.03), "npy_header": (0.7, 0.02), "pickles": (0.8, 0.01),
    "feature_forms": (0.3, 0.02),
    "columns": (0.5, 0.05), "npz_bytes": (0.5, 0.02), "npz_archive": (0.4, 0.05),
    "npz_arrays": (0.5, 0.04), "json_tree": (0.4, 0.1), "manifests": (0.15, 0.3),
    "json_bytes": (0.5, 0.01), "detection_files": (0.4, 0.1), "texts": (0.2, 0.3),
    "names": (0.4, 0.08), "special_files": (0.3, 0.15), "folder_bytes": (0.3, 0.15),
    "torch_bytes": (0.5, 0.02), "torch_crafted": (0.6, 0.01),
}  # fmt: skip


def assert_harmless(lines) -> None:
    failed = [line for line in lines if line["outcome"] == "failed"]
    report = "\n\n".join(
        f"python -m tests.stress.hostile --only {line['number']}\n"
        f"{line['family']}: {line['what']}\n{line['message']}"
        for line in failed[:5]
    )
    assert not failed, f"{len(failed)} of {len(lines)}\n{report}"


def read_files(count: int) -> list[dict]:
    """Return the outcome of every mutant."""
    lines, growth = runner.run(count)
    assert growth < 2**28
    assert [line["number"] for line in lines] == list(range(count))
    return lines


def test_hostile_files_do_no_harm():
    lines = read_files(COUNT)
    assert_harmless(lines)
    assert {line["family"] for line in lines} == set(SHARES)
    assert {line["outcome"] for line in lines} == {"rejected", "loaded"}


@pytest.mark.slow
def test_every_family_is_read_and_rejected():
    """Otherwise the tests would cover only the first check of each reader."""
    lines = read_files(MANY)
    assert_harmless(lines)
    counts = Counter((line["family"], line["outcome"]) for line in lines)
    assert {family.__name__ for family in families.SHARES} == set(SHARES)
    for family, share in families.SHARES.items():
        name = family.__name__
        total = share * MANY // 100
        rejected, loaded = counts[name, "rejected"] / total, counts[name, "loaded"] / total
        assert rejected + loaded == 1, name
        assert rejected >= SHARES[name][0], (name, rejected)
        assert loaded >= SHARES[name][1], (name, loaded)


def test_the_same_number_is_the_same_file(tmp_path):
    for number in range(100):
        contents = []
        for folder in (tmp_path / f"a{number}", tmp_path / f"b{number}"):
            folder.mkdir()
            families.mutant(number, folder)
            contents.append({
                path.relative_to(folder): path.read_bytes()
                for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
            })  # fmt: skip
        assert contents[0] == contents[1], number


def test_readers_with_faults_are_caught():
    """The guard detects each of the faulty readers."""
    found, _ = runner.worker("--unsafe")
    assert [line["number"] for line in found] == list(unsafe.READERS)
    for line in found:
        assert line["outcome"] == "failed", line
        assert unsafe.READERS[line["number"]][1] in line["message"], line


@pytest.mark.slow
def test_many_more_hostile_files():
    assert_harmless(runner.run(20_000, MANY)[0])
