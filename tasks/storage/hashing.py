"""Hashes of files, folders, values and ids: identity is content."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError

ID_HASH_BYTES = 8
# Libraries whose version decides what the data stages write.
FINGERPRINTED_LIBRARIES = (
    "charset-normalizer",
    "daft",
    "ftfy",
    "imagehash",
    "phonenumbers",
    "pillow",
    "presidio-analyzer",
    "py3langid",
    "pyarrow",
    "rensa",
    "tldextract",
)


def read_library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that decide what is written."""
    return {name: importlib.metadata.version(name) for name in FINGERPRINTED_LIBRARIES}


def hash_json(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON; a pydantic model counts as its content."""
    text = json.dumps(value, sort_keys=True, default=lambda model: model.model_dump())
    return hashlib.sha256(text.encode()).hexdigest()


def hash_row_id(row_id: str) -> bytes:
    """Return eight bytes that stand for a row's id where the id itself should not be kept."""
    return hashlib.sha256(row_id.strip().encode()).digest()[:ID_HASH_BYTES]


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        StageError: It is a device or a pipe, which may have no end.
    """
    if path.exists() and not path.is_file():
        raise StageError(f"{path} is not a file: name a file that holds the data.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}
