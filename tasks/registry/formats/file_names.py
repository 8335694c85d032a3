"""The names that files of a version may have."""

from collections.abc import Collection
from pathlib import PurePosixPath

from tasks.registry.formats.content import FormatError
from tasks.registry.model_signature import IGNORED_PATHS
from tasks.registry.object_keys import MANIFEST_NAME

# What lies beside the files of a version once it is fetched, in lower case.
RESERVED_NAMES = frozenset(name.lower() for name in (MANIFEST_NAME, *IGNORED_PATHS))
FORBIDDEN_CHARACTERS = frozenset([*'\\:*?"<>|\x7f', *map(chr, range(32))])  # as Windows has it


def check_name(name: str) -> None:
    """Check that a file can have this name on every system, inside of the version's folder.

    Raises:
        FormatError: It cannot.
    """
    if not is_plain_path(name):
        raise FormatError("is no plain path inside of the version's folder")
    if FORBIDDEN_CHARACTERS.intersection(name):
        raise FormatError("has a character in its name that not every system allows")
    parts = PurePosixPath(name).parts
    if parts[0].lower() in RESERVED_NAMES:
        raise FormatError("has a name that is kept for what lies beside the files of a version")
    if not all(map(is_kept_as_it_is, parts)):
        raise FormatError("has a name that hides it, or that not every system keeps as it is")


def is_plain_path(name: str) -> bool:
    """Return whether a name is a path below a folder, in its only spelling."""
    parts = PurePosixPath(name).parts
    if not parts or "/".join(parts) != name:
        return False
    return ".." not in parts


def is_kept_as_it_is(part: str) -> bool:
    """Return whether a part of a path is visible, and has an end that Windows does not cut."""
    return not part.startswith(".") and not part.endswith((".", " "))


def find_clash(names: Collection[str]) -> tuple[str, str] | None:
    """Find two names that are one on a system that ignores case, or a file in another file."""
    by_folded: dict[str, str] = {}
    for name in sorted(names, key=str.casefold):
        path = PurePosixPath(name.casefold())
        for taken in (path, *path.parents):
            if str(taken) in by_folded:
                return by_folded[str(taken)], name
        by_folded[str(path)] = name
    return None
