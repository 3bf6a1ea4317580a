"""One script per group of bars; `python -m benchmarks.NAME --out DIR [--quick]`."""
