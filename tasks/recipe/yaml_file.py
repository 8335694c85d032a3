"""Reads YAML files that people write."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tasks.core.errors import ConfigError, first_line

# Recipes hold hundreds of values. A few lines of aliases to aliases can stand for billions, and an
# alias to what contains it for infinitely many.
MAX_VALUES = 100_000


def read_yaml(path: Path) -> Any:
    """Read a file as YAML 1.2, in which 1e-4 is a number and `yes` is text.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is not UTF-8 or not valid YAML, gives a key twice, or is too large.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8."
        raise ConfigError(message) from None
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        message = f"{path}{describe_position(error)}: not valid YAML: {describe_problem(error)}."
        raise ConfigError(message) from None
    except YAMLError as error:  # a character that YAML does not allow
        message = f"{path}: not valid YAML: {' '.join(str(error).split())}."
        raise ConfigError(message) from None
    except ValueError as error:  # a date or number that cannot be one, such as 2026-13-01
        raise ConfigError(f"{path}: not valid YAML: {first_line(error)}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: its lists and mappings are nested too deeply.") from None
    if has_too_many_values(content):
        raise ConfigError(f"{path} holds more than {MAX_VALUES:,} values: is it the right file?")
    return content


def describe_position(error: MarkedYAMLError) -> str:
    """Describe the place of a mistake as `, line 2, column 1`, if it is known."""
    mark = error.problem_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def describe_problem(error: MarkedYAMLError) -> str:
    """Say what is wrong, without the values of a key given twice, which may be secrets."""
    problem = str(error.problem)
    if isinstance(error, DuplicateKeyError):
        key = problem.partition(" with value ")[0].removeprefix("found duplicate key ")
        return f"the key {key} is given twice"
    return problem


def has_too_many_values(content: Any) -> bool:
    """Count the values with those that aliases repeat, up to MAX_VALUES."""
    pending = [content]
    count = 0
    while pending:
        value = pending.pop()
        count += 1
        if count > MAX_VALUES:
            return True
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False
