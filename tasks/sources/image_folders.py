"""Folders of images: the names of the folders say the class, the split, or another column."""

import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.rows import image_decoding, split_names
from tasks.sources import other_files
from tasks.sources.base import BrokenRow, RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats.file_content import format_file_name
from tasks.storage import hashing

CLASS_LEVEL = "class"
SPLIT_LEVEL = "split"
IMAGE_SUFFIXES = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif",
}  # fmt: skip
READ_FORMATS = "PNG, JPEG, WebP, BMP, TIFF and GIF"
MAX_SHOWN = 4  # names of folders in a message
Parts = tuple[str, ...]  # a path below the root, folder by folder


@dataclass(frozen=True)
class FolderLevels:
    """What the folders below the root are.

    Attributes:
        names: What each level is, from the top; None for one that says nothing.
        warnings: What people should know of how this was decided.
    """

    names: tuple[str | None, ...]
    warnings: tuple[str, ...] = ()

    def read(self, parts: Parts) -> dict[str, str]:
        """Return what the folders of a path say, by the name of the level."""
        named = zip(self.names, parts[:-1], strict=False)
        return {name: folder for name, folder in named if name is not None}


@dataclass(frozen=True)
class ImageFolder:
    """The files that one folder of images gives, and what its name says of each."""

    root: Path
    folder: Parts
    files: list[Parts]
    levels: FolderLevels

    @property
    def name(self) -> str:
        """The folder as people know it."""
        return format_file_name(str(self.root.joinpath(*self.folder)))

    def compute_version(self) -> str:
        """Hash what the folders mean, and the names and contents of the files."""
        paths = [self.root.joinpath(*parts) for parts in self.files]
        files = [[format_file_name(str(path)), hash_if_file(path)] for path in paths]
        return hashing.hash_json([self.levels.names, files])

    def read(self) -> Iterator[RowBatch]:
        """Read the images; a file that is none is set aside."""
        values = self.levels.read((*self.folder, ""))
        split = values.pop(SPLIT_LEVEL, None)
        label = values.pop(CLASS_LEVEL, None)
        is_unlabelled = label is None and split is None
        reader = ImageReader()
        rows = []
        for parts in self.files:
            data = reader.read(self.root.joinpath(*parts), is_outside=is_unlabelled)
            if data is not None:
                name = PurePosixPath(*parts).as_posix()
                rows.append({"id": name, "image": data, "label": label, **values})
        columns = [("id", pa.string()), ("image", pa.binary()), ("label", pa.string())]
        schema = pa.schema([*columns, *((name, pa.string()) for name in values)])
        yield RowBatch(
            self.name,
            pa.Table.from_pylist(rows, schema=schema),
            reader.broken,
            reader.unread,
            [*self.levels.warnings, *reader.warnings(self.name)],
            split and (split_names.parse_split_name(split) or split),
        )


def iter_partitions(root: Path, levels: list[str] | None) -> Iterator[SourcePartition]:
    """Yield each folder of images.

    Args:
        root: The folder that holds them.
        levels: What the folders below it are; None to find that out from their names.

    Raises:
        StageError: There is no folder, or one without a file, or what the folders are is unclear.
    """
    hidden: list[str] = []
    files = sorted(walk_files(root, (), hidden, set())) if root.is_dir() else []
    check_folders(root, files)
    folder_levels = FolderLevels(tuple(levels)) if levels else detect_levels(root, files)
    by_folder: dict[Parts, list[Parts]] = defaultdict(list)
    for parts in files:
        depth = min(len(folder_levels.names), len(parts) - 1)
        by_folder[parts[:depth]].append(parts)
    for folder, members in sorted(by_folder.items(), key=lambda item: (not item[0], item[0])):
        part = ImageFolder(root, folder, members, folder_levels)
        yield build_local_partition(part.name, part.compute_version, part.read)
    yield from other_files.build_partition(str(root), [], hidden)


def walk_files(root: Path, folder: Parts, hidden: list[str], seen: set[str]) -> Iterator[Parts]:
    """Yield the files below a folder; what is hidden is appended to `hidden`.

    A linked folder is followed, unless it leads back to one that holds it.
    """
    place = root.joinpath(*folder)
    real = os.path.realpath(place)
    if real in seen:
        return
    for entry in sorted(place.iterdir()):
        if other_files.is_hidden(entry.name):
            hidden.append(format_file_name(str(entry)))
        elif entry.is_dir():
            yield from walk_files(root, (*folder, entry.name), hidden, seen | {real})
        else:
            yield (*folder, entry.name)


