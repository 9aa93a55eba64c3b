"""Entry point of `python -m jaxtal.main ...`, the same as `jaxtal train ...`."""

import sys

from jaxtal.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
