"""Which of our modules decide what a module computes, and a hash of them.

They are read from the import statements. Work that can be continued later, such as a checkpoint,
belongs to one version of the code: this hash is part of its name.
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
BLOCK_FIELDS = ("body", "orelse", "finalbody", "handlers", "cases")  # hold further statements


@cache
def hash_closure(path: str, without: frozenset[str] = RESULT_NEUTRAL) -> str:
    """Hash a module, all of our modules that it needs, and the versions of decisive libraries."""
    root = find_root(Path(path))
    modules = list_closure(Path(path), without)
    hashes = [[dotted_name(module, root), hashing.sha256(module)] for module in modules]
    return hashing.hash_json([hashes, hashing.read_library_versions()])


def hash_stage_code(stage: str) -> str:
    """Hash the code that decides what a stage writes: tasks/<stage>.py and its closure."""
    return hash_closure(str(Path(__file__).parents[1] / f"{stage}.py"))


def list_closure(path: Path, without: Collection[str] = RESULT_NEUTRAL) -> list[Path]:
    """List a module and those of ours that it imports, directly or not.

    All modules of a package count if it imports modules by name.

    Args:
        path: The module's file.
        without: Dotted names of modules and packages to leave out, with what they alone import.
    """
    root = find_root(path)
    closure = set[Path]()
    waiting = list(list_files(dotted_name(path, root), root))
    while waiting:
        module = waiting.pop()
        if module in closure:
            continue
        closure.add(module)
        imports = list_direct_imports(module, root)
        waiting += [path for path in imports if not is_within(dotted_name(path, root), without)]
    return sorted(closure)


def is_within(name: str, packages: Collection[str]) -> bool:
    """Return whether a dotted name is one of these modules, or lies in one of these packages."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in packages for end in range(1, len(parts) + 1))


@cache
def list_direct_imports(path: Path, root: Path) -> list[Path]:
    """List the files of ours that a module itself imports, with those of their packages."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    files = set[Path]()
    for name in imported_names(tree, path, root):
        files.update(list_files(name, root))
    if "import_module" in text:
        files |= modules_loaded_by_name(tree, path, root)
    return sorted(files)


def imported_names(tree: ast.Module, path: Path, root: Path) -> set[str]:
    """Return the dotted names in a module's import statements; of `from a import b`, a and a.b."""
    names: set[str] = set()
    for statement in iter_statements(tree):
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            source = imported_module(statement, path, root)
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in statement.names)
    return names


def imported_module(statement: ast.ImportFrom, path: Path, root: Path) -> str:
    """Return the dotted name of the module that `from … import` names, also if it is relative."""
    if not statement.level:
        return statement.module or ""
    parts = dotted_name(path, root).split(".")
    if path.name == "__init__.py":
        parts.append("__init__")
    package = parts[: len(parts) - statement.level]
    return ".".join([*package, statement.module] if statement.module else package)


def iter_statements(block: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a block and in those within it.

    Expressions are skipped, which is what makes this quick.
    """
    for name in BLOCK_FIELDS:
        for inner in getattr(block, name, ()):
            yield inner
            yield from iter_statements(inner)


def modules_loaded_by_name(tree: ast.Module, path: Path, root: Path) -> set[Path]:
    """Return all modules of the packages from which a module imports by name.

    `import_module(f"tasks.problems.{name}")` names its package. A package whose call does not tell
    from where imports its own modules.
    """
    modules: set[Path] = set()
    for call in ast.walk(tree):
        if not is_import_module_call(call):
            continue
        folder = find_loaded_package(call, root)
        if folder is None and path.name == "__init__.py":
            folder = path.parent
        if folder:
            modules.update(folder.glob("*.py"))
    return modules


def is_import_module_call(node: ast.AST) -> bool:
    """Return whether this is a call of `import_module`, by any path."""
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "import_module"


def find_loaded_package(call: ast.AST, root: Path) -> Path | None:
    """Return the folder of the package that a call of `import_module` names, if it does."""
    arguments: list[ast.expr] = getattr(call, "args", [])
    if not arguments or not isinstance(arguments[0], ast.JoinedStr):
        return None
    prefix = arguments[0].values[0]
    if not isinstance(prefix, ast.Constant):
        return None
    package = str(prefix.value).rpartition(".")[0]
    folder = root.joinpath(*package.split("."))
    return folder if (folder / "__init__.py").is_file() else None


@cache
def list_files(name: str, root: Path) -> list[Path]:
    """List the file of a module of ours with those of its packages; none for any other name."""
    parts = name.split(".")
    files = []
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        if (place / "__init__.py").is_file():
            files.append(place / "__init__.py")
        elif place.with_suffix(".py").is_file():
            return [*files, place.with_suffix(".py")]
        else:
            break
    return files


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
