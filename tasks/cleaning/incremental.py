"""Incremental."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tasks.cleaning import apply
from tasks.cleaning.apply import RuleCall
from tasks.cleaning.duplicates import FirstOccurrences
from tasks.rows import rejected_rows
from tasks.storage import files, hashing

REJECTS_FOLDER = "rejects.parquet"
T = TypeVar("T")


class IncrementalCleaner:
    """The rules that go through the data part by part, in the order of the parts; of equal rows the first in that order stays.

    Each part has the columns of `like`, those of all parts: what a part lacks is null in it.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        like: pa.Table,
        rules: list[RuleCall],
        kinds: frozenset[str],
        made_by: str,
    ) -> None:
        self.source, self.target, self.like, self.kinds, self.firsts = (
            source,
            target,
            like,
            kinds,
            FirstOccurrences(),
        )
        self.rules = [
            (
                name,
                {**arguments, "firsts": self.firsts} if name == "exact_duplicates" else arguments,
            )
            for name, arguments in rules
        ]
        before = files.read_json(target / "state.json") if (target / "state.json").is_file() else {}
        self.before = (
            {part["raw"]: part for part in before.get("parts", [])}
            if before.get("made_by") == made_by
            else {}
        )
        self.expected, self.is_prefix_of_previous = (
            iter(self.before),
            True,
        )  # unmoved: all parts so far are those of the earlier run, in its order

    def kept(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a part that an earlier run cleaned, if its bytes verify and cleaning it now would give the same."""
        self.is_prefix_of_previous = (
            next(self.expected, None) == raw["sha256"] and self.is_prefix_of_previous
        )
        part: dict[str, Any] = self.before.get(raw["sha256"], {})
        paths = {
            self.target / folder / raw["file"]: digest
            for folder, digest in part.get("sha256", {}).items()
        }
        if part.get("file") != raw["file"] or not all(
            path.is_file() and hashing.sha256(path) == digest for path, digest in paths.items()
        ):
            return None
        if "keys" in part["sha256"]:
            known = files.read_table(self.target / "keys" / raw["file"])
            if not self.is_prefix_of_previous and (
                part["crossed"] or self.firsts.contains_any(known)
            ):
                return None
            self.firsts.note(known)
        return part

    def clean_partition(self, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        """The record of a part, and what is to be written for it by folder: nothing if it was kept."""
        if part := self.kept(raw):
            return part, {}
        before = files.read_table(self.source / raw["file"])
        if before.column_names != self.like.column_names:
            before = pa.concat_tables(
                [self.like, before], promote_options="default"
            ).combine_chunks()
        table, dropped, told = apply.apply_rules(before, self.rules, self.kinds)
        tables = {
            "parts": table,
            "keys": self.firsts.latest,
            REJECTS_FOLDER: rejected_rows.concat_rejects(dropped, before) if dropped else None,
        }
        part = {
            "raw": raw["sha256"],
            "file": raw["file"],
            "rows_in": before.num_rows,
            "rows": table.num_rows,
            "crossed": self.firsts.duplicates_across_parts,
            "rules": told,
        }
        return part, {folder: content for folder, content in tables.items() if content is not None}

    def written(self, part: dict[str, Any], tables: dict[str, pa.Table]) -> dict[str, Any]:
        for folder, table in tables.items():
            files.write_table(self.target / folder / part["file"], table)
        return {
            "sha256": {
                folder: hashing.sha256(self.target / folder / part["file"]) for folder in tables
            },
            **part,
        }


def prefetch(function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    """The function's results, of which the next is made while one is used."""
    with ThreadPoolExecutor(1) as pool:
        made: list[Future[T]] = []
        for item in items:
            made.append(pool.submit(function, item))
            if len(made) > 1:
                yield made.pop(0).result()
        yield from (last.result() for last in made)
