"""Which of our modules decide what a module computes, read from the import statements, and a hash of them.

What a step leaves to be taken up again is of one version of the code: it is kept under a name in which this hash is.
"""

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from tasks.storage import hashing

# Modules and packages that change no result. They show what happens, or reach a stage through the
# resolved recipe, whose sections have a place of their own in a fingerprint.
RESULT_NEUTRAL = frozenset(
    {
        "tasks.core.errors",
        "tasks.core.stage",
        "tasks.core.suggest",
        "tasks.recipe",
        "tasks.resolve",
        "tasks.storage.code_closure",
        "tasks.storage.layout",
        "tasks.telemetry",
    }
)
BLOCK_FIELDS = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements hold others


@cache
def hash_closure(path: str, without: frozenset[str] = RESULT_NEUTRAL) -> str:
    """Hash the module in the file `path`, all of ours that it needs, and the versions of the libraries that decide what is written."""
    root = find_root(Path(path))
    found = [
        [dotted_name(module, root), hashing.sha256(module)]
        for module in list_closure(Path(path), without)
    ]
    return hashing.hash_json([found, hashing.read_library_versions()])


def list_closure(path: Path, without: Collection[str] = RESULT_NEUTRAL) -> list[Path]:
    """List the module in the file `path` and those of ours that it imports, directly or by way of others, but for those `without`, by their dotted names.

    Where a package imports modules by name, they all count.
    """
    root, found = find_root(path), set[Path]()
    waiting = list(list_files(dotted_name(path, root), root))
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [
            one
            for one in list_direct_imports(module, root)
            if not is_within(dotted_name(one, root), without)
        ]
    return sorted(found)


def is_within(name: str, packages: Collection[str]) -> bool:
    """Return whether a dotted name is one of these modules, or lies in one of these packages."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in packages for end in range(1, len(parts) + 1))


def hash_stage_code(stage: str) -> str:
    """Hash the code that decides what a stage writes: tasks/<stage>.py and its closure."""
    return hash_closure(str(Path(__file__).parents[1] / f"{stage}.py"))


@cache
def list_direct_imports(path: Path, root: Path) -> list[Path]:
    """List the files of ours that a module itself imports, and those of the packages that they are in."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    names = imported_names(tree, dotted_name(path, root), path.name == "__init__.py")
    found = {file for name in names for file in list_files(name, root)}
    if "import_module" in text:
        found |= modules_loaded_by_name(tree, path, root)
    return sorted(found)


def imported_names(tree: ast.Module, module: str, package: bool) -> set[str]:
    """Return the dotted names in a module's import statements, wherever they stand; of `from a import b` a and a.b."""
    names: set[str] = set()
    for statement in iter_statements(tree):
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


def iter_statements(block: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a block and in those within it. Expressions are passed over, which is what makes this quick."""
    for name in BLOCK_FIELDS:
        for inner in getattr(block, name, ()):
            yield inner
            yield from iter_statements(inner)


def modules_loaded_by_name(tree: ast.Module, path: Path, root: Path) -> set[Path]:
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
        folder = find_loaded_package(call, root)
        if folder is None and path.name == "__init__.py":
            folder = path.parent
        if folder:
            found |= set(folder.glob("*.py"))
    return found


def find_loaded_package(call: ast.Call, root: Path) -> Path | None:
    """Return the folder of the package that begins the name in a call of `import_module`, if it is written there."""
    name = call.args[0] if call.args else None
    start = name.values[0] if isinstance(name, ast.JoinedStr) else None
    if not isinstance(start, ast.Constant):
        return None
    folder = root.joinpath(*str(start.value).rpartition(".")[0].split("."))
    return folder if (folder / "__init__.py").is_file() else None


@cache
def list_files(name: str, root: Path) -> list[Path]:
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


def find_root(path: Path) -> Path:
    """Return the folder in which the outermost package around a module lies."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def dotted_name(path: Path, root: Path) -> str:
    """Return a module's dotted name."""
    inside = path.resolve().relative_to(root).with_suffix("")
    return ".".join(inside.parent.parts if inside.name == "__init__" else inside.parts)
