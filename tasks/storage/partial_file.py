"""A file on its way: what has come stays for another try; it takes its name when it is whole."""

import fcntl
import hashlib
import os
import secrets
from pathlib import Path

from tasks.storage import files

HASH_DIGITS = 16  # in the name of a partial file


class PartialFile:
    """A file that is being written from its beginning to its end.

    Attributes:
        path: The name that it takes when it is whole.
        size: How many bytes are there.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        """Open what an earlier try has left, or an empty file.

        Args:
            path: The name that it takes when it is whole.
            sha256: The hash of the whole content.
        """
        self.path = path
        self.sha256 = sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        self.open(sha256[:HASH_DIGITS])
        self.is_ours = self.lock()
        if not self.is_ours:  # another process writes it
            self.file.close()
            self.open(secrets.token_hex(HASH_DIGITS // 2))
        self.digest = hashlib.file_digest(self.file, "sha256")
        self.size = self.file.tell()

    def open(self, suffix: str) -> None:
        """Open a neighbour of the file, at its beginning."""
        self.partial = self.path.with_name(f".{self.path.name}.{suffix}.part")
        self.file = self.partial.open("ab+")
        self.file.seek(0)

    def lock(self) -> bool:
        """Return whether no other process writes the file, or has just given it its name."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(self.file.fileno()).st_ino == self.partial.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            return False

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self.digest.update(data)
        self.file.write(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget all bytes."""
        self.file.truncate(0)
        self.digest = hashlib.sha256()
        self.size = 0

    def is_whole(self) -> bool:
        """Return whether the bytes are the right ones."""
        return self.digest.hexdigest() == self.sha256

    def take_name(self) -> None:
        """Give the file its name; it is on disk then, and everybody may read it."""
        self.file.flush()
        os.fchmod(self.file.fileno(), files.FILE_MODE)
        os.fsync(self.file.fileno())
        self.partial.replace(self.path)

    def close(self) -> None:
        """Close the file. What came stays for another try."""
        self.file.close()
        if not self.is_ours:
            self.partial.unlink(missing_ok=True)
