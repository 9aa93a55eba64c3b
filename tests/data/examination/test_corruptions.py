"""No corruption of a data set goes unnoticed: a finding or an error names each."""

import numpy as np
import pytest

from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import examine
from jaxtal.data.validation import check_trainable
from jaxtal.errors import JaxtalError
from tests.conftest import ROOT
from tests.data.examination import corruptions
from tests.data.examination.corruptions import CORRUPTIONS, LAYOUTS, Corruption

CASES = [
    pytest.param(one, layout, id=f"{one.what}, {layout}".replace(" ", "_"))
    for one in CORRUPTIONS
    for layout in one.layouts
]


def findings(folder, **options) -> dict[str, str]:
    """Return {kind: severity} of what training finds in a data set."""
    dataset = layouts.read(folder, **options).load()
    check_trainable(dataset)
    return {one.kind: one.severity for one in examine(dataset)}


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Findings of the clean data set in each layout."""
    folder = tmp_path_factory.mktemp("clean")
    found = {}
    for layout in LAYOUTS:
        corruptions.write(folder / layout, corruptions.clean(), layout)
        found[layout] = findings(folder / layout)
    return found


def test_a_clean_data_set_has_no_findings(usual):
    """Only that the columns may be split otherwise, where layouts hold any encoder's features."""
    assert {layout for layout, found in usual.items() if found} <= {"opentad", "actionformer"}
    assert all(found.keys() <= {"assumed streams"} for found in usual.values())


@pytest.mark.parametrize(("corruption", "layout"), CASES)
def test_a_corruption_is_named(corruption: Corruption, layout: str, usual, tmp_path):
    rng = np.random.default_rng(1)
    corrupt = corruption.change(corruptions.clean(), rng)
    corruptions.write(tmp_path / "data", corrupt, layout)
    corruption.edit(tmp_path / "data")
    try:
        found = findings(tmp_path / "data", **corruption.options)
    except JaxtalError as error:
        message = str(error)
        assert any(words in message for words in corruption.kinds), message
        assert "\n" not in message
        return
    new = found.keys() - usual[layout].keys()
    assert new & set(corruption.kinds), (new, found)


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_clean_data_set_has_findings(seed):
    dataset: Dataset = corruptions.clean(seed, count=5)
    assert not examine(dataset)


def test_the_documentation_lists_all():
    text = (ROOT / "docs" / "guides" / "data_check.md").read_text()
    assert len(CORRUPTIONS) >= 40
    assert len({one.what for one in CORRUPTIONS}) == len(CORRUPTIONS)
    for one in CORRUPTIONS:
        assert f"| {one.what} |" in text, one.what
