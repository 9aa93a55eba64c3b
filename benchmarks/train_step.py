"""Entry point of `python -m benchmarks.train_step`; see `benchmarks.speed.train_step`."""

from benchmarks.speed.train_step import main

if __name__ == "__main__":
    main()
