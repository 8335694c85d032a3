"""The registry of cleaning rules, and the decorators that add to it.

A rule is one function in a module of this package, below one of three decorators:

    @text_rule("html")       changes each text on its own: a function of Daft expressions
    @row_rule("length")      looks at each row on its own, so the data may come in parts
    @table_rule("outliers")  needs all rows at once

A row rule or a table rule takes an Arrow table and returns one of

    - the table with changed cells, but the same rows and columns,
    - for each row why it is rejected, or None for a row that stays (`Reasons`),
    - both, as a `RuleOutcome`.

The function's other parameters are the keys of the rule's schema in
tasks/recipe/cleaning_rules.py; a parameter `modality` gets the modality of the recipe.
"""

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from tasks.recipe.cleaning_rules import CLEANING_RULES

if TYPE_CHECKING:
    from daft import Expression

Reasons = list[str | None]


@dataclass(frozen=True)
class ContentKeys:
    """What later parts need to know of a part, to find rows of the same content."""

    table: pa.Table  # columns id, high, low: each row's id and the two halves of its key
    duplicates_across_parts: int  # rows that equal one of an earlier part


@dataclass(frozen=True)
class RuleOutcome:
    """What a rule did to a table."""

    table: pa.Table  # with the rejected rows
    reasons: Reasons | None = None  # by row; None if the rule rejects no rows
    content_keys: ContentKeys | None = None  # of exact_duplicates


RuleFunction = Callable[..., "Expression | pa.Table | Reasons | RuleOutcome"]
Function = TypeVar("Function", bound=RuleFunction)


class Decorator(Protocol):
    """Registers a function and returns it as it is."""

    def __call__(self, function: Function, /) -> Function:
        """Register a function."""


class Scope(enum.Enum):
    """What a rule has to see at once."""

    TEXT = "text"
    ROW = "row"
    TABLE = "table"


@dataclass(frozen=True)
class CleaningRule:
    """A rule as recipes name it."""

    name: str
    scope: Scope
    function: RuleFunction
    redacts_rejects: bool = False  # rejected rows are kept as the rule changed them

    def bind(self, arguments: Mapping[str, Any], modality: str) -> "RuleCall":
        """Join the rule to the arguments that a recipe gives it."""
        schema = CLEANING_RULES[self.name].arguments
        values = dict(schema.model_validate(arguments)) if schema else {}
        if "modality" in inspect.signature(self.function).parameters:
            values["modality"] = modality
        return RuleCall(self, values)


@dataclass(frozen=True)
class RuleCall:
    """A rule with its arguments."""

    rule: CleaningRule
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the rule."""
        return self.rule.name

    def with_arguments(self, **arguments: Any) -> "RuleCall":
        """The same call with more arguments."""
        return replace(self, arguments={**self.arguments, **arguments})

    def extend_expression(self, text: "Expression") -> "Expression":
        """Apply a text rule to a Daft expression."""
        return self.rule.function(text, **self.arguments)

    def apply(self, table: pa.Table) -> RuleOutcome:
        """Apply a row rule or a table rule."""
        result = self.rule.function(table, **self.arguments)
        if isinstance(result, RuleOutcome):
            return result
        if isinstance(result, pa.Table):
            return RuleOutcome(result)
        return RuleOutcome(table, result)


RULES: dict[str, CleaningRule] = {}


def text_rule(name: str) -> Decorator:
    """Register a function from a Daft expression to one: each text becomes another text."""
    return register(name, Scope.TEXT)


def row_rule(name: str, *, redacts_rejects: bool = False) -> Decorator:
    """Register a function that looks at one row at a time, so that it may get any part of them.

    Args:
        name: What recipes call the rule.
        redacts_rejects: Whether rejects.parquet holds rows as the rule changed them, because
            what they held before must not be kept.
    """
    return register(name, Scope.ROW, redacts_rejects=redacts_rejects)


def table_rule(name: str) -> Decorator:
    """Register a function that needs all rows at once."""
    return register(name, Scope.TABLE)


def register(name: str, scope: Scope, *, redacts_rejects: bool = False) -> Decorator:
    """Add the decorated function to the rules."""

    def add(function: Function) -> Function:
        if name in RULES:
            raise ValueError(f"two functions are named as the cleaning rule {name}")
        RULES[name] = CleaningRule(name, scope, function, redacts_rejects)
        return function

    return add
