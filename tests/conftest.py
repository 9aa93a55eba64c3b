"""Defaults of every test: 8 CPU devices, no silent rank promotion, reproducible examples."""

import logging
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import hypothesis
import jax
import pytest

# The same examples in every run, so that failures are reproducible. For more examples:
# `python -m pytest --hypothesis-profile=wide`.
hypothesis.settings.register_profile("wide", max_examples=200, deadline=None)
hypothesis.settings.register_profile("jaxtal", max_examples=15, deadline=None, derandomize=True)
hypothesis.settings.load_profile("jaxtal")

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]

# Golden values and real annotations, part of the repository (tests/golden/README.md).
GOLDEN = ROOT / "tests" / "golden"

# Optional, outside the repository: ActivityNet's annotations and the AudioWTAL recordings.
SHARED = Path(os.environ.get("JAXTAL_SHARED") or ROOT.parent / "shared")


@pytest.fixture(autouse=True)
def _library_log():
    """Restore the library's logger after a test that runs a program in this process."""
    logger = logging.getLogger("jaxtal")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs():
    """Drop compiled programs long before the kernel's limit of 65,530 mapped regions a process."""
    yield
    regions = Path("/proc/self/maps")
    if regions.exists() and regions.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of optional real data. Skips the test where the folder does not exist."""
    if not SHARED.is_dir():
        pytest.skip(f"no optional data: {SHARED} does not exist (set JAXTAL_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def thumos14() -> Path:
    """Folder of THUMOS14's annotations, in the W-TALC layout and as a JSON file."""
    return GOLDEN / "thumos14"


# Rooms without JAX, or with small programs only, fastest first.
_FAST = (
    "test_architecture.py",
    "evaluation",
    "localization",
    "configs",
    "visualization",
    "nn",
    "data",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast rooms first, so that most failures show within minutes."""

    def rank(item: pytest.Item) -> int:
        room = item.path.relative_to(ROOT / "tests").parts[0]
        return _FAST.index(room) if room in _FAST else len(_FAST)

    items.sort(key=rank)
