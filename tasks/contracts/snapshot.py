"""raw/snapshot.json: what the source held, and the files that its rows were written to."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field, JsonValue

from tasks.contracts.base import Record
from tasks.contracts.stage_report import StageReport


class IdColumn(StrEnum):
    """What a column `id` of the source is."""

    NAMED = "named"  # the ids of the rows: the recipe, or the kind of source, says so
    FOUND = "found"  # the ids of the rows, if there is such a column: each row has one of its own
    ORDINARY = "ordinary"  # a column like any other: it repeats or lacks values


class SnapshotPartition(Record):
    """One file of rows, all of one part of the source."""

    source: str = Field(description="File, table or member of an archive that held the rows.")
    source_part: str = Field(description="Part of the source that is read at once.")
    version: str = Field(description="Hash or version of the content of that part.")
    file: str = Field(description="File below raw/, and below its folder of rejects, if any.")
    rows_in: int
    rows: int
    rejects: int
    by_rule: dict[str, int] = Field(description="Rejected rows by the rule that rejected them.")
    duplicates_across_parts: int = Field(description="Rows that an earlier part has too.")
    bytes: int = Field(description="Size of the file of rows.")
    sha256: str
    rejects_sha256: str | None
    warnings: list[str] = Field(
        default_factory=list, description="What people should know of how the rows were read."
    )


class Snapshot(StageReport):
    """The source as the stage `ingest` read it."""

    WRITTEN_BY: ClassVar[str] = "ingest"

    source: dict[str, JsonValue] = Field(description="The recipe's section `ingest`.")
    id_column: IdColumn
    erased: str = Field(description="Hash of the ids to erase.")
    partitions: list[SnapshotPartition]
