"""The names that files of a version may have."""

from collections.abc import Collection
from pathlib import PurePosixPath

from tasks.registry.formats.content import FormatError
from tasks.registry.model_signature import IGNORED_PATHS
from tasks.registry.object_keys import MANIFEST_NAME

# What lies beside the files of a version once it is fetched.
RESERVED_NAMES = frozenset({MANIFEST_NAME, *IGNORED_PATHS})
FORBIDDEN_CHARACTERS = frozenset('\\:*?"<>|')  # no file has them in its name on Windows


def check_name(name: str) -> None:
    """Check that a file can have this name on every system, inside of the version's folder.

    Raises:
        FormatError: It cannot.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or not path.parts:
        raise FormatError("is no plain path inside of the version's folder")
    if any(ord(character) < 32 or character in FORBIDDEN_CHARACTERS for character in name):
        raise FormatError("has a character in its name that not every system allows")
    if path.parts[0].lower() in {reserved.lower() for reserved in RESERVED_NAMES}:
        raise FormatError(
            "has a name that a version keeps for what lies beside its files, which is not signed"
        )
    if any(part.startswith(".") or part.endswith((".", " ")) for part in path.parts):
        raise FormatError("has a name that hides it, or that not every system keeps as it is")


def find_clash(names: Collection[str]) -> tuple[str, str] | None:
    """Find two names that are one file on a system that ignores case, or a file and its folder."""
    by_folded: dict[str, str] = {}
    for name in sorted(names):
        for folder in PurePosixPath(name).parents:
            clashing = by_folded.get(str(folder).casefold())
            if clashing:
                return clashing, name
        folded = name.casefold()
        if folded in by_folded:
            return by_folded[folded], name
        by_folded[folded] = name
    return None
