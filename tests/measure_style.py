"""Measure how the code reads: density of lines, size of functions and modules, and words to avoid.

python tests/measure_style.py            a table with totals
python tests/measure_style.py PATH...    each offence in these files, as file:line kind detail
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "serving")

COLUMNS = 100
NODES_PER_LINE = 25
MODULE_LINES = 400
FUNCTION_LINES = 40
PARAMETERS = 5
LOCALS = 12
DENSE_FUNCTION_LINES = 4  # a shorter function is not called dense
BANNED = {
    "told", "said", "found", "about", "made", "one",
    "given", "there", "more", "mine", "at", "whose",
}  # fmt: skip

# The kinds of offences, with what the table calls them.
KINDS = {
    "long-line": f"code lines > {COLUMNS} columns",
    "long-comment": f"other lines > {COLUMNS} columns",
    "packed-line": f"lines > {NODES_PER_LINE} AST nodes",
    "nested-comprehension": "nested comprehensions",
    "chained-ternary": "chained ternaries",
    "parallel-assignment": "parallel assignments",
    "dense-function": "functions with > 1 decision per 2 lines",
    "long-module": f"modules > {MODULE_LINES} lines",
    "long-function": f"functions > {FUNCTION_LINES} lines",
    "many-parameters": f"functions > {PARAMETERS} parameters",
    "many-locals": f"functions > {LOCALS} local names",
    "dict-any": "dict[str, Any]",
    "any": "Any",
    "banned-name": "banned identifiers",
    "walrus-call": "walrus around a call",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, order=True)
class Offence:
    path: Path
    line: int
    kind: str
    detail: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line} {self.kind} {self.detail}".rstrip()


@dataclass(frozen=True)
class Module:
    """A parsed file and the numbers of the lines that hold code."""

    path: Path
    lines: list[str]
    tree: ast.Module
    code: list[int]

    @classmethod
    def read(cls, path: Path) -> "Module":
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        return cls(path, lines, tree, find_code_lines(lines, tree))

    def count_code(self, node: Function) -> int:
        """The lines of code of a function, with its signature."""
        return sum(node.lineno <= line <= (node.end_lineno or node.lineno) for line in self.code)

    def nodes_by_line(self) -> Counter[int]:
        """How many AST nodes begin on each line of code."""
        begins = Counter(getattr(node, "lineno", 0) for node in ast.walk(self.tree))
        return Counter({line: begins[line] for line in self.code})


def find_code_lines(lines: list[str], tree: ast.Module) -> list[int]:
    """Lines that are neither blank, nor a comment alone, nor part of a docstring."""
    documented = find_docstring_lines(tree)
    code = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#") and number not in documented:
            code.append(number)
    return code


def find_docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            continue
        if ast.get_docstring(node, clean=False) is None:
            continue
        docstring = node.body[0]
        lines.update(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return lines


def find_files() -> list[Path]:
    """The modules of our packages, as far as these exist."""
    files: list[Path] = []
    for package in PACKAGES:
        files.extend((ROOT / package).rglob("*.py"))
    return sorted(files)


def find_offences(module: Module) -> list[Offence]:
    offences = []
    for line, kind, detail in findings(module):
        offences.append(Offence(module.path, line, kind, detail))
    return sorted(offences)


def findings(module: Module) -> Iterator[tuple[int, str, str]]:
    """The line, kind and detail of each offence."""
    yield from check_lines(module)
    yield from check_comprehensions(module.tree)
    yield from check_names(module.tree)
    for node in ast.walk(module.tree):
        yield from check_expression(node)
        if isinstance(node, FUNCTIONS):
            yield from check_function(module, node)


def check_lines(module: Module) -> Iterator[tuple[int, str, str]]:
    if len(module.lines) > MODULE_LINES:
        yield 1, "long-module", f"{len(module.lines)} lines"
    code = set(module.code)
    for number, line in enumerate(module.lines, 1):
        if len(line) > COLUMNS:
            kind = "long-line" if number in code else "long-comment"
            yield number, kind, f"{len(line)} columns"
    for number, nodes in module.nodes_by_line().items():
        if nodes > NODES_PER_LINE:
            yield number, "packed-line", f"{nodes} nodes"


def check_comprehensions(node: ast.AST, inside: bool = False) -> Iterator[tuple[int, str, str]]:
    """A comprehension with two `for`s, or inside of another one."""
    if isinstance(node, COMPREHENSIONS):
        if inside:
            yield node.lineno, "nested-comprehension", "inside of another one"
        elif len(node.generators) > 1:
            yield node.lineno, "nested-comprehension", f"{len(node.generators)} times for"
        inside = True
    for child in ast.iter_child_nodes(node):
        yield from check_comprehensions(child, inside)


def check_expression(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.IfExp):
        parts = (node.body, node.test, node.orelse)
        if any(isinstance(part, ast.IfExp) for part in parts):
            yield node.lineno, "chained-ternary", ""
    elif isinstance(node, ast.Assign):
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield node.lineno, "parallel-assignment", ast.unparse(node.targets[0])
    elif isinstance(node, ast.NamedExpr):
        if any(isinstance(part, ast.Call) for part in ast.walk(node.value)):
            yield node.lineno, "walrus-call", node.target.id
    elif isinstance(node, ast.Name) and node.id == "Any":
        yield node.lineno, "any", ""
    elif isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]":
        yield node.lineno, "dict-any", ""


def check_function(module: Module, function: Function) -> Iterator[tuple[int, str, str]]:
    place = function.lineno
    length = (function.end_lineno or place) - place + 1
    if length > FUNCTION_LINES:
        yield place, "long-function", f"{function.name}: {length} lines"
    parameters = [name for name in list_parameters(function) if name not in ("self", "cls")]
    if len(parameters) > PARAMETERS:
        yield place, "many-parameters", f"{function.name}: {len(parameters)}"
    names = list_locals(function)
    if len(names) > LOCALS:
        yield place, "many-locals", f"{function.name}: {len(names)}"
    decisions = count_decisions(function)
    lines = module.count_code(function)
    if lines >= DENSE_FUNCTION_LINES and decisions * 2 > lines:
        yield place, "dense-function", f"{function.name}: {decisions} decisions in {lines} lines"


def list_parameters(function: Function | ast.Lambda) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    rest = [item for item in (arguments.vararg, arguments.kwarg) if item is not None]
    return [argument.arg for argument in (*named, *rest)]


def list_locals(function: Function) -> set[str]:
    """The names that a function binds itself, without its parameters."""
    names: set[str] = set()
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, (*SCOPES, *COMPREHENSIONS)):
            todo.extend(ast.iter_child_nodes(node))
    return names.difference(list_parameters(function))


def count_decisions(function: Function) -> int:
    """Branches, loops, handlers, ternaries, comprehensions, and each `and` and `or`."""
    decisions = 0
    for node in ast.walk(function):
        if isinstance(node, (*BRANCHES, *COMPREHENSIONS)):
            decisions += 1
        elif isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
    return decisions


def check_names(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Banned names where a function, a parameter, a variable or a field gets one."""
    for node in ast.walk(tree):
        for line, name in bound_names(node):
            if name in BANNED:
                yield line, "banned-name", name


