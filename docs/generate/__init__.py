"""Pages of the documentation that are generated from the program when the site is built.

Each module here has a function that returns a page as Markdown; `PAGES` maps paths to them.
"""

from collections.abc import Callable

from docs.generate import measurements, results

PAGES: dict[str, Callable[[], str]] = {
    "performance/measurements.md": measurements.page,
    "results/published.md": results.published,
    "results/tables.md": results.tables,
}
