"""Reading and writing of JSON files, with one-line error messages."""

import functools
import json
import math
from pathlib import Path
from typing import Any

from jaxtal.data.io import checksums
from jaxtal.data.io.files import UnreadableError, atomic_write, check_unique, open_regular
from jaxtal.errors import DataError, short_repr


def load(path: Path, form: str) -> dict[str, Any]:
    """Read a JSON file that contains an object, and verify its checksum if it has one.

    Args:
        path: the file.
        form: the expected content, for error messages.

    Returns:
        The object, without its checksum.

    Raises:
        DataError: the file is missing, does not contain a JSON object or does not match its
            checksum, or an object in it has a duplicate key (for example a video), whose first
            value JSON parsers silently drop.
    """
    try:
        with open_regular(path, f"a JSON file, {form}") as file:
            encoded = file.read().decode("utf-8-sig")
        content = json.loads(encoded, object_pairs_hook=functools.partial(_object, path))
    except OSError as error:
        how = f"{path}: {error.strerror or error}; wanted a JSON file, {form}"
        raise UnreadableError(how) from None
    except DataError:  # a subclass of ValueError
        raise
    except RecursionError:
        raise DataError(f"{path}: not a JSON file (nested too deep); wanted {form}") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({str(error)[:120]}); wanted {form}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {short_repr(content)}; wanted {form}")
    return checksums.unseal(content, f"{path}")


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        check_unique([name for name, _ in pairs], f"{path}")
    return content


def field(entry: Any, key: str, where: str, form: str) -> Any:
    """Return the value of `key` in the object `entry`.

    Args:
        entry: an object from a JSON file.
        key: the required key.
        where: file and place in it, for the error message.
        form: the expected content of the file, for the error message.

    Raises:
        DataError: `entry` is not an object or lacks the key.
    """
    if not isinstance(entry, dict) or key not in entry:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise DataError(f'{where}: no "{key}" in {short_repr(found)}; wanted {form}')
    return entry[key]


def as_text(value: Any, what: str, where: str) -> str:
    """Return a value as text if it is text or a number.

    Args:
        value: a value from a JSON file.
        what: its key, for the error message.
        where: file and place in it, for the error message.

    Raises:
        DataError: the value is neither text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f'{where}: "{what}" is {short_repr(value)}; wanted text')
    return str(value)


def to_text(value: Any) -> str:
    """Return a value as indented JSON text, with null for numbers that are not finite.

    Args:
        value: dicts, lists, text, numbers, bools and None.
    """
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def to_sealed_text(content: dict[str, Any]) -> str:
    """Return an object as indented JSON text with its checksum, which `load` verifies.

    Args:
        content: as in `to_text`.
    """
    return to_text(checksums.seal(finite(content)))


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None.

    Args:
        value: dicts, lists, text, numbers, bools and None; it is not modified.
    """
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(path: Path, text: str) -> None:
    """Write a text file atomically.

    Args:
        path: the file.
        text: its content.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(text)
