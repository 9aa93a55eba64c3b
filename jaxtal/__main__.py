"""Entry point of `python -m jaxtal COMMAND ...`, the same as `jaxtal COMMAND ...`."""

import sys

from jaxtal.cli import main

if __name__ == "__main__":
    sys.exit(main())
