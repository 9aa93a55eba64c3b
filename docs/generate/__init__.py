"""Pages of the documentation that are generated from the program when the site is built.

Each module here has functions that return a page as Markdown; `PAGES` maps paths to them.
"""

import functools
from collections.abc import Callable

from docs.generate import (
    api_reference,
    command_reference,
    config_reference,
    measurements,
    results,
)

PAGES: dict[str, Callable[[], str]] = {
    "performance/measurements.md": measurements.page,
    "results/published.md": results.published,
    "results/tables.md": results.tables,
    "reference/commands.md": command_reference.page,
    "reference/config.md": config_reference.page,
    "reference/api/index.md": api_reference.index,
    **{
        f"reference/api/{name}.md": functools.partial(api_reference.room_page, name)
        for name in api_reference.ROOMS
    },
}
