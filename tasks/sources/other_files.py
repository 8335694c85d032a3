"""Files beside the data: from which no rows are read, and which are counted all the same."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath

import pyarrow as pa

from tasks.sources.base import BrokenRow, RowBatch, SourcePartition
from tasks.storage import hashing

# What file managers leave in folders. It is passed over like files whose name begins with a dot.
LITTER = {"Thumbs.db", "desktop.ini", "__MACOSX"}
NO_COLUMNS = pa.table({})


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is passed over."""
    return name.startswith(".") or name in LITTER


def describe_hidden(place: str, hidden: Sequence[str]) -> list[str]:
    """Say how many hidden files are passed over, if any are."""
    if not hidden:
        return []
    count = "1 hidden file is" if len(hidden) == 1 else f"{len(hidden)} hidden files are"
    return [f"{place}: {count} passed over, such as {hidden[0]}"]


def describe_suffix(name: str, read: Sequence[str]) -> str:
    """Say that files of this type are not read, and which are."""
    suffix = PurePath(name).suffix.lower() or "without a suffix"
    return f"files of type {suffix} are not read; {', '.join(read)} are"


def build_partition(
    place: str, unread: Sequence[BrokenRow], hidden: Sequence[str]
) -> Iterator[SourcePartition]:
    """Yield a part without rows for files that are not read or passed over, if there are any."""
    if not unread and not hidden:
        return
    batch = RowBatch(
        place, NO_COLUMNS, unread=list(unread), warnings=describe_hidden(place, hidden)
    )
    version = hashing.hash_json([[list(file) for file in unread], list(hidden)])
    yield SourcePartition(f"{place} (other files)", version, lambda: [batch])
