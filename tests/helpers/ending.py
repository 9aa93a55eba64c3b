"""A program that does what its argument says, for tests of how programs end."""

import atexit  # noqa: F401, for the argument
import os  # noqa: F401
import sys
import threading  # noqa: F401
import time  # noqa: F401

exec(sys.argv[1])
