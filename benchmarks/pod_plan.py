"""Entry point of `python -m benchmarks.pod_plan`; see `benchmarks.planner.plan`."""

from benchmarks.planner.plan import main

if __name__ == "__main__":
    main()
