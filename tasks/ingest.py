"""Ingest: read the source and keep its rows as they came, in Parquet partitions.

    python -m tasks.ingest support-desk

Writes raw/*.parquet, raw/rejects.parquet/ and raw/snapshot.json. Columns that the recipe names become `id`, `text` or `image`, and `label`.
What lies there already from a part of the source that is unchanged is verified and kept; only new and changed parts are read. The result is
the same as if all had been read. Rows whose id data/<recipe>/erase.csv lists lose their content here, and so everywhere.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import files, resolve, sources
from tasks.mistakes import nearest
from tasks.recipe import CONTENT, Recipe
from tasks.seen import Seen, keys
from tasks.step import Failure, Retryable, main

REJECTS = "rejects.parquet"
LOCAL = ("files", "images")  # sources whose parts are known by the hash of their bytes
PART = 100_000  # rows of a file; what comes after works on one file at a time


def ingest(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "raw", erasures(folder / "erase.csv"))


def run(recipe: Recipe, folder: Path, erase: Iterable[str] = ()) -> None:
    if (folder / REJECTS).is_file():  # as it was written before it became a folder
        (folder / REJECTS).unlink()
    erased = pa.array(sorted(erase), pa.string())
    made_by = files.code("ingest.py", "seen.py", "sources/*.py") + files.digest([recipe.ingest.model_dump(exclude={"path"}), recipe.columns, recipe.modality])
    versions, seen = sources.fingerprint(recipe.ingest), Seen()
    kept = Kept(folder, made_by, versions, seen, erased)
    for partition in sources.partitions(recipe.ingest, skip=kept):
        if recipe.ingest.kind in LOCAL and versions.get(partition.name) != partition.sha256:
            raise Retryable(f"{partition.name} changed while it was read: nothing of this reading is kept.")
        kept.parts += read(partition, versions.get(partition.name, partition.sha256), recipe, folder, seen, erased)
    parts = kept.parts
    if not any(part["rows"] for part in parts):
        raise Failure(f"{', '.join(part['source'] for part in parts) or 'the source'} holds no rows: a header alone is not data; check the source.")
    files.complete_parts(folder / REJECTS, [part["file"] for part in parts if part["rejects"]], files.read_table(folder / parts[0]["file"]))
    rules: Counter[str] = sum((Counter(part["rules"]) for part in parts), Counter())
    total = {key: sum(part[key] for part in parts) for key in ("rows_in", "rows", "rejects")}
    about = {"source": recipe.ingest.model_dump(), "made_by": made_by, "erased": kept.erasing, "rules": dict(sorted(rules.items())), **total}
    files.write_json(folder / "snapshot.json", {**about, "partitions": parts})
    files.remove_others(folder, [part["file"] for part in parts])


class Kept:
    """What an earlier run left in the folder. A source asks `name in kept` just before it would read a part, in the order of its parts. A part is used
    again, and need not be read, where reading it would give the same bytes, and what is here verifies; its records are then among `parts`."""

    def __init__(self, folder: Path, made_by: str, versions: dict[str, str], seen: Seen, erased: pa.Array) -> None:
        self.folder, self.versions, self.seen, self.erased = folder, versions, seen, erased
        self.erasing = files.digest(erased.to_pylist())
        before = files.read_json(folder / "snapshot.json") if (folder / "snapshot.json").is_file() else {}
        self.same_erased = before.get("erased") == self.erasing
        self.before: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for part in before.get("partitions", []) if before.get("made_by") == made_by else []:
            self.before.setdefault((part["source"], part["version"]), []).append(part)
        self.expected, self.unmoved = iter(self.before), self.same_erased  # unmoved: all parts so far are those of the earlier run, in its order
        self.answers: dict[str, bool] = {}
        self.parts: list[dict[str, Any]] = []

    def __contains__(self, name: object) -> bool:
        if name not in self.versions:
            return False
        assert isinstance(name, str)
        if name not in self.answers:
            found = self.usable(name)
            self.answers[name] = bool(found)
            self.parts += found
        return self.answers[name]

    def usable(self, name: str) -> list[dict[str, Any]]:
        """The records of the part's files, whose ids are then seen; none where it has to be read."""
        key = (name, self.versions[name])
        self.unmoved = next(self.expected, None) == key and self.unmoved
        parts = self.before.get(key, [])
        if not all(verified(self.folder, part) for part in parts):
            return []
        if not self.same_erased and any({"erased", "broken row"} & part["rules"].keys() for part in parts):
            return []
        ids = [files.read_table(self.folder / part["file"], ["id"]) for part in parts]
        if any(pc.any(listed(table["id"], self.erased)).as_py() for table in ids):
            return []
        found = [keys(table, ["id"]) for table in ids]
        if not self.unmoved and any(part["crossed"] or self.seen.holds(one).any() for part, one in zip(parts, found, strict=True)):
            return []
        for one in found:
            self.seen.note(one)
        return parts


def verified(folder: Path, part: dict[str, Any]) -> bool:
    """Whether the files of a part are still what was written."""
    named = [(folder / part["file"], part["sha256"]), *([(folder / REJECTS / part["file"], part["rejects_sha256"])] if part["rejects"] else [])]
    return all(path.is_file() and files.sha256(path) == digest for path, digest in named)


