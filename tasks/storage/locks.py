"""Locks between processes of one machine. A killed process loses its locks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file.

    Each call opens the file anew, so threads of one process exclude each other too.

    Args:
        path: The lock file; it is created and left behind.
        wait: Whether to wait for whoever holds it.

    Yields:
        Whether the lock is held; False only if it is taken and `wait` is False.
    """
    lock = filelock.FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
