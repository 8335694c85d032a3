"""Which code and settings wrote an output, recorded beside the output and never in it.

A stage may keep parts of its last output only if its code and settings of today would write the
same. An output that held this key would change with every edit of the code, and with it everything
that is made from the output. So a marker file in a folder of its own stands for "this key writes
a file with this content". Markers may be deleted at any time: the stage then does all its work.
"""

from pathlib import Path

from tasks.storage import hashing


def find_marker(folder: Path, output: Path, cache_key: str) -> Path:
    """Return where the marker of an output and a key lies: its name holds the hashes of both."""
    return folder / f"{hashing.sha256(output)[:32]}-{hashing.hash_json(cache_key)[:32]}"


def is_written_with(folder: Path, output: Path, cache_key: str) -> bool:
    """Return whether `output` exists and code and settings of this key are known to write it."""
    return output.is_file() and find_marker(folder, output, cache_key).is_file()


def record_cache_key(folder: Path, output: Path, cache_key: str) -> None:
    """Record that code and settings of this key write `output` as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    find_marker(folder, output, cache_key).touch()