def check_folders(root: Path, files: Sequence[Parts]) -> None:
    """Refuse a root without folders, and an empty folder, which would be a class without rows."""
    folders = [path for path in root.iterdir() if is_visible_folder(path)] if root.is_dir() else []
    if not folders:
        raise StageError(
            f"ingest.path: {root} holds no folders: put the images of each class into a folder "
            f"with its name, such as {root}/cat/1.png."
        )
    with_files = {parts[0] for parts in files if len(parts) > 1}
    for folder in sorted(folders):
        if folder.name not in with_files:
            raise StageError(
                f"ingest.path: {folder} holds no image: add images, or remove the folder."
            )


def is_visible_folder(path: Path) -> bool:
    """Tell whether a path is a folder that is not hidden."""
    return path.is_dir() and not other_files.is_hidden(path.name)


@dataclass(frozen=True)
class FolderTree:
    """Which folders of images lie below a folder."""

    path: str  # of the folder
    depth: int  # of the folder below the root
    images: list[Parts]  # below it

    @property
    def folders(self) -> list[str]:
        """The folders in it that hold images, at any depth."""
        names = {parts[self.depth] for parts in self.images if len(parts) > self.depth + 1}
        return sorted(names)

    @property
    def has_own_images(self) -> bool:
        """Whether images lie in it directly."""
        return any(len(parts) == self.depth + 1 for parts in self.images)

    @property
    def holds_only_folders(self) -> bool:
        """Whether all images lie in folders of it."""
        return not self.has_own_images

    @property
    def names_below(self) -> set[str]:
        """The names of all folders below it."""
        names: set[str] = set()
        for parts in self.images:
            names.update(parts[self.depth : -1])
        return names

    def enter(self, folder: str) -> "FolderTree":
        """Return a folder in it."""
        images = [parts for parts in self.images if parts[self.depth : -1][:1] == (folder,)]
        return FolderTree(f"{self.path}/{folder}", self.depth + 1, images)


def detect_levels(root: Path, files: Sequence[Parts]) -> FolderLevels:
    """Find out from their names what the folders are.

    Raises:
        StageError: It is not clear on which level the classes are.
    """
    tree = find_classes_or_splits(FolderTree(str(root), 0, choose_images(files)))
    above: tuple[str | None, ...] = (None,) * tree.depth
    inside = [tree.enter(name) for name in tree.folders]
    if all(map(split_names.parse_split_name, tree.folders)):
        return detect_split_above(tree, inside, above)
    if all(map(has_split_names, inside)):
        note = f"{tree.path}: the folders in those of the classes are the predefined split"
        return FolderLevels((*above, CLASS_LEVEL, SPLIT_LEVEL), (note,))
    nested = [item for item in inside if item.holds_only_folders]
    refuse_unclear_levels(tree, nested)
    return FolderLevels((*above, CLASS_LEVEL), tuple(describe_classes(tree, nested)))


def choose_images(files: Sequence[Parts]) -> list[Parts]:
    """Choose the files that are images by their name, or all if none is."""
    images = [parts for parts in files if has_image_suffix(parts[-1])]
    return images or list(files)


def find_classes_or_splits(tree: FolderTree) -> FolderTree:
    """Go down to the first folder that does not hold one folder of folders alone."""
    first = tree.enter(tree.folders[0])
    is_wrapper = tree.holds_only_folders and len(tree.folders) == 1
    if is_wrapper and first.holds_only_folders:
        return find_classes_or_splits(first)
    return tree


def describe_classes(tree: FolderTree, nested: Sequence[FolderTree]) -> Iterator[str]:
    """Say which folders are the classes, if others could be meant."""
    note = f"{tree.path}: the classes are the folders {show_names(tree.folders)}"
    if nested:
        yield (
            f"{note}; what lies below them, as in {nested[0].path}/{nested[0].folders[0]}, is of "
            "that class (ingest.levels says otherwise)"
        )
    elif tree.depth:
        yield note


def detect_split_above(
    tree: FolderTree, inside: Sequence[FolderTree], above: tuple[str | None, ...]
) -> FolderLevels:
    """Return the levels below folders that are named as the parts of a split."""
    names = show_names(tree.folders)
    if not any(item.folders for item in inside):
        raise StageError(
            f"ingest.path: {tree.path} holds the folders {names}, which are named as parts of a "
            "split and hold no folders of classes: put the images of each class into a folder, "
            f"such as {inside[0].path}/cat/1.png, or, if these are the classes, write "
            f"ingest.levels: [{', '.join(['folder'] * len(above) + [CLASS_LEVEL])}]."
        )
    note = f"{tree.path}: the folders {names} are the predefined split, and those in them classes"
    return FolderLevels((*above, SPLIT_LEVEL, CLASS_LEVEL), (note,))


def has_split_names(tree: FolderTree) -> bool:
    """Tell whether all that a folder holds is in folders that are named as parts of a split."""
    names_parts = all(map(split_names.parse_split_name, tree.folders))
    return names_parts and tree.holds_only_folders


