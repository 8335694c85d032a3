"""The section `tune`: a search for better values of `train`."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.recipe import search_space
from tasks.recipe.base import Count, Section, Seed
from tasks.recipe.metric_names import Metric
from tasks.recipe.search_space import Values
from tasks.recipe.train import Train


class SearchInterval(Section):
    """Any value between two; whole numbers if the key takes no others."""

    low: float = Field(description="The smallest value.")
    high: float = Field(description="The largest value.")
    log: bool = Field(
        default=False, description="Draw evenly over the orders of magnitude instead of the values."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe an empty interval, or one that has no logarithm."""
        is_empty = self.low >= self.high
        has_no_logarithm = self.log and self.low <= 0
        if is_empty:
            yield f"low is {self.low:g}, which must be less than high, {self.high:g}"
        if has_no_logarithm:
            yield f"low is {self.low:g}, which must be more than 0 where log is true"


def validate_space(space: Values) -> Values:
    """Check the space against the keys of `train`."""
    return search_space.validate_space(space, Train, SearchInterval)


class SpaceJsonSchema:
    """Shows in the JSON schema what a key may be given to try."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Replace what the type says, which is any value."""
        interval = handler(SearchInterval.__pydantic_core_schema__)
        values = {"type": "array", "items": {}}
        return handler(core_schema) | {"additionalProperties": {"anyOf": [values, interval]}}


Space = Annotated[Values, Field(min_length=1), AfterValidator(validate_space), SpaceJsonSchema()]


class Tune(Section):
    """A search for better values of `train`, measured on the validation rows.

    With `split.folds` it is measured by cross-validation on the training rows instead; never on
    the test rows.
    """

    trials: Count = Field(
        20,
        description="The number of trials. The first has the recipe's own values, if the space "
        "holds them.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="The time after which no other trial begins. How many there are, and so the "
        "result, then depends on the machine.",
    )
    space: Space = Field(
        description="For keys of train, such as epochs or augment.shift, a list of values or an "
        "interval such as {low: 1e-4, high: 1e-3, log: true}."
    )
    metric: Metric | None = Field(
        None, description="The metric to improve; by default `train.metric`."
    )
    pruning: bool = Field(
        default=True,
        description="End a trial that after an epoch (or fold) is behind the median of the others.",
    )
    seed: Seed = Field(0, description="The seed of the search.")
