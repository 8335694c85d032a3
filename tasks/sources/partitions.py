"""Partitions."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import sources
from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.recipe import Recipe
from tasks.rows import rejected_rows, table_columns
from tasks.rows.seen_keys import SeenKeys, hash_rows
from tasks.sources.base import SourcePartition
from tasks.storage import code_closure, files, hashing

REJECTS_FOLDER = "rejects.parquet"
MAX_ROWS_PER_FILE = 100_000  # rows of a file; what comes after works on one file at a time
PartitionRecords = list[dict[str, Any]]  # what snapshot.json says of each file
KINDS_WITH_OWN_IDS = (
    "images",
    "package",
    "requests",
)  # kinds of source that name their rows themselves
NAMED_ID, FOUND_ID, ORDINARY_ID = (
    "named",
    "found",
    "ordinary",
)  # what a column id is: named as such, found under that name, or a column like any other


class IdNotUnique(Exception):
    """A column id that nobody named does not name the rows: a value comes twice or is missing."""


def write_snapshot(recipe: Recipe, folder: Path, erased: pa.Array, kind: str) -> dict[str, Any]:
    """Write the snapshot and return what it says. Raises Repeated where a column id was found that cannot name the rows."""
    seen, about = SeenKeys(), snapshot_metadata(recipe, erased, kind)
    kept, records = PreviousSnapshot(folder, about, seen, erased), PartitionRecords()
    for part in sources.iter_partitions(recipe.ingest):
        records += kept.reusable_records(part) or write_partition(
            part, recipe, folder, seen, erased, kind
        )
    rules: Counter[str] = sum((Counter(record["rules"]) for record in records), Counter())
    if not any(record["rows"] for record in records):
        names = ", ".join(record["source"] for record in records) or "the source"
        lost = ", ".join(f"{rule} drops {count}" for rule, count in sorted(rules.items()))
        raise StageError(
            f"{names} holds no rows{f' that stay ({lost})' if lost else ''}: a header alone is not data; check the source."
        )
    rejected_rows.complete_rejects_folder(
        folder / REJECTS_FOLDER,
        [record["file"] for record in records if record["rejects"]],
        files.read_table(folder / records[0]["file"]),
    )
    total = {key: sum(record[key] for record in records) for key in ("rows_in", "rows", "rejects")}
    snapshot = {**about, "rules": dict(sorted(rules.items())), **total, "partitions": records}
    files.write_json(folder / "snapshot.json", snapshot)
    files.remove_other_files(folder, [record["file"] for record in records])
    return snapshot


def snapshot_metadata(recipe: Recipe, erased: pa.Array, kind: str) -> dict[str, Any]:
    """What snapshot.json says besides counts: on all of it depends whether files may be used again."""
    settings = [recipe.ingest.model_dump(exclude={"path"}), recipe.columns, recipe.modality, kind]
    made_by = code_closure.hash_stage_code("ingest") + hashing.hash_json(settings)
    return {
        "source": recipe.ingest.model_dump(),
        "made_by": made_by,
        "erased": hashing.hash_json(erased.to_pylist()),
        "id": kind,
    }


def is_still_ordinary(recipe: Recipe, folder: Path, erased: pa.Array) -> bool:
    """Whether the column id was an ordinary one in the last snapshot and is so yet. Unchanged parts are not read for that."""
    path = folder / "snapshot.json"
    if not path.is_file() or files.read_json(path).get("id") != ORDINARY_ID:
        return False
    kept, seen = (
        PreviousSnapshot(
            folder, snapshot_metadata(recipe, erased, ORDINARY_ID), SeenKeys(), erased
        ),
        SeenKeys(),
    )
    for part in sources.iter_partitions(recipe.ingest):
        for ids in kept.ordinary_ids(part) or iter_source_ids(part):
            left = ids.filter(pc.invert(is_erased(ids, erased)))
            start = seen.size
            first = seen.first(hash_rows(pa.table({"id": left}), ["id"]))
            if left.null_count or (first < start + np.arange(len(left))).any():
                return True
    return False


def iter_source_ids(part: SourcePartition) -> Iterator[pa.ChunkedArray]:
    for found in part.read():
        if "id" in found.table.column_names:
            yield table_columns.convert_to_text(found.table["id"])


class PreviousSnapshot:
    """What an earlier run left in the folder. A part is used again, and not read, where reading it would give the same bytes and what is here verifies."""

    def __init__(
        self, folder: Path, about: dict[str, Any], seen: SeenKeys, erased: pa.Array
    ) -> None:
        self.folder, self.seen, self.erased = folder, seen, erased
        before = (
            files.read_json(folder / "snapshot.json")
            if (folder / "snapshot.json").is_file()
            else {}
        )
        self.has_same_erasures = before.get("erased") == about["erased"]
        self.columns = (
            ["id", table_columns.ORDINARY_ID_COLUMN] if about["id"] == ORDINARY_ID else ["id"]
        )
        self.before: dict[tuple[str, str], PartitionRecords] = {}
        for record in (
            before.get("partitions", []) if before.get("made_by") == about["made_by"] else []
        ):
            self.before.setdefault((record["part"], record["version"]), []).append(record)
        self.expected, self.is_prefix_of_previous = (
            iter(self.before),
            self.has_same_erasures,
        )  # unmoved: all parts so far are those of the earlier run, in its order

    def reusable_records(self, part: SourcePartition) -> PartitionRecords:
        """The records of the part's files, whose ids are then seen; none where it has to be read. Asked for each part, in their order."""
        key = (part.name, part.version)
        self.is_prefix_of_previous = next(self.expected, None) == key and self.is_prefix_of_previous
        records = self.before.get(key, [])
        if not all(is_unchanged(self.folder, record) for record in records):
            return []
        ids = [self.ids(record) for record in records]
        hidden = any({"erased", "broken row"} & record["rules"].keys() for record in records)
        if not self.has_same_erasures and (
            hidden
            or any(
                pc.any(find_erased_rows(table, self.erased, self.columns)).as_py() for table in ids
            )
        ):
            return []
        found = [hash_rows(table, ["id"]) for table in ids]
        if not self.is_prefix_of_previous and any(
            record["crossed"] or self.seen.contains(one).any()
            for record, one in zip(records, found, strict=True)
        ):
            return []
        for one in found:
            self.seen.note(one)
        return records

    def ids(self, record: dict[str, Any]) -> pa.Table:
        path = self.folder / record["file"]
        return files.read_table(
            path, [name for name in self.columns if name in pq.read_schema(path).names]
        )

    def ordinary_ids(self, part: SourcePartition) -> list[pa.ChunkedArray]:
        """The source's own ids in the part's files; none where they are not all there."""
        records = self.before.get((part.name, part.version), [])
        if not all(
            "erased" not in record["rules"] and is_unchanged(self.folder, record)
            for record in records
        ):
            return []
        tables = [self.ids(record) for record in records]
        return [
            table[table_columns.ORDINARY_ID_COLUMN]
            for table in tables
            if table_columns.ORDINARY_ID_COLUMN in table.column_names
        ]


