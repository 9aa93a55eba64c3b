"""Train and evaluate: `python -m jaxtal.main ...` is the command `jaxtal train ...`."""

import sys

from jaxtal.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
