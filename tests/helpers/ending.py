"""A program that executes its argument, for tests of exits."""

import atexit  # noqa: F401, for the argument
import os  # noqa: F401
import sys
import threading  # noqa: F401
import time  # noqa: F401

exec(sys.argv[1])
