"""Reading and writing JSON files so that what is wrong in them, or with them, is said."""

import functools
import json
import math
from pathlib import Path
from typing import Any

from jaxtal.data.io.files import atomic_write, check_unique, open_regular
from jaxtal.errors import DataError, short_repr


def load(path: Path, form: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        form: what is wanted, for messages.

    Raises:
        DataError: the file is missing or not a JSON object, or an object in it has a name twice (a
            video, say), of which a parser would silently drop one.
    """
    try:
        with open_regular(path, f"a JSON file, {form}") as file:
            encoded = file.read().decode("utf-8")
        content = json.loads(encoded, object_pairs_hook=functools.partial(_object, path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; wanted a JSON file, {form}") from None
    except DataError:  # a ValueError, too
        raise
    except RecursionError:
        raise DataError(f"{path}: not a JSON file (nested too deep); wanted {form}") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({str(error)[:120]}); wanted {form}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {short_repr(content)}; wanted {form}")
    return content


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        check_unique([name for name, _ in pairs], f"{path}")
    return content


def field(entry: Any, key: str, where: str, form: str) -> Any:
    """The value of `key` in the object `entry`; DataError if it is missing."""
    if not isinstance(entry, dict) or key not in entry:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise DataError(f'{where}: no "{key}" in {short_repr(found)}; wanted {form}')
    return entry[key]


def as_text(value: Any, what: str, where: str) -> str:
    """A value that is text, or a number that stands for it; DataError if it is something else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f'{where}: "{what}" is {short_repr(value)}; wanted text')
    return str(value)


def to_text(value: Any) -> str:
    """Indented JSON, with null for what is not a finite number."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """JSON has no NaN: what could not be measured (no ground truth, no label) is null."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(path: Path, text: str) -> None:
    """Write a whole file; it appears at once or not at all."""
    with atomic_write(path) as file:
        file.write(text)
