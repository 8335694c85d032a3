"""Hashing."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

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
    return {name: importlib.metadata.version(name) for name in FINGERPRINTED_LIBRARIES}


def hash_json(value: Any) -> str:
    """The sha256 of a value's canonical JSON; a section of the recipe counts as what it holds."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, default=lambda section: section.model_dump()).encode()
    ).hexdigest()


def hash_row_id(name: str) -> bytes:
    """Eight bytes that stand for a row's id, blanks around it aside, where the id itself should not be kept."""
    return hashlib.sha256(name.strip().encode()).digest()[:8]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
