"""Columns."""

from typing import Any

from pydantic import (
    Field,
)

from tasks.recipe.base import Section


class Columns(Section):
    """The source's names for the columns that the pipeline knows as `id`, `text` or `image`, and `label`. Others keep their names.

    A column `id` that is not named here names the rows only where each has a value of its own. Otherwise it is kept as the ordinary column `data.id`,
    and rows are named after their content.

    `features` are the columns from which a table's model predicts; all others where it is not given. `prompt` is what a causal language model is given before
    each text, with other columns in it, as in '{service} {operation}: '; its rows have no label.
    """

    id: str | None = None
    text: str = "text"
    image: str = "image"
    label: str | None = "label"
    features: list[str] | None = Field(None, min_length=1)
    prompt: str | None = None


def refuse_types(columns: dict[str, Any], roles: tuple[str | None, ...]) -> None:
    for name in roles:
        if name in columns:
            raise ValueError(
                f"gives a type to {name!r}, which the pipeline needs as it is: leave it out"
            )
