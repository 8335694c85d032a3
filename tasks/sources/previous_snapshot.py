"""What the last run left in raw/: an unchanged part of the source is not read again."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import sources
from tasks.contracts.snapshot import Snapshot, SnapshotPartition
from tasks.rows import table_columns
from tasks.rows.seen_keys import RowKeys, SeenKeys, hash_rows
from tasks.sources.base import SourcePartition
from tasks.sources.ingest_settings import IngestSettings
from tasks.storage import cache_keys, files, hashing
from tasks.storage.layout import RawFolder, StagePaths

RULES_THAT_HIDE_CONTENT = {"erased", "broken row", "file not read"}


class PreviousSnapshot:
    """The files of the last run, as far as this run would write the same."""

    def __init__(self, paths: StagePaths, settings: IngestSettings) -> None:
        """Read the last snapshot, if the code and settings of this run wrote it."""
        self.folder = paths.raw
        self.settings = settings
        self.records_by_part: dict[tuple[str, str], list[SnapshotPartition]] = defaultdict(list)
        self.has_same_erasures = False
        cache_key = settings.compute_cache_key()
        if cache_keys.is_written_with(paths.cache_keys, paths.raw.snapshot, cache_key):
            snapshot = Snapshot.read(paths.raw.snapshot)
            self.has_same_erasures = snapshot.erased == settings.erased.compute_hash()
            for record in snapshot.partitions:
                self.records_by_part[record.source_part, record.version].append(record)
        self.expected_parts = iter(list(self.records_by_part))
        # Whether all parts so far are those of the last run, in its order, with nothing to erase.
        self.is_prefix_of_previous = self.has_same_erasures

    def is_empty(self) -> bool:
        """Return whether nothing of the last run can be kept."""
        return not self.records_by_part

    def find_reusable(self, part: SourcePartition, seen_ids: SeenKeys) -> list[SnapshotPartition]:
        """Return the records of a part's files if reading it would write the same.

        Must be called once for each part of the source, in their order. The ids of a part that
        is reused are added to `seen_ids`.

        Returns:
            No records if the part has to be read.
        """
        self.advance(part)
        records = self.verified_records(part)
        tables = [self.read_ids(record) for record in records]
        keys = [hash_rows(table, ["id"]) for table in tables]
        if self.is_touched_by_erasure(records, tables):
            return []
        if self.is_touched_by_other_parts(records, keys, seen_ids):
            return []
        for row_keys in keys:
            seen_ids.add_pending(row_keys)
        return records

    def advance(self, part: SourcePartition) -> None:
        """Note whether the source still has the parts of the last run, in its order."""
        if next(self.expected_parts, None) != (part.name, part.version):
            self.is_prefix_of_previous = False

    def verified_records(self, part: SourcePartition) -> list[SnapshotPartition]:
        """Return the records of a part of this version; none if a file is not as written."""
        records = self.records_by_part.get((part.name, part.version), [])
        if all(is_unchanged(self.folder, record) for record in records):
            return records
        return []

    def is_touched_by_erasure(
        self, records: list[SnapshotPartition], tables: list[pa.Table]
    ) -> bool:
        """Return whether another list of ids to erase may change what a part's files hold."""
        if self.has_same_erasures:
            return False
        if any(RULES_THAT_HIDE_CONTENT & record.by_rule.keys() for record in records):
            return True
        erased = self.settings.erased
        masks = [erased.find_rows(table, self.settings.id_columns) for table in tables]
        return any(pc.any(mask).as_py() for mask in masks)

    def is_touched_by_other_parts(
        self, records: list[SnapshotPartition], keys: list[RowKeys], seen_ids: SeenKeys
    ) -> bool:
        """Return whether changes in earlier parts may change which rows of a part are kept."""
        if self.is_prefix_of_previous:
            return False
        if any(record.duplicates_across_parts for record in records):
            return True
        return any(seen_ids.contains(row_keys).any() for row_keys in keys)

    def read_ids(self, record: SnapshotPartition) -> pa.Table:
        """Read the columns of a file that hold ids."""
        path = self.folder.partition(record.file)
        names = pq.read_schema(path).names
        return files.read_table(path, [name for name in self.settings.id_columns if name in names])

    def read_ordinary_ids(self, part: SourcePartition) -> list[pa.ChunkedArray]:
        """Return the source's own ids in a part's files; none if they are not all there."""
        records = self.verified_records(part)
        columns = []
        for record in records:
            if "erased" in record.by_rule:
                return []
            table = self.read_ids(record)
            if table_columns.ORDINARY_ID_COLUMN in table.column_names:
                columns.append(table[table_columns.ORDINARY_ID_COLUMN])
        return columns


def is_unchanged(folder: RawFolder, record: SnapshotPartition) -> bool:
    """Return whether the files of a record are as they were written."""
    if not is_as_written(folder.partition(record.file), record.sha256):
        return False
    if record.rejects_sha256 is None:
        return True
    return is_as_written(folder.rejected_partition(record.file), record.rejects_sha256)


def is_as_written(path: Path, digest: str) -> bool:
    """Return whether a file is there and has this hash."""
    return path.is_file() and hashing.sha256(path) == digest


def is_id_still_ordinary(paths: StagePaths, settings: IngestSettings) -> bool:
    """Return whether the column `id` did not name the rows in the last snapshot, nor does now.

    Unchanged parts are not read for this. If the answer is no, or not known, the column may yet
    turn out not to name the rows.
    """
    previous = PreviousSnapshot(paths, settings.with_ordinary_id())
    if previous.is_empty():
        return False
    seen_ids = SeenKeys()
    for part in sources.iter_partitions(settings.recipe.ingest):
        for ids in previous.read_ordinary_ids(part) or read_source_ids(part):
            kept = ids.filter(pc.invert(settings.erased.find(ids)))
            first_number = seen_ids.size
            first_rows = seen_ids.first_rows(hash_rows(pa.table({"id": kept}), ["id"]))
            is_repeated = first_rows < first_number + np.arange(len(kept))
            if kept.null_count or is_repeated.any():
                return True
    return False


def read_source_ids(part: SourcePartition) -> Iterable[pa.ChunkedArray]:
    """Read a part of the source, and yield its column `id` if it has one."""
    for batch in part.read():
        if "id" in batch.table.column_names:
            yield table_columns.convert_to_text(batch.table["id"])
