"""Pages of the documentation that are generated from the program when the site is built.

Each module here has a function that returns a page as Markdown; `PAGES` maps paths to them.
"""

from collections.abc import Callable

PAGES: dict[str, Callable[[], str]] = {}
