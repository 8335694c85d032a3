"""What a cleaning rule is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Reasons = list[str | None]  # one per row: why it is dropped, or None


@dataclass(frozen=True)
class Rule:
    """A rule by what it works on; `apply` takes the arguments of the recipe by name after its first.

    text     from a Daft expression, the column `text`, to an expression: each text becomes a text
    columns  from an Arrow table to one with the same rows and columns: cells change, and their type may; or to that and one reason per row: of those, rows go too
    filter   from an Arrow table to one reason per row: rows go

    A rule that is not `whole` looks at one row at a time, so that it may be given the data in parts; one that is needs all rows at once.
    """

    kind: Literal["text", "columns", "filter"]
    apply: Callable[..., Any]
    whole: bool = False
