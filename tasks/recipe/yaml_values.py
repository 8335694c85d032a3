"""Builds the values of a YAML document: only what JSON can hold, and within limits.

The document is read event by event, so a file that stands for too much ends the reading early.
"""

import copy
import math
import re
from collections.abc import Iterator
from typing import NoReturn, cast

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

# Recipes hold hundreds of values. A few lines of aliases to aliases can stand for billions.
MAX_VALUES = 20_000
MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 50
MAX_INTEGER = 2**63 - 1  # what Parquet, torch and most readers of JSON can hold
MAX_NUMBER_CHARACTERS = 100
MAX_SHOWN_CHARACTERS = 40

# The core schema of YAML 1.2, and underscores between digits as Python has them. Dates are text.
NULLS = ("", "~", "null", "Null", "NULL")
TRUTH_VALUES = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
SPECIAL_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MERGE_KEY = "<<"


class YamlValueError(ValueError):
    """What a document must not hold, with the place of it."""

    def __init__(self, event: Event, problem: str) -> None:
        mark = event.start_mark
        super().__init__(f", line {mark.line + 1}, column {mark.column + 1}: {problem}")


def build_values(text: str) -> JsonValue:
    """Return the value of the only document in a text; None of an empty text.

    Raises:
        YamlValueError: It holds what JSON cannot hold, or too much of it.
        YAMLError: It is not YAML.
    """
    return ValueBuilder(YAML(typ="safe", pure=True).parse(text)).build_document()


class ValueBuilder:
    """Builds values from the events of a parser."""

    def __init__(self, events: Iterator[Event]) -> None:
        self.events = events
        self.depth = 0
        self.values = 0  # so far, with those that aliases repeat
        self.characters = 0
        self.anchors: dict[str, JsonValue] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # values and characters of each anchor

    def build_document(self) -> JsonValue:
        """Return the value of the only document; None if there is none."""
        next(self.events)  # the stream begins
        if isinstance(next(self.events), StreamEndEvent):
            return None
        value = self.build(next(self.events))
        assert isinstance(next(self.events), DocumentEndEvent)
        rest = next(self.events)
        if not isinstance(rest, StreamEndEvent):
            raise YamlValueError(rest, "another document begins here: leave one in the file")
        return value

    def build(self, event: Event) -> JsonValue:
        """Return the value that begins with an event."""
        if isinstance(event, AliasEvent):
            return self.repeat(event)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        refuse_tag(event)
        values = self.values
        characters = self.characters
        value = self.build_new(event)
        if event.anchor:
            self.anchors[event.anchor] = value
            self.sizes[event.anchor] = (self.values - values, self.characters - characters)
        return value

    def build_new(self, event: ScalarEvent | CollectionStartEvent) -> JsonValue:
        """Return a value that is no alias."""
        if isinstance(event, ScalarEvent):
            self.count(event, 1, len(event.value))
            return build_scalar(event)
        self.count(event, 1, 0)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlValueError(
                event, f"lists and mappings are nested more than {MAX_DEPTH} levels deep"
            )
        build = self.build_list if isinstance(event, SequenceStartEvent) else self.build_mapping
        value = build()
        self.depth -= 1
        return value

    def build_list(self) -> JsonValue:
        """Return a list, whose first event was read."""
        values = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            values.append(self.build(event))
        return values

    def build_mapping(self) -> JsonValue:
        """Return a mapping, whose first event was read; its own keys win over merged ones."""
        values: dict[str, JsonValue] = {}
        merged: dict[str, JsonValue] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            is_merge = isinstance(event, ScalarEvent) and is_merge_key(event)
            key = MERGE_KEY if is_merge else build_key(event)
            self.count(event, 1, len(key))
            if key in values:
                problem = f'not valid YAML: the key "{shorten(key)}" is given twice'
                raise YamlValueError(event, problem)
            value = self.build(next(self.events))
            if is_merge:
                merged = merge(event, value) | merged
            else:
                values[key] = value
        return merged | values

    def repeat(self, event: AliasEvent) -> JsonValue:
        """Return a copy of what an alias names."""
        name = event.anchor
        if name not in self.anchors:
            raise YamlValueError(
                event,
                f"not valid YAML: the alias *{shorten(name)} names nothing that ends before it",
            )
        self.count(event, *self.sizes[name])
        return copy.deepcopy(self.anchors[name])

    def count(self, event: Event, values: int, characters: int) -> None:
        """Count values and characters, and refuse too many."""
        self.values += values
        self.characters += characters
        if self.values > MAX_VALUES or self.characters > MAX_CHARACTERS:
            raise YamlValueError(
                event,
                f"the file stands for more than {MAX_VALUES:,} values or {MAX_CHARACTERS:,} "
                "characters: is it the right file?",
            )


