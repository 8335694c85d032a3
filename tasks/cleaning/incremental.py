"""Cleans the data part by part, and keeps the parts that an earlier run cleaned alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from tasks.cleaning import apply
from tasks.cleaning.duplicates import FirstOccurrences
from tasks.cleaning.plan import RulePlan
from tasks.cleaning.rules import ContentKeys, RuleCall
from tasks.contracts.cleaning_state import CleanedPart
from tasks.rows import rejected_rows
from tasks.storage import files, hashing
from tasks.storage.layout import CleanFolder, RawFolder

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RawFile:
    """A file of the snapshot."""

    name: str
    sha256: str


@dataclass(frozen=True)
class PartFiles:
    """The record of a part, and what is to be written for it: nothing if it was kept."""

    part: CleanedPart  # without hashes as long as the tables are not written
    tables: dict[Path, pa.Table]  # by folder


class IncrementalCleaner:
    """Applies the streamed rules to one part after the other.

    Of equal rows the first stays, in the order of the parts. So a part is kept only if the rows
    before it are those of the earlier run, or have nothing in common with it.
    """

    def __init__(
        self,
        raw: RawFolder,
        clean: CleanFolder,
        plan: RulePlan,
        schema: pa.Schema,
        previous: Sequence[CleanedPart],
    ) -> None:
        """Prepare to clean the parts in their order.

        Args:
            raw: Where the parts lie.
            clean: Where the results go.
            plan: The rules.
            schema: The columns of all parts; what a part lacks is null in it.
            previous: The parts that the same rules and code cleaned in an earlier run.
        """
        self.raw = raw
        self.clean = clean
        self.pii_kinds = plan.pii_kinds
        self.empty = schema.empty_table()
        self.first_occurrences = FirstOccurrences()
        self.calls = [self.remember_rows(call) for call in plan.streamed]
        self.previous = {part.raw: part for part in previous}
        self.expected = iter(self.previous)
        self.is_prefix_of_previous = True  # all parts so far are those of the earlier run

    def remember_rows(self, call: RuleCall) -> RuleCall:
        """Give `exact_duplicates` the rows of earlier parts."""
        if call.name != "exact_duplicates":
            return call
        return call.with_arguments(first_occurrences=self.first_occurrences)

    def clean_all(self, raw_files: Iterable[RawFile]) -> list[CleanedPart]:
        """Clean all parts; one is written while the next is cleaned."""
        return [self.write_part(part) for part in prefetch(self.clean_part, raw_files)]

    def clean_part(self, raw_file: RawFile) -> PartFiles:
        """Clean a part, or take it as the earlier run left it."""
        kept = self.find_reusable_part(raw_file)
        if kept:
            return PartFiles(kept, {})
        before = files.read_table(self.raw.path / raw_file.name)
        if before.column_names != self.empty.column_names:
            parts = [self.empty, before]
            before = pa.concat_tables(parts, promote_options="default").combine_chunks()
        cleaned = apply.apply_rules(before, self.calls, self.pii_kinds)
        tables = {self.clean.parts: cleaned.table}
        if cleaned.content_keys:
            tables[self.clean.keys] = cleaned.content_keys.table
        if cleaned.rejects:
            tables[self.clean.rejects] = rejected_rows.concat_rejects(cleaned.rejects, before)
        part = CleanedPart(
            file=raw_file.name,
            raw=raw_file.sha256,
            rows_in=before.num_rows,
            rows=cleaned.table.num_rows,
            duplicates_across_parts=count_duplicates(cleaned.content_keys),
            rules=cleaned.reports,
            sha256={},
        )
        return PartFiles(part, tables)

    def find_reusable_part(self, raw_file: RawFile) -> CleanedPart | None:
        """Return a part of the earlier run, if cleaning it now would give the same files."""
        is_expected = next(self.expected, None) == raw_file.sha256
        self.is_prefix_of_previous = self.is_prefix_of_previous and is_expected
        part = self.previous.get(raw_file.sha256)
        if part is None or part.file != raw_file.name or not self.is_intact(part):
            return None
        if self.clean.keys.name not in part.sha256:
            return part
        keys = ContentKeys(
            files.read_table(self.clean.keys / part.file), part.duplicates_across_parts
        )
        if not self.is_prefix_of_previous and self.has_earlier_equals(keys):
            return None
        self.first_occurrences.add(keys)
        return part

    def is_intact(self, part: CleanedPart) -> bool:
        """Tell whether the files of a part are as they were written."""
        for folder, digest in part.sha256.items():
            path = self.clean.path / folder / part.file
            if not path.is_file() or hashing.sha256(path) != digest:
                return False
        return True

    def has_earlier_equals(self, keys: ContentKeys) -> bool:
        """Tell whether a part had, or has now, rows that equal one of an earlier part."""
        return bool(keys.duplicates_across_parts) or self.first_occurrences.contains_any(keys)

    def write_part(self, part_files: PartFiles) -> CleanedPart:
        """Write the tables of a part and record their hashes."""
        part = part_files.part
        if not part_files.tables:
            return part
        hashes = {}
        for folder, table in part_files.tables.items():
            path = folder / part.file
            files.write_table(path, table)
            hashes[folder.name] = hashing.sha256(path)
        return part.model_copy(update={"sha256": hashes})


def count_duplicates(keys: ContentKeys | None) -> int:
    """Count the rows of a part that equal one of an earlier part."""
    return keys.duplicates_across_parts if keys else 0


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the function's results in order; the next is computed while one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Result]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
