"""Label."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from tasks.core.suggest import suggest_nearest
from tasks.recipe import defaults
from tasks.recipe.base import Fraction, Section


class LabellingFunction(Section):
    """What all labelling functions share: each votes for a label or abstains, row by row. What a trusted one says is taken as it is, before any vote."""

    trusted: bool = False


class KeywordFunction(LabellingFunction):
    """Votes for `label` where `column` holds one of the words or phrases, whole and in any case."""

    kind: Literal["keyword"]
    words: list[Annotated[str, Field(pattern=r"\S")]] = Field(min_length=1)
    label: str
    column: str = "text"


def validate_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if re.search(r"\(\?<?[=!]|(?<!\\)\\[1-9]", pattern):
        raise ValueError(
            "has a look-around or a back-reference, which need more than linear time: write it without"
        )
    return pattern


class RegexFunction(LabellingFunction):
    """Votes for `label` where `column` matches the regular expression, in any case."""

    kind: Literal["regex"]
    pattern: Annotated[str, AfterValidator(validate_pattern)]
    label: str
    column: str = "text"


class LookupFunction(LabellingFunction):
    """Votes for `value` of the row of `file` (CSV) whose `column` equals the data's column of that name."""

    kind: Literal["lookup"]
    file: str
    column: str
    value: str = "label"


class SimilarityFunction(LabellingFunction):
    """Votes for `label` where the cosine of the text in `column` to one of the examples, as `base` encodes them, reaches `threshold`."""

    kind: Literal["similarity"]
    examples: list[str] = Field(min_length=1)
    label: str
    threshold: Fraction = 0.6
    column: str = "text"
    base: str = defaults.MINILM


class ModelFunction(LabellingFunction):
    """Votes for what another model (the folder of an exported one) predicts, from `column` if it is given, with at least this probability."""

    kind: Literal["model"]
    path: str
    confidence: Fraction = 0.5
    column: str | None = None


class Label(Section):
    """Where labels come from, first that answers: people, the source's own column, trusted functions in their order, and `model` over the votes of the
    others. A row that no function knows, or whose label has less than `confidence`, goes to the review queue.

    `answers` are files of what people said about rows of the queue: CSV with the columns id and label, or Label Studio's export as JSON. `errors` is what
    to do with labels that look wrong: nothing, or put the row into the queue and keep it, drop it, or take the label that looks right.
    """

    classes: list[str] | None = Field(None, min_length=2)
    answers: str | list[str] = []
    errors: Literal["keep", "flag", "drop", "relabel"] = "keep"
    functions: list[
        Annotated[
            KeywordFunction | RegexFunction | LookupFunction | SimilarityFunction | ModelFunction,
            Field(discriminator="kind"),
        ]
    ] = []
    model: Literal["majority", "dawid_skene"] = "majority"
    confidence: float = Field(0.5, gt=0, le=1)

    def cross_field_errors(self) -> Iterator[str]:
        for number, function in enumerate(self.functions):
            label = getattr(function, "label", None)
            if label is not None and self.classes is not None and label not in self.classes:
                yield f"functions[{number}].label {label!r} is not among the classes{suggest_nearest(label, self.classes)}"
