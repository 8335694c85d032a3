"""Tune."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
)

from tasks.recipe import search_space
from tasks.recipe.base import Count, Section
from tasks.recipe.metric_names import Metric
from tasks.recipe.train import Train


class SearchInterval(Section):
    """Any value from `low` to `high`, with `log` evenly over the orders of magnitude; whole numbers where the key takes no others."""

    low: float
    high: float
    log: bool = False

    def cross_field_errors(self) -> Iterator[str]:
        if self.low >= self.high:
            yield f"low is {self.low:g}, which must be less than high, {self.high:g}"
        if self.log and self.low <= 0:
            yield f"low is {self.low:g}, which must be more than 0 where log is true"


class Tune(Section):
    """A search for better values of `train`, measured on val, or with `split.folds` by cross-validation on train; never on test.

    `space` gives for keys of train, such as epochs or augment.shift, a list of values or an interval. The first of the `trials` has the recipe's own
    values, as far as these are in it. With `pruning`, a trial that after an epoch (or fold) is behind the median of the others ends there. After `seconds` no other trial begins: how many
    there are, and so the result, then depends on the machine.
    """

    trials: Count = 20
    seconds: float | None = Field(None, gt=0)
    space: Annotated[
        dict[str, Any],
        Field(min_length=1),
        AfterValidator(lambda given: search_space.validate_space(given, Train, SearchInterval)),
    ]
    metric: Metric | None = None
    pruning: bool = True
    seed: int = 0