def read(partition: sources.Partition, version: str, recipe: Recipe, folder: Path, seen: Seen, erased: pa.Array) -> list[dict[str, Any]]:
    """Write the rows of a part of the source, at most PART to a file; returns a record for each file."""
    start = seen.size
    stem = f"{files.digest(partition.name)[:12]}-{files.digest(version)[:12]}"
    whole = named(partition.table, recipe, partition.name)
    parts: list[dict[str, Any]] = []
    for offset in range(0, max(whole.num_rows, 1), PART):
        renamed, again = with_id(whole.slice(offset, PART), seen, f"{stem[:12]}.{len(parts)}")
        rows, dropped, doubled = unique(renamed, seen, start, erased)
        if not offset and partition.broken:
            dropped.append(broken_rows(rows, partition.broken, erased))
        file = f"{stem}-{len(parts):04d}.parquet"
        files.write_table(folder / file, rows)
        lost = pa.concat_tables(dropped, promote_options="permissive") if dropped else rows.slice(0, 0)
        if lost.num_rows:
            files.write_table(folder / REJECTS / file, lost)
        parts.append(
            {
                "source": partition.name,
                "version": version,
                "file": file,
                "sha256": files.sha256(folder / file),
                "rejects_sha256": files.sha256(folder / REJECTS / file) if lost.num_rows else None,
                "rows_in": rows.num_rows + lost.num_rows,
                "rows": rows.num_rows,
                "rejects": lost.num_rows,
                "rules": dict(sorted(Counter(lost["rule"].to_pylist()).items())) if lost.num_rows else {},
                "crossed": again + doubled,
                "bytes": (folder / file).stat().st_size,
            }
        )
    return parts


def erasures(path: Path) -> set[str]:
    """The ids in the column `id` of data/<recipe>/erase.csv: rows that must disappear."""
    if not path.is_file():
        return set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "id" not in (reader.fieldnames or []):
                raise Failure(f"{path}: its first line must name the column id; it is {','.join(reader.fieldnames or []) or 'empty'}: write id there.")
            return {row["id"].strip() for row in reader if (row["id"] or "").strip()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"{path} is not a CSV file in UTF-8 ({files.first_line(error)}): save it as one.") from None


def named(table: pa.Table, recipe: Recipe, source: str) -> pa.Table:
    """The table with the pipeline's names for the columns that have a role; all values that are not bytes as text."""
    columns = recipe.columns
    content = CONTENT[recipe.modality] or ""  # a table's content has no one column
    roles = {"id": columns.id, content: getattr(columns, content, None), "label": columns.label}
    optional = {"label"} if recipe.label.functions or recipe.label.answers else set()
    if columns.label is None and "label" not in table.column_names:
        table = table.append_column("label", pa.array(["text"] * table.num_rows, pa.string()))  # a text is learnt whole, and the later steps count labels
    names = table.column_names
    for role, column in roles.items():
        if column is None or column in names:
            continue
        if role in optional:
            table = table.append_column("label", pa.nulls(table.num_rows, pa.string()))
            continue
        raise Failure(f"{source}: there is no column {column!r}{nearest(column, names)}. It has {', '.join(names)}: correct columns.{role} in the recipe.")
    renames = {column: role for role, column in roles.items() if column in names and column != role}
    clash = sorted(set(renames.values()) & set(names) - set(renames))
    if clash:
        raise Failure(f"{source}: the column {clash[0]!r} would be hidden by the one that columns.{clash[0]} names: rename it in the source.")
    table = table.rename_columns([renames.get(column, column) for column in table.column_names])
    first = [role for role in roles if role in table.column_names]
    table = table.select(first + [column for column in table.column_names if column not in first])
    return pa.table({name: table[name] if name == "image" else files.as_text(table[name]) for name in table.column_names})


def with_id(table: pa.Table, seen: Seen, tag: str) -> tuple[pa.Table, int]:
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
    again = pa.array(seen.holds(keys(pa.table({"id": names}), ["id"])))
    names = pc.if_else(again, pc.binary_join_element_wise(names, tag, "-"), names)
    return table.add_column(0, "id", names), int(pc.sum(again).as_py() or 0)


def unique(table: pa.Table, seen: Seen, start: int, erased: pa.Array) -> tuple[pa.Table, list[pa.Table], int]:
    """Rows whose id is there, new and not to be erased; the others as rejects; and how many double an id of a part before row `start`."""
    gone, missing = listed(table["id"], erased), pc.is_null(table["id"])
    blank = pa.table({field.name: table[field.name] if field.name == "id" else pa.nulls(table.num_rows, field.type) for field in table.schema})
    dropped = [files.rejects(blank.filter(gone), "ingest", "erased"), files.rejects(table.filter(missing), "ingest", "no id")]
    table = table.filter(pc.invert(pc.or_(gone, missing)))
    own = seen.size
    first = seen.first(keys(table, ["id"]))
    doubled = pa.array(first != own + np.arange(table.num_rows))
    dropped.append(files.rejects(table.filter(doubled), "ingest", "id given twice"))
    return table.filter(pc.invert(doubled)), [part for part in dropped if part.num_rows], int((first < start).sum())


def listed(ids: pa.ChunkedArray, erased: pa.Array) -> pa.ChunkedArray:
    return pc.is_in(pc.utf8_trim_whitespace(ids), erased)


def broken_rows(like: pa.Table, broken: list[tuple[str, str]], erased: pa.Array) -> pa.Table:
    """Lines that are no rows, with the line itself kept in `detail` unless an id that is to be erased stands in it."""
    blank = pa.table({field.name: pa.nulls(len(broken), field.type) for field in like.schema})
    ids = erased.to_pylist()

    def shown(line: str) -> str:
        return "(erased)" if any(name in line and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line) for name in ids) else line

    details = [f"{problem}: {shown(line)}" for line, problem in broken]
    return files.rejects(blank, "ingest", "broken row", pa.array(details, pa.string()))


if __name__ == "__main__":
    main(ingest)