def refuse_unclear_levels(tree: FolderTree, nested: Sequence[FolderTree]) -> None:
    """Raise StageError if folders of the same names lie in several of the folders."""
    for first, second in combinations(nested, 2):
        shared = sorted(first.names_below & second.names_below)
        if shared:
            raise StageError(
                f"ingest.path: the folders {first.path} and {second.path} both hold folders "
                f"named {show_names(shared)}, so it is not clear which are the classes: "
                f"{advise_levels(tree, first, shared)}."
            )


def advise_levels(tree: FolderTree, nested: FolderTree, shared: Sequence[str]) -> str:
    """Say which levels to write, for each of what the folders may be."""
    levels = name_levels(nested, shared[0])
    by_group = ", ".join(levels)
    by_split = by_group.replace("group", SPLIT_LEVEL)
    at_top = ", ".join([*levels[: tree.depth], CLASS_LEVEL])
    upper = show_names(tree.folders)
    return (
        f"write ingest.levels from the top: [{by_group}] if they are {show_names(shared)} (the "
        f"column `group` then holds {upper}), [{by_split}] if {upper} are the parts of a split, "
        f"which split.train and split.test name, or [{at_top}] if they are the classes"
    )


def name_levels(tree: FolderTree, class_folder: str) -> list[str]:
    """Name the levels down to that of a folder, for a recipe."""
    [parts, *_] = [parts for parts in tree.images if class_folder in parts[tree.depth : -1]]
    depth = parts.index(class_folder, tree.depth)
    levels = [f"level{number}" for number in range(1, depth + 1)]
    levels[tree.depth - 1] = "group"
    return [*levels, CLASS_LEVEL]


def show_names(names: Sequence[str]) -> str:
    """List names, or the first of many."""
    shown = ", ".join(format_file_name(name) for name in names[:MAX_SHOWN])
    return f"{shown}, …" if len(names) > MAX_SHOWN else shown


def hash_if_file(path: Path) -> str:
    """Hash the content of a file; of what cannot be opened as one, say so."""
    return hashing.sha256(path) if path.is_file() else "no file"


class ImageReader:
    """Reads image files, and notes what is none."""

    def __init__(self) -> None:
        self.broken: list[BrokenRow] = []
        self.unread: list[BrokenRow] = []
        self.animated: list[str] = []

    def read(self, path: Path, *, is_outside: bool) -> bytes | None:
        """Return the bytes of an image; None if the file is not read as one.

        Args:
            path: The file.
            is_outside: Whether it lies in no folder that says its class or split.
        """
        name = format_file_name(str(path))
        problem = explain_unread(path)
        if problem is None and is_outside:
            problem = "it lies in no folder of a class"
        if problem:
            self.unread.append(BrokenRow(name, problem))
            return None
        data = path.read_bytes()
        damage = explain_unreadable(data)
        if damage:
            self.broken.append(BrokenRow(name, damage))
            return None
        if count_frames(data) > 1:
            self.animated.append(name)
        return data

    def warnings(self, place: str) -> Iterator[str]:
        """Say of how many images only the first frame is read."""
        if self.animated:
            count = len(self.animated)
            holds = "1 image holds" if count == 1 else f"{count} images hold"
            yield (
                f"{place}: {holds} several frames, of which the first is read, such as "
                f"{self.animated[0]}"
            )


def explain_unread(path: Path) -> str | None:
    """Return why a file is not read at all; None if it may be an image."""
    if format_file_name(str(path)) != str(path):
        return "its name is not UTF-8 text"
    if not path.is_file():
        return "it is not a file, or a link to one that is gone"
    if has_image_suffix(path.name):
        return None
    return None if is_image(path) else other_files.describe_suffix(path.name, [READ_FORMATS])


def has_image_suffix(name: str) -> bool:
    """Tell whether a file of this name ought to be an image that is read."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_image(path: Path) -> bool:
    """Tell whether a file begins like an image that is read, whatever its name says."""
    try:
        with Image.open(path, formats=image_decoding.IMAGE_FORMATS):
            return True
    except image_decoding.DAMAGE_ERRORS:
        return False


def explain_unreadable(data: bytes) -> str | None:
    """Return why bytes are no image, decoded to the last pixel; None if they are one."""
    try:
        with Image.open(io.BytesIO(data), formats=image_decoding.IMAGE_FORMATS) as image:
            image.load()
    except UnidentifiedImageError:
        # Its own words name a position in memory, which differs from run to run.
        return f"not a readable image (it begins like none of {READ_FORMATS})"
    except image_decoding.DAMAGE_ERRORS as error:
        return f"not a readable image ({errors.first_line(error)})"
    return None


def count_frames(data: bytes) -> int:
    """Count the frames of an image that can be read."""
    with Image.open(io.BytesIO(data), formats=image_decoding.IMAGE_FORMATS) as image:
        try:
            return int(getattr(image, "n_frames", 1))
        except image_decoding.DAMAGE_ERRORS:
            return 1
