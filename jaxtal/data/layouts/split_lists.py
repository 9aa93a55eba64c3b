"""Lists of the training, test and validation videos, beside a JSON file of annotations."""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxtal.data.affixes import recognize
from jaxtal.data.io.files import open_regular
from jaxtal.errors import DataError, short_repr

SUBSETS = ("train", "test")


def read(folder: Path, videos: Collection[str]) -> dict[str, str] | None:
    """Return {video name: subset} from the split lists, None unless those of train and test exist.

    If the lists name none of `videos`, a prefix or suffix by which the names differ is recognized.
    There may also be one of validation videos, split_val.txt or split_validation.txt.

    Args:
        folder: the data set's folder.
        videos: names of the annotated videos.

    Raises:
        DataError: a video is in two lists.
    """
    paths = {name: folder / f"split_{name}.txt" for name in (*SUBSETS, "val", "validation")}
    present = {name: path for name, path in paths.items() if os.path.lexists(path)}
    if not present.keys() >= {*SUBSETS}:
        return None
    found: dict[str, str] = {}
    for subset, path in present.items():
        for name in lines(path):
            if (other := found.setdefault(name, subset)) != subset:
                raise DataError(
                    f"{paths[other]} and {path.name}: {short_repr(name)} is in both; remove it "
                    "from one"
                )
    if found.keys().isdisjoint(videos) and (affix := recognize(found, videos)):
        return {affix.file_name(name) or name: part for name, part in found.items()}
    return found


def contradictory(split: Mapping[str, str], entries: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the training and test videos that are in the other subset of the JSON file.

    A subset named train... or test... is that part; another one, that of most of its videos.

    Args:
        split: video name -> subset, from the split lists.
        entries: video name -> entry of the JSON file.
    """
    pairs = []
    for name, part in split.items():
        entry = entries.get(name)
        subset = entry.get("subset") if isinstance(entry, dict) else None
        if part in SUBSETS and isinstance(subset, str):
            pairs.append((name, subset, part))
    counts = Counter((subset, part) for _, subset, part in pairs)
    meaning = {}
    for subset in {subset for _, subset, _ in pairs}:
        named = [part for part in SUBSETS if subset.casefold().startswith(part)]
        meaning[subset] = max(named or SUBSETS, key=lambda part: counts[subset, part])
    if set(meaning.values()) != set(SUBSETS):
        return ()
    return tuple(name for name, subset, part in pairs if part != meaning[subset])


def lines(path: Path) -> list[str]:
    """Return the lines of a text file, without blanks around them and empty ones.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be read.
    """
    with open_regular(path) as file:
        text = file.read().decode("utf-8-sig", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
