"""Partitions: write the rows of a source to Parquet files, part by part, and record them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import pyarrow as pa

from tasks import sources
from tasks.contracts.snapshot import IdColumn, Snapshot, SnapshotPartition
from tasks.core.errors import StageError
from tasks.rows import predefined_split, rejected_rows, split_names
from tasks.rows.seen_keys import SeenKeys
from tasks.sources import column_roles, row_ids
from tasks.sources.base import BrokenRow, RowBatch, SourcePartition
from tasks.sources.ingest_settings import IngestSettings
from tasks.sources.previous_snapshot import PreviousSnapshot
from tasks.sources.row_ids import SelectedRows
from tasks.storage import cache_keys, files, hashing
from tasks.storage.layout import RawFolder, StagePaths

FILE_KINDS = ("files", "s3")  # whose parts are files that people have named
MAX_ROWS_PER_FILE = 100_000  # later stages hold one file in memory at a time


def write_snapshot(paths: StagePaths, settings: IngestSettings) -> Snapshot:
    """Write the rows of the source and the record of them. Unchanged parts are not read.

    Raises:
        IdNotUnique: A column `id` was found, not named, and does not name the rows.
        StageError: No rows are left, or the source does not fit the recipe.
    """
    seen_ids = SeenKeys()
    previous = PreviousSnapshot(paths, settings)
    writer = PartitionWriter(paths.raw, settings, seen_ids)
    records: list[SnapshotPartition] = []
    for part in sources.iter_partitions(settings.recipe.ingest):
        records += previous.find_reusable(part, seen_ids) or writer.write_part(part)
    predefined_split.check_file_patterns(
        list(dict.fromkeys(record.source for record in records)),
        settings.recipe.split.file_patterns,
    )
    snapshot = build_snapshot(settings, records)
    if not snapshot.rows:
        raise StageError(describe_no_rows(snapshot))
    complete_folder(paths.raw, records)
    snapshot.write(paths.raw.snapshot)
    key = settings.compute_cache_key()
    cache_keys.record_cache_key(paths.cache_keys, paths.raw.snapshot, key)
    return snapshot


def build_snapshot(settings: IngestSettings, records: list[SnapshotPartition]) -> Snapshot:
    """Sum up the records of all files."""
    by_rule: Counter[str] = Counter()
    for record in records:
        by_rule.update(record.by_rule)
    return Snapshot(
        source=settings.recipe.ingest.model_dump(),
        id_column=settings.id_column,
        erased=settings.erased.compute_hash(),
        rows_in=sum(record.rows_in for record in records),
        rows=sum(record.rows for record in records),
        rejects=sum(record.rejects for record in records),
        by_rule=dict(sorted(by_rule.items())),
        warnings=[*collect_warnings(records), *warn_of_split_files(records, settings)],
        partitions=records,
    )


def describe_batch(batch: RowBatch) -> list[str]:
    """Return the warnings of a batch, with the files of it that are not read."""
    if not batch.unread:
        return list(batch.warnings)
    files_are = "1 file is" if len(batch.unread) == 1 else f"{len(batch.unread)} files are"
    example = batch.unread[0]
    note = f"{batch.name}: {files_are} not read, such as {example.content}: {example.problem}"
    return [*batch.warnings, note]


def collect_warnings(records: list[SnapshotPartition]) -> list[str]:
    """Collect the warnings of all files, each once."""
    warnings: dict[str, None] = {}
    for record in records:
        warnings |= dict.fromkeys(record.warnings)
    return [f"ingest: {warning}" for warning in warnings]


def warn_of_split_files(records: list[SnapshotPartition], settings: IngestSettings) -> list[str]:
    """Say that files are named as the parts of a split, and that they are divided anew."""
    recipe = settings.recipe
    config = recipe.split
    has_files = recipe.ingest.kind in FILE_KINDS
    if not has_files or config.column or config.named_parts or config.time:
        return []
    files_by_part: dict[str, str] = {}
    for record in records:
        name = PurePath(record.source).name
        part = split_names.find_split_word(name)
        if part:
            files_by_part.setdefault(part, name)
    if not {"train", "test"} <= files_by_part.keys():
        return []
    parts = ", ".join(f"{part}: [{name}]" for part, name in files_by_part.items())
    return [
        "ingest: the files are named as the parts of a split, and all rows are divided anew: to "
        f"keep their parts write split: {{{parts}}}"
    ]


def describe_no_rows(snapshot: Snapshot) -> str:
    """Describe a source from which no row is left."""
    names = [record.source for record in snapshot.partitions]
    subject = ", ".join(names) or "the source"
    return (
        f"{subject} holds no rows{describe_drops(snapshot.by_rule)}: a header alone is not data; "
        "check the source."
    )


def describe_drops(by_rule: dict[str, int]) -> str:
    """Describe how many rows each rule drops, if one does."""
    if not by_rule:
        return ""
    drops = [f"{rule} drops {count}" for rule, count in by_rule.items()]
    return f" that stay ({', '.join(drops)})"


def complete_folder(folder: RawFolder, records: list[SnapshotPartition]) -> None:
    """Remove what is not of this snapshot, and make the rejects a readable data set."""
    names = [record.file for record in records]
    with_rejects = [record.file for record in records if record.rejects]
    schema = files.read_table(folder.partition(names[0]))
    rejected_rows.complete_rejects_folder(folder.rejects, with_rejects, schema)
    files.remove_other_files(folder.path, names)


class PartitionWriter:
    """Writes the rows of one part of the source after the other."""

    def __init__(self, folder: RawFolder, settings: IngestSettings, seen_ids: SeenKeys) -> None:
        """Write to `folder`. The ids of all rows, read or reused, are in `seen_ids`."""
        self.folder = folder
        self.settings = settings
        self.seen_ids = seen_ids

    def write_part(self, part: SourcePartition) -> list[SnapshotPartition]:
        """Read a part and write its rows, at most `MAX_ROWS_PER_FILE` to a file."""
        rows_before = self.seen_ids.size
        records: list[SnapshotPartition] = []
        for batch in part.read():
            records += self.write_batch(part, batch, rows_before)
        return records

    def write_batch(
        self, part: SourcePartition, batch: RowBatch, rows_before: int
    ) -> list[SnapshotPartition]:
        """Write the rows of one batch; its broken rows are rejects of its first file."""
        name_hash = hashing.hash_json(batch.name)[:12]
        version_hash = hashing.hash_json(part.version)[:12]
        table = self.rename_columns(batch)
        records = []
        for number, offset in enumerate(range(0, max(table.num_rows, 1), MAX_ROWS_PER_FILE)):
            selected = row_ids.select_rows(
                table.slice(offset, MAX_ROWS_PER_FILE),
                f"{name_hash}.{number}",
                self.seen_ids,
                rows_before,
                self.settings,
            )
            is_first = number == 0
            if is_first:
                selected = self.add_broken_rows(selected, batch.broken, "broken row")
                selected = self.add_broken_rows(selected, batch.unread, "file not read")
            file = f"{name_hash}-{version_hash}-{number:04d}.parquet"
            record = self.write_file(part, batch.name, file, selected)
            warnings = describe_batch(batch) if is_first else []
            records.append(record.model_copy(update={"warnings": warnings}))
        return records

    def rename_columns(self, batch: RowBatch) -> pa.Table:
        """Give the columns of a batch the pipeline's names, and its rows their part."""
        table = batch.table
        recipe = self.settings.recipe
        if self.settings.id_column == IdColumn.ORDINARY:
            table = column_roles.rename_ordinary_id(table, batch.name)
        table = column_roles.rename_columns(table, recipe, batch.name)
        return column_roles.append_part(table, recipe, batch)

    def add_broken_rows(
        self, selected: SelectedRows, broken: Sequence[BrokenRow], rule: str
    ) -> SelectedRows:
        """Add lines or files that are no rows to the rejects."""
        if not broken:
            return selected
        schema = selected.rows.schema
        rejects = row_ids.reject_broken_rows(schema, broken, rule, self.settings.erased)
        return replace(selected, rejects=[*selected.rejects, rejects])

    def write_file(
        self, part: SourcePartition, source: str, file: str, selected: SelectedRows
    ) -> SnapshotPartition:
        """Write one file of rows, and its rejects if there are any."""
        rows = selected.rows
        empty_rejects = rejected_rows.build_rejects(rows.slice(0, 0), "ingest", "")
        rejects = pa.concat_tables([empty_rejects, *selected.rejects], promote_options="permissive")
        path = self.folder.partition(file)
        rejects_path = self.folder.rejected_partition(file)
        files.write_table(path, rows)
        if rejects.num_rows:
            files.write_table(rejects_path, rejects)
        return SnapshotPartition(
            source=source,
            source_part=part.name,
            version=part.version,
            file=file,
            rows_in=rows.num_rows + rejects.num_rows,
            rows=rows.num_rows,
            rejects=rejects.num_rows,
            by_rule=dict(sorted(Counter(rejects["rule"].to_pylist()).items())),
            duplicates_across_parts=selected.duplicates_across_parts,
            bytes=path.stat().st_size,
            sha256=hashing.sha256(path),
            rejects_sha256=hashing.sha256(rejects_path) if rejects.num_rows else None,
        )
