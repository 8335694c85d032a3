"""Reads YAML files that people write."""

import os
import stat
from pathlib import Path

from pydantic import JsonValue
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tasks.core.errors import ConfigError, first_line
from tasks.recipe.yaml_values import YamlValueError, build_values

MAX_BYTES = 500_000


def read_yaml(path: Path) -> JsonValue:
    """Read a file as YAML 1.2, in which 1e-4 is a number, and `yes` and a date are text.

    The result can be written as JSON, but for numbers that are infinite or none.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is no file, not UTF-8 or not valid YAML, gives a key twice, or is too
            large.
    """
    text = decode(path, read_bytes(path))
    try:
        return build_values(text)
    except YamlValueError as error:
        raise ConfigError(f"{path}{error}.") from None
    except MarkedYAMLError as error:
        message = f"{path}{describe_position(error)}: not valid YAML: {error.problem}."
        raise ConfigError(message) from None
    except YAMLError as error:  # a character that YAML does not allow
        message = f"{path}: not valid YAML: {' '.join(str(error).split())}."
        raise ConfigError(message) from None
    except (ValueError, ArithmeticError) as error:  # an escape or version that cannot be one
        raise ConfigError(f"{path}: not valid YAML: {first_line(error)}.") from None


def read_bytes(path: Path) -> bytes:
    """Read a file that people write, which is neither a device nor large.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It cannot be read, or is too large.
    """
    try:
        # Without the flag, opening a pipe that nobody writes to would wait for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path} is not a file: give the path of a file of text.")
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a path that holds the character NUL
        raise ConfigError(f"{str(path)!r} is not a path: {first_line(error)}.") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes: is it the right file?")
    return content


def decode(path: Path, content: bytes) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        ConfigError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8."
        raise ConfigError(message) from None


def describe_position(error: MarkedYAMLError) -> str:
    """Describe the place of a mistake as `, line 2, column 1`, if it is known."""
    mark = error.problem_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
