"""The memory of a training step: what running out of it looks like, and how it is reused."""

import ctypes

import torch

# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
KEPT_BYTES = 1 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a GPU, torch's allocator on the CPU, or Python ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error)


def keep_freed_memory() -> None:
    """Keep what a step frees for the next one; to ask the system again costs a tenth of a step.

    Only glibc offers this; with another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and mallopt(MMAP_THRESHOLD, KEPT_BYTES):
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
