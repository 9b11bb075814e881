"""glibc's allocator, told that a training step frees what the next one asks for again.

As it is, it hands freed memory at the top of the heap back to the kernel, which clears each page anew when the same
tensors come again: thousands of page faults a step, 5 % of its time on a small model.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEPT, IN_HEAP = 2**30, 2**25  # bytes: of freed memory that stay; of the largest tensor in the heap, which glibc bounds


def keep_freed_memory() -> None:
    """From now on, in this process; nothing where another C library has no such setting."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, IN_HEAP)
