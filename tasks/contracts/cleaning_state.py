"""clean/state.json: the parts that the last run cleaned, so that the next can keep them."""

from typing import ClassVar

from pydantic import Field

from tasks.contracts.base import Contract, Record
from tasks.contracts.cleaning_report import RuleReport


class CleanedPart(Record):
    """One raw file, and what became of it."""

    file: str = Field(description="Name of the raw file, and of the files made from it.")
    raw: str = Field(description="SHA-256 of the raw file.")
    rows_in: int
    rows: int
    duplicates_across_parts: int = Field(description="Rows that equal one of an earlier part.")
    rules: list[RuleReport]
    sha256: dict[str, str] = Field(description="Of the written files, by folder below clean/.")


class CleaningState(Contract):
    """All parts, in the order of the snapshot."""

    WRITTEN_BY: ClassVar[str] = "clean"

    parts: list[CleanedPart]
