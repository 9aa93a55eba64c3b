"""Entry point of `python -m jaxtal.main ...`, the same as `jaxtal train ...`."""

import sys

from jaxtal.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
