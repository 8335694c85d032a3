"""The check of a version's files: each is of a format that cannot run code, under a safe name."""

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from tasks.contracts.manifest import Manifest
from tasks.core.errors import StageError
from tasks.registry.formats import (
    file_names,
    foreign_formats,
    onnx_file,
    parquet_file,
    pickles,
    safetensors_file,
    text_file,
)
from tasks.registry.formats.content import FileContent, FormatError

ALLOWED = "safetensors, ONNX, JSON, Parquet, CSV, Markdown and other text"


class UnsafeFileError(StageError):
    """A file must not be in a version."""


def check_files(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Check files of a version.

    Args:
        folder: The version's folder.
        manifest: What the version is to be.
        names: The files to check; all of them by default.

    Raises:
        UnsafeFileError: One has a format or a name that no version may have.
    """
    check_names(manifest)
    sizes = {name: file.size for name, file in manifest.files.items()}
    contents = [
        FileContent(folder / name, name)
        for name in sorted(manifest.files if names is None else names)
    ]
    for content in contents:
        refuse_pickle(manifest, content)
    data_files: set[str] = set()
    problems: dict[str, str] = {}
    for content in contents:
        try:
            data_files |= check_content(content, sizes)
        except FormatError as error:
            problems[content.name] = str(error)
    for name, problem in problems.items():
        if name not in data_files:  # the weights of an ONNX model have no format of their own
            refuse(manifest, name, problem)


def check_names(manifest: Manifest) -> None:
    """Check the names of a version's files."""
    for name in manifest.files:
        try:
            file_names.check_name(name)
        except FormatError as error:
            refuse(manifest, name, str(error))
    clash = file_names.find_clash(manifest.files)
    if clash:
        refuse(manifest, clash[1], f"cannot lie beside {clash[0]} on every system")


def refuse_pickle(manifest: Manifest, content: FileContent) -> None:
    """Raise UnsafeFileError if the unpickler would run what the file begins with."""
    with content.open() as file:
        protocol = pickles.find_protocol(file)
    if protocol is not None:
        refuse(manifest, content.name, pickles.describe(protocol))


def check_content(content: FileContent, sizes: dict[str, int]) -> set[str]:
    """Check that a file is of a known format, and is as its format says.

    Args:
        content: The file.
        sizes: The size of each file of the version.

    Returns:
        The files with external data of the file, if it is an ONNX model.

    Raises:
        FormatError: It is not.
    """
    if onnx_file.is_claimed(content):
        return onnx_file.check(content, sizes)
    if safetensors_file.is_claimed(content):
        safetensors_file.check(content)
    elif parquet_file.is_claimed(content):
        parquet_file.check(content)
    elif text_file.is_claimed(content):
        text_file.check(content)
    else:
        raise FormatError(describe_unknown(content))
    return set()


def describe_unknown(content: FileContent) -> str:
    """Describe a file of no format that a version may have."""
    foreign = foreign_formats.describe(content)
    if foreign:
        return foreign
    protocol = pickles.begins_like_pickle(content.head)
    if protocol is not None:
        return f"is damaged, and begins like what {pickles.describe(protocol)}"
    return "is of an unknown format"


def refuse(manifest: Manifest, name: str, problem: str) -> NoReturn:
    """Raise the error for a file that must not be in a version."""
    raise UnsafeFileError(
        f"{manifest.model} {manifest.version}: {name} {problem}. A version may hold {ALLOWED}: "
        "convert the file, or leave it out."
    )
