"""How the code reads: no measure may get worse, and limits go down as the code is worked over."""

import ast
from pathlib import Path

import pytest

from tests import measure_style
from tests.conftest import ROOT
from tests.measure_style import Module

# What `python tests/measure_style.py` counts at most. Lower a limit when its count falls.
LIMITS = {
    "AST nodes per line, mean": 6.0,
    "AST nodes per line, p95": 14,
    "long-line": 0,
    "long-comment": 0,
    "packed-line": 1,
    "nested-comprehension": 0,
    "chained-ternary": 0,
    "parallel-assignment": 0,
    "dense-function": 19,
    "long-module": 0,
    "long-function": 3,
    "many-parameters": 0,
    "many-locals": 5,
    "dict-any": 36,
    "any": 245,
    "banned-name": 5,
    "walrus-call": 0,
}
NAME_COLUMNS = 80
LONG_TEST_NAMES = 45  # at most so many names of tests are longer than NAME_COLUMNS

DICTIONARY = "def load(path: dict[str, Any]) -> None:\n    return None\n"
DENSE = """def f(a, b):
    if a and b or a:
        return b
    return a if b else 0
"""
SNIPPETS = {
    "long-line": f"value = '{'x' * 100}'\n",
    "long-comment": f"# {'x' * 100}\n",
    "packed-line": "value = a(b(c(d(e(f(g(h(i(j(k(l(m(n(1))))))))))))))\n",
    "nested-comprehension": "pairs = [(a, b) for a in left for b in right]\n",
    "chained-ternary": "sign = 1 if n > 0 else -1 if n < 0 else 0\n",
    "parallel-assignment": "width, height = 3, 4\n",
    "dense-function": DENSE,
    "long-module": "\n" * 401,
    "long-function": "def f():\n" + "    print()\n" * 41,
    "many-parameters": "def f(a, b, c, d, e, g):\n    pass\n",
    "many-locals": "def f():\n" + "".join(f"    name{n} = {n}\n" for n in range(13)),
    "dict-any": DICTIONARY,
    "any": DICTIONARY,
    "banned-name": "def found():\n    pass\n",
    "walrus-call": "if (match := search()):\n    pass\n",
}
CLEAN = '''"""A module."""


def add(first: int, second: int) -> int:
    """Add two numbers."""
    names = [name for name in (first, second) if name]
    left, right = names
    return left + right
'''


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    modules = [Module.read(path) for path in measure_style.find_files()]
    return measure_style.measure(modules)


@pytest.mark.parametrize("kind", LIMITS)
def test_no_measure_of_style_gets_worse(kind: str, measured: dict[str, float]) -> None:
    advice = "`python tests/measure_style.py FILE` lists each place in a file"
    assert measured[kind] <= LIMITS[kind], advice


def test_every_kind_of_offence_has_a_limit_and_an_example() -> None:
    assert measure_style.KINDS.keys() <= LIMITS.keys()
    assert measure_style.KINDS.keys() == SNIPPETS.keys()


@pytest.mark.parametrize("kind", SNIPPETS)
def test_an_offence_is_found_at_its_place(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SNIPPETS[kind])
    offences = measure_style.find_offences(Module.read(path))
    assert (kind, 1) in [(offence.kind, offence.line) for offence in offences]


def test_plain_code_has_no_offence(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(CLEAN)
    module = Module.read(path)
    assert measure_style.find_offences(module) == []
    assert module.code == [4, 6, 7, 8]


def test_names_of_tests_are_short_sentences() -> None:
    names: list[str] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
        names.extend(name for name in functions if name.startswith("test_"))
    long = [name for name in names if len(name) > NAME_COLUMNS]
    assert len(names) > 500
    assert len(long) <= LONG_TEST_NAMES, long
