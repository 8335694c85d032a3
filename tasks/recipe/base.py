"""What all sections of a recipe share: strict keys, and checks that concern several keys."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe.

    It is strict: an unknown key or a value of another type is a mistake, never ignored or
    converted.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def cross_field_errors(self) -> Iterator[str]:
        """Describe each mistake that concerns several keys at once."""
        yield from ()

    @model_validator(mode="after")
    def check_fields_together(self) -> Self:
        """Raise ValueError with all the sentences of `cross_field_errors`."""
        sentences = list(self.cross_field_errors())
        if sentences:
            raise ValueError("; ".join(sentences))
        return self


def is_or_are(keys: list[str]) -> str:
    """Join names of keys, with the verb that agrees: `a is`, `a and b are`."""
    verb = "is" if len(keys) == 1 else "are"
    return f"{' and '.join(keys)} {verb}"