def is_unchanged(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the files of a record are still what was written."""
    named = [
        (folder / record["file"], record["sha256"]),
        *(
            [(folder / REJECTS_FOLDER / record["file"], record["rejects_sha256"])]
            if record["rejects"]
            else []
        ),
    ]
    return all(path.is_file() and hashing.sha256(path) == digest for path, digest in named)


def write_partition(
    part: SourcePartition, recipe: Recipe, folder: Path, seen: SeenKeys, erased: pa.Array, kind: str
) -> PartitionRecords:
    """Write the rows of a part of the source, at most PART to a file."""
    start, records = seen.size, PartitionRecords()
    for found in part.read():
        stem = f"{hashing.hash_json(found.name)[:12]}-{hashing.hash_json(part.version)[:12]}"
        whole = rename_columns(
            rename_ordinary_id(found.table, found.name) if kind == ORDINARY_ID else found.table,
            recipe,
            found.name,
        )
        for number, offset in enumerate(range(0, max(whole.num_rows, 1), MAX_ROWS_PER_FILE)):
            renamed, again = assign_ids(
                whole.slice(offset, MAX_ROWS_PER_FILE), seen, f"{stem[:12]}.{number}"
            )
            rows, dropped, doubled = separate_unique_rows(renamed, seen, start, erased, kind)
            if number == 0 and found.broken:
                dropped.append(reject_broken_lines(rows, found.broken, erased))
            lost = pa.concat_tables(
                [rejected_rows.build_rejects(rows.slice(0, 0), "ingest", ""), *dropped],
                promote_options="permissive",
            )
            file = f"{stem}-{number:04d}.parquet"
            files.write_table(folder / file, rows)
            if lost.num_rows:
                files.write_table(folder / REJECTS_FOLDER / file, lost)
            about = {
                "source": found.name,
                "part": part.name,
                "version": part.version,
                "file": file,
                "crossed": again + doubled,
            }
            count = {
                "rows_in": rows.num_rows + lost.num_rows,
                "rows": rows.num_rows,
                "rejects": lost.num_rows,
                "bytes": (folder / file).stat().st_size,
            }
            hashes = {
                "sha256": hashing.sha256(folder / file),
                "rejects_sha256": hashing.sha256(folder / REJECTS_FOLDER / file)
                if lost.num_rows
                else None,
            }
            records.append(
                {
                    **about,
                    **count,
                    **hashes,
                    "rules": dict(sorted(Counter(lost["rule"].to_pylist()).items())),
                }
            )
    return records


def read_erased_ids(path: Path) -> set[str]:
    """The ids in the column `id` of data/<recipe>/erase.csv: rows that must disappear."""
    if not path.is_file():
        return set()
    return {
        row["id"].strip()
        for row in files.read_csv(path, ["id"], "name it in the first line")
        if (row["id"] or "").strip()
    }


def rename_ordinary_id(table: pa.Table, source: str) -> pa.Table:
    """The table with its column id, which does not name the rows, under another name."""
    names = table.column_names
    if "id" in names and table_columns.ORDINARY_ID_COLUMN in names:
        told = f"the column 'id' repeats or lacks values, and the name that it would get, {table_columns.ORDINARY_ID_COLUMN!r}, is taken"
        raise StageError(
            f"{source}: {told}: rename one of them in the source, or name the column of ids in columns.id."
        )
    return table.rename_columns(
        [table_columns.ORDINARY_ID_COLUMN if name == "id" else name for name in names]
    )


def rename_columns(table: pa.Table, recipe: Recipe, source: str) -> pa.Table:
    """The table with the pipeline's names for the columns that have a role; all values that are not bytes as text."""
    columns = recipe.columns
    content = CONTENT_COLUMN[recipe.modality] or ""  # a table's content has no one column
    if columns.label is None and "label" not in table.column_names:
        table = table.append_column(
            "label", pa.array(["text"] * table.num_rows, pa.string())
        )  # a text is learnt whole, and the later steps count labels
    elif (
        columns.label
        and columns.label not in table.column_names
        and (recipe.label.functions or recipe.label.answers)
    ):
        table = table.append_column(columns.label, pa.nulls(table.num_rows, pa.string()))
    names = table.column_names
    given = {"id": columns.id, content: getattr(columns, content, None), "label": columns.label}
    roles = {role: column or role for role, column in given.items() if column or role in names}
    others = [name for name in names if name not in roles.values()]
    for role, column in roles.items():
        if column not in names:
            raise StageError(
                f"{source}: there is no column {column!r}{suggest_nearest(column, names)}. It has {', '.join(names)}: correct columns.{role} in the recipe."
            )
        if role in others:
            raise StageError(
                f"{source}: the column {role!r} would be hidden by the one that columns.{role} names: rename it in the source."
            )
    cells = {role: table[column] for role, column in roles.items()} | {
        name: table[name] for name in others
    }
    return pa.table(
        {
            name: column if name == content == "image" else table_columns.convert_to_text(column)
            for name, column in cells.items()
        }
    )


def assign_ids(table: pa.Table, seen: SeenKeys, tag: str) -> tuple[pa.Table, int]:
    """Rows without an id column are named after their content, so that a name survives inserts and deletes elsewhere. Equal rows are counted; those
    that are like a row of an earlier part carry the part's tag, and their number is returned."""
    if "id" in table.column_names:
        return table, 0
    counts: Counter[str] = Counter()
    ids = []
    for row in zip(*(table[name].to_pylist() for name in sorted(table.column_names)), strict=True):
        digest = hashlib.sha256(repr(row).encode()).hexdigest()[:16]
        counts[digest] += 1
        ids.append(digest if counts[digest] == 1 else f"{digest}-{counts[digest]}")
    names = pa.array(ids, pa.string())
    again = pa.array(seen.contains(hash_rows(pa.table({"id": names}), ["id"])))
    names = pc.if_else(again, pc.binary_join_element_wise(names, tag, "-"), names)
    return table.add_column(0, "id", names), int(pc.sum(again).as_py() or 0)


def separate_unique_rows(
    table: pa.Table, seen: SeenKeys, start: int, erased: pa.Array, kind: str
) -> tuple[pa.Table, list[pa.Table], int]:
    """Rows whose id is there, new and not to be erased; the others as rejects; and how many double an id of a part before row `start`."""
    gone, missing = (
        find_erased_rows(
            table,
            erased,
            ["id", table_columns.ORDINARY_ID_COLUMN] if kind == ORDINARY_ID else ["id"],
        ),
        pc.is_null(table["id"]),
    )
    blank = pa.table(
        {
            field.name: table[field.name]
            if field.name == "id"
            else pa.nulls(table.num_rows, field.type)
            for field in table.schema
        }
    )
    lost = [
        rejected_rows.build_rejects(blank.filter(gone), "ingest", "erased"),
        rejected_rows.build_rejects(table.filter(missing), "ingest", "no id"),
    ]
    table = table.filter(pc.invert(pc.or_(gone, missing)))
    own = seen.size
    first = seen.first(hash_rows(table, ["id"]))
    doubled = pa.array(first != own + np.arange(table.num_rows))
    if kind == FOUND_ID and (lost[1].num_rows or pc.any(doubled).as_py()):
        raise IdNotUnique
    lost.append(rejected_rows.build_rejects(table.filter(doubled), "ingest", "id given twice"))
    return table.filter(pc.invert(doubled)), lost, int((first < start).sum())


def find_erased_rows(table: pa.Table, erased: pa.Array, columns: Sequence[str]) -> pa.ChunkedArray:
    """Which rows an id to be erased names, in one of these columns as far as they are there."""
    found = [is_erased(table[name], erased) for name in columns if name in table.column_names]
    return reduce(pc.or_, found)


def is_erased(ids: pa.ChunkedArray, erased: pa.Array) -> pa.ChunkedArray:
    return pc.is_in(pc.utf8_trim_whitespace(ids), erased)


def reject_broken_lines(
    like: pa.Table, broken: Sequence[tuple[str, str]], erased: pa.Array
) -> pa.Table:
    """Lines that are no rows, with the line itself kept in `detail` unless an id that is to be erased stands in it."""
    blank, ids = (
        pa.table({field.name: pa.nulls(len(broken), field.type) for field in like.schema}),
        erased.to_pylist(),
    )

    def shown(line: str) -> str:
        return (
            "(erased)"
            if any(
                name in line and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line) for name in ids
            )
            else line
        )

    return rejected_rows.build_rejects(
        blank,
        "ingest",
        "broken row",
        pa.array([f"{problem}: {shown(line)}" for line, problem in broken], pa.string()),
    )
