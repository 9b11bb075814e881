"""Seeking to the last sample of an order of 10⁹ samples: time and memory.

python -m benchmarks.seek
"""

import time
import tracemalloc

import numpy as np

from pipeline.samples.order import Order

SAMPLES = 10**9


def main() -> None:
    Order(1000, 0, "warm-up")[np.arange(4)]
    tracemalloc.start()
    begin = time.perf_counter()
    sample = Order(SAMPLES, 0, "synthetic")[np.array([SAMPLES - 1])]
    seconds = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    print(f"sample {SAMPLES - 1:,} of {SAMPLES:,} is {sample[0]:,}: {seconds * 1e3:.2f} ms (asked: under 10), ", end="")
    print(f"{peak / 1e6:.3f} MB (asked: under 50)")


if __name__ == "__main__":
    main()
