#!/bin/bash
# The benchmarks (tests/bench/bench.py); needs the build and, for the latency part, root and dockerd.
set -eu
cd "$(dirname "$0")/.."
tools/deps.sh --test
exec /usr/bin/python3 tests/bench/bench.py "$@"
