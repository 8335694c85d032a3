"""Texts in UTF-8: JSON, JSON lines, CSV, Markdown and others."""

import codecs
import json

from pydantic import JsonValue

from tasks.registry.formats.content import FileContent, FormatError

MAX_BYTES = 1 << 30  # a larger one is no configuration; tables belong in Parquet
CONTROL_CHARACTERS = frozenset(map(chr, range(32))) - frozenset("\t\n\r\f")
OWN_CODE_KEY = "auto_map"  # with which transformers asks for a model's own Python code
BOM = "\ufeff"


def is_claimed(content: FileContent) -> bool:
    """Return whether the file begins like a text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return not CONTROL_CHARACTERS.intersection(decoder.decode(content.head))
    except UnicodeDecodeError:
        return False


def check(content: FileContent) -> None:
    """Check the whole text, and what it says if it is JSON.

    Raises:
        FormatError: It is no text, or asks for code.
    """
    if content.size > MAX_BYTES:
        raise FormatError(f"is a text of more than {MAX_BYTES:,} bytes: write it as Parquet")
    check_characters(content)
    if content.head.startswith(b"#!"):
        raise FormatError("is a script")
    start = content.head.decode("utf-8", errors="ignore").removeprefix(BOM).lstrip()
    if start.startswith(("{", "[")):
        check_json(content)


def check_characters(content: FileContent) -> None:
    """Check that the content is UTF-8 without control characters."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in content.read_chunks():
            if CONTROL_CHARACTERS.intersection(decoder.decode(chunk)):
                raise FormatError("begins like a text and has control characters later")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FormatError("begins like a text and is not UTF-8") from None


def check_json(content: FileContent) -> None:
    """Check what a text says, if it is JSON."""
    try:
        value = json.loads(content.path.read_bytes())
    except RecursionError:
        raise FormatError("is JSON that is nested too deeply to be read") from None
    except ValueError:
        return  # JSON lines, or another text
    if asks_for_code(value):
        raise FormatError(
            f"asks for Python code of the model's own ({OWN_CODE_KEY}), which is never run"
        )


def asks_for_code(value: JsonValue) -> bool:
    """Return whether a configuration asks for the model's own code."""
    return isinstance(value, dict) and OWN_CODE_KEY in value
