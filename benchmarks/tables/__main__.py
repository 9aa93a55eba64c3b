"""Entry point of `python -m benchmarks.tables`; see `benchmarks.tables.run`."""

from benchmarks.tables.run import main

if __name__ == "__main__":
    main()
