"""What the README's tables state, measured; `make bench` runs all of it, `python -m tests.benchmarks NAME` one."""
