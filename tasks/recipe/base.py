"""Base."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Strict: an unknown key or a value of another type is a mistake, never ignored or converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def cross_field_errors(self) -> Iterator[str]:
        """What is wrong with the values together, where each alone is allowed."""
        yield from ()

    @model_validator(mode="after")
    def validate_fields(self) -> Self:
        if told := "; ".join(self.cross_field_errors()):
            raise ValueError(told)
        return self
