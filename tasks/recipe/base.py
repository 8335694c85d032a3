"""What all sections of a recipe share: strict keys, and checks that concern several keys."""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes


def refuse_infinite_numbers(value: JsonValue) -> JsonValue:
    """Refuse numbers that JSON does not have, however deep they lie."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"holds {item}, which is not a finite number: write another value")
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item.values())
    return value


def validate_base(name: str) -> str:
    """Refuse a base that is no package, folder or name of the hub."""
    package = name.removeprefix("package:")
    if package != name and not re.fullmatch(r"[A-Za-z_]\w*", package, re.ASCII):
        raise ValueError(
            f"{name!r} names no package: write package:NAME with letters, digits and underscores"
        )
    return name


PathText = Annotated[str, Field(min_length=1, max_length=4096)]  # also a glob
BaseName = Annotated[PathText, AfterValidator(validate_base)]
FiniteJson = Annotated[JsonValue, AfterValidator(refuse_infinite_numbers)]


class Section(BaseModel):
    """A part of a recipe.

    It is strict: an unknown key or a value of another type is a mistake, never ignored or
    converted. No number is infinite, since a recipe is kept as JSON.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

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
