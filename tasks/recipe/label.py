"""The section `label`: where labels come from."""

import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.core.suggest import suggest_nearest
from tasks.recipe import defaults
from tasks.recipe.base import BaseName, Fraction, PathText, Section


class LabellingFunction(Section):
    """Votes for a label or abstains, row by row."""

    trusted: bool = Field(
        default=False,
        description="Whether its votes are labels as they are, before any vote is counted.",
    )


class KeywordFunction(LabellingFunction):
    """Votes for a label if a text holds one of some words."""

    kind: Literal["keyword"]
    words: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        min_length=1, description="Words or phrases, found as whole words in any letter case."
    )
    label: str = Field(description="The label to vote for.")
    column: str = Field("text", description="The column to search.")


def validate_pattern(pattern: str) -> str:
    """Refuse what is no regular expression, or needs more than linear time."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if re.search(r"\(\?<?[=!]|(?<!\\)\\[1-9]", pattern):
        raise ValueError(
            "has a look-around or a back-reference, which need more than linear time: write it "
            "without"
        )
    return pattern


class RegexFunction(LabellingFunction):
    """Votes for a label if a text matches a regular expression."""

    kind: Literal["regex"]
    pattern: Annotated[str, AfterValidator(validate_pattern)] = Field(
        description="The regular expression, matched anywhere in the text in any letter case; "
        "look-arounds and back-references are not allowed."
    )
    label: str = Field(description="The label to vote for.")
    column: str = Field("text", description="The column to search.")


class LookupFunction(LabellingFunction):
    """Votes for what a table says about a value of the row."""

    kind: Literal["lookup"]
    file: PathText = Field(description="The table, a CSV file.")
    column: str = Field(description="The column, of the table and of the data, that must be equal.")
    value: str = Field("label", description="The column of the table that holds the label.")


class SimilarityFunction(LabellingFunction):
    """Votes for a label if a text is similar to one of some examples."""

    kind: Literal["similarity"]
    examples: list[str] = Field(min_length=1, description="Texts of that label.")
    label: str = Field(description="The label to vote for.")
    threshold: Fraction = Field(0.6, description="The least cosine similarity to an example.")
    column: str = Field("text", description="The column to compare.")
    base: BaseName = Field(
        defaults.MINILM,
        description="The encoder: package:NAME, a folder, or a model of the Hugging Face Hub.",
    )


class ModelFunction(LabellingFunction):
    """Votes for what another model predicts."""

    kind: Literal["model"]
    path: PathText = Field(description="The folder of the exported model.")
    confidence: Fraction = Field(0.5, description="The least probability for a vote.")
    column: str | None = Field(
        None, description="The column that the model reads, if not the one that it was trained on."
    )


AnyLabellingFunction = Annotated[
    KeywordFunction | RegexFunction | LookupFunction | SimilarityFunction | ModelFunction,
    Field(discriminator="kind"),
]


class Label(Section):
    """Where labels come from.

    The first that has one decides: people's answers, the source's label, trusted functions in
    their order, and then the votes of the other functions. Rows without a label go to the review
    queue.
    """

    classes: list[str] | None = Field(
        None,
        min_length=2,
        description="The labels that are allowed; by default all that occur.",
    )
    answers: PathText | list[PathText] = Field(
        [],
        description="Files of people's labels for rows of the review queue: CSV with the columns "
        "id and label, or Label Studio's export as JSON.",
    )
    errors: Literal["keep", "flag", "drop", "relabel"] = Field(
        "keep",
        description="What to do with labels that look wrong: keep them, keep them and put the "
        "row into the review queue, drop the row, or take the label that looks right.",
    )
    functions: list[AnyLabellingFunction] = Field(
        [], description="Functions that vote for the labels of rows that have none."
    )
    model: Literal["majority", "dawid_skene"] = Field(
        "majority",
        description="How votes become a label: by majority, or weighted by the accuracy of each "
        "function, estimated from their agreement (Dawid and Skene 1979).",
    )
    confidence: float = Field(
        0.5, gt=0, le=1, description="The least probability for a label from votes."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe labels of functions that are no class."""
        if self.classes is None:
            return
        for number, function in enumerate(self.functions):
            label = getattr(function, "label", None)
            if label is not None and label not in self.classes:
                suggestion = suggest_nearest(label, self.classes)
                yield f"functions[{number}].label {label!r} is not among the classes{suggestion}"