def refuse_tag(event: ScalarEvent | CollectionStartEvent) -> None:
    """Refuse a type that is written out, such as !!int: a value's form says what it is."""
    if event.tag is not None:
        raise YamlValueError(
            event,
            f"not valid YAML for a recipe: leave out the tag {shorten(str(event.tag))}; a text is "
            "written in quotes, all else as it is",
        )


def build_key(event: Event) -> str:
    """Return the key that an event is; only text can be one."""
    if not isinstance(event, ScalarEvent):
        problem = "a key that is not text: write a word, or a text in quotes"
        raise YamlValueError(event, problem)
    refuse_tag(event)
    key = build_scalar(event)
    if not isinstance(key, str):
        text = shorten(event.value)
        problem = f'the key {text} is not text to YAML: write it in quotes, as in "{text}"'
        raise YamlValueError(event, problem)
    return key


def is_merge_key(event: ScalarEvent) -> bool:
    """Tell whether a key is `<<`, which takes over the keys of other mappings."""
    return is_plain(event) and event.value == MERGE_KEY


def merge(event: Event, value: JsonValue) -> dict[str, JsonValue]:
    """Return the keys of the mappings that `<<` names; of equal keys the first counts."""
    merged: dict[str, JsonValue] = {}
    for mapping in value if isinstance(value, list) else [value]:
        if not isinstance(mapping, dict):
            problem = "not valid YAML: << takes over the keys of mappings, and this is none"
            raise YamlValueError(event, problem)
        merged = mapping | merged
    return merged


def build_scalar(event: ScalarEvent) -> JsonValue:
    """Return the text, number, truth value or null that a scalar is."""
    if not is_plain(event):
        return check_text(event)
    text = event.value
    if text in NULLS:
        return None
    if text in TRUTH_VALUES:
        return TRUTH_VALUES[text]
    if text[0] in "-+.0123456789":
        number = build_number(event)
        if number is not None:
            return number
    return check_text(event)


def is_plain(event: ScalarEvent) -> bool:
    """Tell whether a scalar has no quotes, and no bar of a block of text."""
    return bool(event.implicit[0])


def build_number(event: ScalarEvent) -> int | float | None:
    """Return the number that a scalar is, or None if it is none."""
    text = event.value
    if len(text) > MAX_NUMBER_CHARACTERS and text.strip("-+.0123456789_eE") == "":
        refuse_number(event)
    if INTEGER.fullmatch(text):
        return check_integer(event, int(text))
    if OTHER_BASE.fullmatch(text):
        return check_integer(event, int(text, 0))
    if SPECIAL_NUMBER.fullmatch(text):
        return float(text.replace(".", "").lower())
    if not DECIMAL.fullmatch(text):
        return None
    number = float(text)
    if math.isinf(number):
        refuse_number(event)
    return number


def check_integer(event: ScalarEvent, number: int) -> int:
    """Refuse a whole number of more than 64 bits."""
    if abs(number) > MAX_INTEGER:
        refuse_number(event)
    return number


def refuse_number(event: ScalarEvent) -> NoReturn:
    """Refuse a number that is too large or too long."""
    raise YamlValueError(
        event,
        f"{shorten(event.value)} is too large for a number: whole numbers end at {MAX_INTEGER:,}; "
        "write a text in quotes",
    )


def check_text(event: ScalarEvent) -> str:
    """Return the text of a scalar; surrogates that belong together become one character."""
    text = cast("str", event.value)
    if "\0" in text:
        raise YamlValueError(event, "the text holds the character NUL: take it out")
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise YamlValueError(
            event,
            r"the text holds half of a character (a lone surrogate such as \ud800): write the "
            "character itself",
        ) from None


def shorten(text: str) -> str:
    """Return the beginning of a text, on one line."""
    beginning = repr(text[:MAX_SHOWN_CHARACTERS])[1:-1]
    return f"{beginning}…" if len(text) > MAX_SHOWN_CHARACTERS else beginning
