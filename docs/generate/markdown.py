"""Markdown that the generated pages share."""

import html
import re

NONE = "\N{EN DASH}"  # in an empty cell


def escape(text: str) -> str:
    """Escape plain text for Markdown, also within a table."""
    return re.sub(r"([|*_\[\]])", r"\\\1", html.escape(text, quote=False))
