"""Findings of the examination of a data set, by severity."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from jaxtal.data.reading import FIELDS
from jaxtal.errors import DataError, warn

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
_NAMED = 5  # examples in reports


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about a data set that a user should know.

    Attributes:
        kind: what was found, a few words that are the same for all data sets, such as
            "other time grid".
        severity: "error": results would be meaningless; "warning": they may be wrong, or videos are
            unused; "note": information.
        message: one sentence with counts, an example and how to fix it. Options are spelled as
            `stride=16`.
        examples: the occurrences, one short text each.
    """

    kind: str
    severity: str
    message: str
    examples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object, with at most five examples."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "count": len(self.examples),
            "first": list(self.examples[:_NAMED]),
        }


def few(names: Sequence[str]) -> str:
    """Return the first names as text."""
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings sorted by severity, errors first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def report(findings: Sequence[Finding], where: str, strict: bool = False, prefix: str = "") -> None:
    """Log warnings, and raise an error for the first finding that is one.

    Args:
        findings: the findings of one data set; notes are not logged.
        where: the data set, for the messages.
        strict: treat warnings as errors.
        prefix: text before the options in the messages, e.g. "config.data.".

    Raises:
        DataError: a finding is an error; or with `strict`, a warning.
    """
    fatal = [f for f in findings if f.severity == ERROR or (strict and f.severity == WARNING)]
    for finding in findings:
        if finding.severity == WARNING and finding not in fatal:
            warn(f"{where}: {_spelled(finding.message, prefix)}")
    if fatal:
        more = f" ({len(fatal) - 1} more: {', '.join(f.kind for f in fatal[1:])})"
        raise DataError(f"{where}: {_spelled(fatal[0].message, prefix)}{more if fatal[1:] else ''}")


def _spelled(message: str, prefix: str) -> str:
    """Return a message with a prefix before each of its options."""
    return re.sub(rf"(?<![\w.])({'|'.join(FIELDS)})=", rf"{prefix}\1=", message)
