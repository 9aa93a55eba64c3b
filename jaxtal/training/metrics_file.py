"""metrics.jsonl: a JSON object with "step" and a checksum on every line.

The file is a log, no part of the training state: a damaged line never prevents that a run resumes.
"""

import json
from pathlib import Path
from typing import Any

from jaxtal.data.io import checksums, json_files
from jaxtal.data.io.files import open_regular
from jaxtal.errors import DataError


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line.

    Args:
        path: the file.
        line: JSON object with "step".

    Raises:
        OSError: the file cannot be written.
    """
    with open(path, "a", encoding="utf-8") as file:
        file.write(to_text(line))


def to_text(line: dict[str, Any]) -> str:
    """Return a line of the file, with its end.

    Args:
        line: JSON object with "step".
    """
    return json.dumps(checksums.seal(json_files.finite(line))) + "\n"


def read(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Read the intact lines; a last line that a kill truncated is ignored.

    Args:
        path: the file; it need not exist.

    Returns:
        The intact lines, and a description of the first damaged one, "" if there is none.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.exists():
        return [], ""
    with open_regular(path) as file:
        encoded = file.read().split(b"\n")[:-1]
    lines, damage = [], ""
    for number, text in enumerate(encoded, 1):
        try:
            lines.append(_parse(text))
        except (ValueError, RecursionError) as error:
            damage = damage or f"line {number} is damaged ({str(error)[:80]})"
    return lines, damage


def _parse(text: bytes) -> dict[str, Any]:
    line = json.loads(text)
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise ValueError('no "step"')
    try:
        return checksums.unseal(line, "")
    except DataError:
        raise ValueError("its checksum differs") from None
