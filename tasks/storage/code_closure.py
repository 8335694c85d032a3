"""Which of our modules decide what a module computes, read from the import statements, and a hash of them.

What a step leaves to be taken up again is of one version of the code: it is kept under a name in which this hash is.
"""

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from tasks.storage import hashing

# Modules that change no result: what they do is shown, or reaches a step through the resolved recipe, which has its own place in a fingerprint.
NO_RESULT = frozenset(
    {
        "tasks.telemetry.tensorboard",
        "tasks.storage.code_closure",
        "tasks.telemetry.energy",
        "tasks.recipe.errors",
        "tasks.telemetry.progress",
        "tasks.resolve",
        "tasks.core.stage",
    }
)
# For what has its sections of the recipe in its fingerprint: how a recipe is read changes nothing else.
NO_RECIPE = NO_RESULT | {"tasks.recipe.clean", "tasks.recipe.search_space"}
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements hold others


@cache
def fingerprint(path: str, without: frozenset[str] = NO_RESULT) -> str:
    """Hash the module in the file `path`, all of ours that it needs, and the versions of the libraries that decide what is written."""
    root = root_of(Path(path))
    found = [
        [name_of(module, root), hashing.sha256(module)] for module in closure(Path(path), without)
    ]
    return hashing.digest([found, hashing.versions()])


def closure(path: Path, without: Collection[str] = NO_RESULT) -> list[Path]:
    """List the module in the file `path` and those of ours that it imports, directly or by way of others, but for those `without`, by their dotted names.

    Where a package imports modules by name, they all count.
    """
    root, found = root_of(path), set[Path]()
    waiting = list(files_of(name_of(path, root), root))
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [one for one in needed(module, root) if name_of(one, root) not in without]
    return sorted(found)


@cache
def needed(path: Path, root: Path) -> list[Path]:
    """List the files of ours that a module itself imports, and those of the packages that they are in."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    names = imported(tree, name_of(path, root), path.name == "__init__.py")
    found = {file for name in names for file in files_of(name, root)}
    if "import_module" in text:
        found |= loaded(tree, path, root)
    return sorted(found)


def imported(tree: ast.Module, module: str, package: bool) -> set[str]:
    """Return the dotted names in a module's import statements, wherever they stand; of `from a import b` a and a.b."""
    names: set[str] = set()
    for statement in statements(tree):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            start = statement.module or ""
            if statement.level:
                parts = module.split(".")
                above = parts[: len(parts) - statement.level + package]
                start = ".".join([*above, *([start] if start else [])])
            names |= {start, *(f"{start}.{alias.name}" for alias in statement.names)}
    return names


def statements(block: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a block and in those within it. Expressions are passed over, which is what makes this quick."""
    for name in BLOCKS:
        for inner in getattr(block, name, ()):
            yield inner
            yield from statements(inner)


def loaded(tree: ast.Module, path: Path, root: Path) -> set[Path]:
    """Return all modules of the packages from which a module imports by name, as in `import_module(f"tasks.problems.{name}")`.

    A package that does so in a way that does not tell from where imports its own.
    """
    found: set[Path] = set()
    for call in ast.walk(tree):
        if (
            not isinstance(call, ast.Call)
            or getattr(call.func, "attr", getattr(call.func, "id", "")) != "import_module"
        ):
            continue
        folder = package_of(call, root)
        if folder is None and path.name == "__init__.py":
            folder = path.parent
        if folder:
            found |= set(folder.glob("*.py"))
    return found


def package_of(call: ast.Call, root: Path) -> Path | None:
    """Return the folder of the package that begins the name in a call of `import_module`, if it is written there."""
    name = call.args[0] if call.args else None
    start = name.values[0] if isinstance(name, ast.JoinedStr) else None
    if not isinstance(start, ast.Constant):
        return None
    folder = root.joinpath(*str(start.value).rpartition(".")[0].split("."))
    return folder if (folder / "__init__.py").is_file() else None


@cache
def files_of(name: str, root: Path) -> list[Path]:
    """List the file of a module of ours and those of the packages around it; none for what is not ours or no module."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        if (place / "__init__.py").is_file():
            found.append(place / "__init__.py")
        elif place.with_suffix(".py").is_file():
            return [*found, place.with_suffix(".py")]
        else:
            break
    return found


def root_of(path: Path) -> Path:
    """Return the folder in which the outermost package around a module lies."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def name_of(path: Path, root: Path) -> str:
    """Return a module's dotted name."""
    inside = path.resolve().relative_to(root).with_suffix("")
    return ".".join(inside.parent.parts if inside.name == "__init__" else inside.parts)
