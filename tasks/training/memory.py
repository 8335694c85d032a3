"""Memory."""

import ctypes

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU, of torch's allocator on the CPU, or of Python."""
    return isinstance(
        error, (torch.OutOfMemoryError, MemoryError)
    ) or "can't allocate memory" in str(error)


def keep_freed_memory() -> None:
    """What a step frees stays with this process for the next: to fetch it from the system again is a tenth of a step. Only glibc can; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and mallopt(-3, 1 << 30):  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
