"""split/report.json: the size of each split and how its classes are distributed."""

from typing import ClassVar

from pydantic import Field

from tasks.contracts.base import Record
from tasks.contracts.stage_report import StageReport


class LargestDifference(Record):
    """The class whose share in a split differs most from its share in all rows."""

    class_name: str
    difference: float


class ClassShares(Record):
    """How far the class shares of a split are from those of all rows."""

    shares: dict[str, float]
    total_variation: float = Field(description="Half the sum of the absolute differences.")
    largest: LargestDifference


class TimeReport(Record):
    """The times at which val and test begin."""

    column: str
    val_from: int | float | str
    test_from: int | float | str
    note: str | None


class SplitReport(StageReport):
    """What the stage `split` did."""

    WRITTEN_BY: ClassVar[str] = "split"

    rows_by_split: dict[str, int]
    clusters: int = Field(description="Groups of rows that are equal or nearly equal.")
    time: TimeReport | None = Field(description="The boundaries of a split by time.")
    classes: dict[str, dict[str, int]] = Field(description="By split, the rows of each class.")
    stratification: dict[str, ClassShares] = Field(description="By split.")
    folds: dict[int, int] | None = Field(description="Rows of train by fold.")