def bound_names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the name that a node itself binds, if it does."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.lineno, node.name
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id


def measure(modules: list[Module]) -> dict[str, float]:
    """The numbers of the table: sizes, density of lines, and the offences of each kind."""
    nodes: list[int] = []
    counts: Counter[str] = Counter()
    functions = 0
    for module in modules:
        nodes.extend(module.nodes_by_line().values())
        counts.update(offence.kind for offence in find_offences(module))
        functions += sum(isinstance(node, FUNCTIONS) for node in ast.walk(module.tree))
    nodes.sort()
    sizes = {
        "modules": len(modules),
        "functions": functions,
        "code lines": len(nodes),
        "AST nodes per line, mean": round(sum(nodes) / max(1, len(nodes)), 1),
        "AST nodes per line, p95": nodes[int(0.95 * len(nodes))] if nodes else 0,
    }
    return {**sizes, **{kind: counts[kind] for kind in KINDS}}


def print_table() -> None:
    modules = [Module.read(path) for path in find_files()]
    groups: dict[str, list[Module]] = {}
    for module in modules:
        groups.setdefault(module.path.relative_to(ROOT).parts[0], []).append(module)
    groups["total"] = modules
    columns = [measure(group) for group in groups.values()]
    print(" " * 42 + "".join(f"{name:>10}" for name in groups))
    for key in columns[0]:
        values = "".join(f"{column[key]:>10}" for column in columns)
        print(f"{KINDS.get(key, key):<42}{values}")


def print_offences(paths: list[Path]) -> None:
    for path in paths:
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            for offence in find_offences(Module.read(file.resolve())):
                print(offence)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_offences([Path(argument) for argument in sys.argv[1:]])
    else:
        print_table()
