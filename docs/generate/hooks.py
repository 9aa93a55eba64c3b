"""MkDocs hooks: add the generated pages, draw equations, keep numbers and units together."""

import functools
import html
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `mkdocs build` does not search the current folder

import ziamath  # noqa: E402
from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from docs.generate import PAGES  # noqa: E402

_EQUATION = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.+?)\\\)|\\\[(.+?)\\\])</\1>', re.S)
_SVG = re.compile(r'<svg (xmlns="\S+") width="\S+" height="\S+" (viewBox="\S+ (\S+) (\S+) (\S+)")')
_CELL = re.compile(r"<td(?:(?!</?td|<svg).)*</td>", re.S)
_SPACE_IN_NUMBER = re.compile(r"(?<=\d) (?=±|%|(?:s|ms|MiB|MB)\b)|(?<=±) |(?<=\.\d,) (?=\d+\.\d)")
_FONT_SIZE = 16.0  # pixels, as Material's text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, generate in PAGES.items():
        files.append(File.generated(config, path, content=generate()))
    return files


def on_page_content(content: str, **_: object) -> str:
    """Draw equations as SVG, without script and font, and keep numbers in tables on one line."""
    content = _EQUATION.sub(lambda match: _figure(*match.groups()), content)
    return _CELL.sub(lambda match: _SPACE_IN_NUMBER.sub("\N{NO-BREAK SPACE}", match[0]), content)


@functools.cache
def _figure(tag: str, inline: str | None, block: str | None) -> str:
    """Return an equation as SVG; its size is relative to the text's, its color is the text's."""
    source = html.unescape(inline or block or "").strip()
    equation = ziamath.Latex(source, size=_FONT_SIZE, color="currentColor", inline=bool(inline))
    match = _SVG.match(svg := equation.svg())
    if match is None:
        raise ValueError(f"ziamath draws {source!r} as an SVG of unknown size: {svg[:200]}")
    top, width, height = (float(length) / _FONT_SIZE for length in match.groups()[2:])
    style = f"width:{width:.3f}em;height:{height:.3f}em"
    if inline:
        style += f";vertical-align:{-top - height:.3f}em"
    attributes = f'role="img" aria-label="{html.escape(source, quote=True)}" style="{style}"'
    svg = f"<svg {match[1]} {match[2]} {attributes}{svg[match.end() :]}"
    return f'<{tag} class="equation">{svg}</{tag}>'
