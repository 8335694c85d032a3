"""Small snapshots, and a suite that runs over them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.checks import suite
from tasks.checks.suite import CheckedData
from tasks.contracts.check_result import SuiteResult
from tasks.contracts.snapshot import IdColumn, Snapshot, SnapshotPartition
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage.layout import CheckFolder

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""
DRIFT_FAILS = "{drift: {severity: fail}}"


def read_check_recipe(folder: Path, section: str) -> Recipe:
    """A recipe with this section `check`."""
    (folder / "recipe.yaml").write_text(f"{RECIPE}check: {section}\n")
    return read_recipe(folder / "recipe.yaml")


def describe_partition(file: str, rows: int) -> Snapshot:
    """The record of a source whose rows are all in one file."""
    counts: dict[str, Any] = {"rows_in": rows, "rows": rows, "rejects": 0, "by_rule": {}}
    partition = SnapshotPartition(
        source="rows.csv",
        source_part="rows.csv",
        version="v1",
        file=file,
        duplicates_across_parts=0,
        bytes=1,
        sha256="0",
        rejects_sha256=None,
        **counts,
    )
    return Snapshot(
        source={}, id_column=IdColumn.FOUND, erased="0", partitions=[partition], **counts
    )


def make_snapshot(
    count: int = 1000, seed: int = 0, email: float = 0.7, price: float = 10.0, **columns: list[Any]
) -> pa.Table:
    """Rows whose channel is email with this probability, and whose prices have this mean."""
    rng = np.random.default_rng(seed)
    table = {
        "id": [f"r{number}" for number in range(count)],
        "text": ["word " * size for size in rng.integers(1, 30, count)],
        "label": rng.choice(["yes", "no"], count).tolist(),
        "channel": rng.choice(["email", "chat"], count, p=[email, 1 - email]).tolist(),
        "price": [f"{value:.2f}" for value in rng.normal(price, 2, count)],
    }
    return pa.table(table | columns)


def check_folder(folder: Path) -> CheckFolder:
    return CheckFolder(folder / "checks")


def check(folder: Path, section: str, table: pa.Table, name: str = "v1") -> SuiteResult:
    """Run the suite `raw`; the snapshot's name stands for its fingerprint."""
    recipe = read_check_recipe(folder, section)
    suite.run_suite(recipe, "raw", CheckedData(table, name), check_folder(folder))
    return read_result(folder)


def read_result(folder: Path) -> SuiteResult:
    return SuiteResult.read(check_folder(folder).result)
