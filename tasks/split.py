"""Split: train, val and test by the hash of each row's content (or group), with near-duplicates never on two sides.

    python -m tasks.split support-desk

A row's side depends on the row alone, so it never changes when others come or go, and equal texts share a side. Where near-duplicates fall on
different sides, those on the side that is evaluated stay and the others are set aside in split/rejects.parquet.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import duplicates, files, resolve
from tasks.mistakes import nearest
from tasks.recipe import Recipe, Split
from tasks.step import Failure, main

SIDES = ("test", "val", "train")  # in the order in which a side wins a cluster
THRESHOLD = 0.8


def split(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "labelled", folder / "split")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    table = files.read_table(source / "rows.parquet")
    content = duplicates.contents(table)
    sides = [side_of(key, recipe.split) for key in keys(table, content, recipe.split)]
    lost: dict[int, str] = {}
    ids = table["id"].to_pylist()
    clusters = duplicates.clusters(len(content), paired(content))
    for members in clusters:
        winner = min((sides[member] for member in members), key=SIDES.index)
        head = next(member for member in members if sides[member] == winner)
        lost |= {member: f"like {ids[head]} in {winner}" for member in members if sides[member] != winner}
    tables = {side: table.filter(pa.array([sides[row] == side and row not in lost for row in range(table.num_rows)])) for side in SIDES}
    complete(tables, sorted(set(table["label"].to_pylist())))
    for side, rows in tables.items():
        files.write_table(target / f"{side}.parquet", rows)
    out = table.take(pa.array(sorted(lost), pa.int64()))
    details = pa.array([lost[row] for row in sorted(lost)], pa.string())
    rules = files.write_rejects(target / "rejects.parquet", [files.rejects(out, "split", "near-duplicate on another side", details)], table)
    shares = {side: dict(sorted(Counter(rows["label"].to_pylist()).items())) for side, rows in tables.items()}
    files.write_json(
        target / "report.json",
        {
            "rows_in": table.num_rows,
            "rows": {side: rows.num_rows for side, rows in tables.items()},
            "rejects": sum(rules.values()),
            "clusters": len(clusters),
            "classes": shares,
        },
    )


def keys(table: pa.Table, content: list[Any], section: Split) -> list[bytes]:
    """What a row's side is a hash of: its group, or its content with letter case and white space ignored."""
    if section.group is None:
        return [value if isinstance(value, bytes) else " ".join(str(value).lower().split()).encode() for value in content]
    if section.group not in table.column_names:
        raise Failure(
            f"split.group: the data has no column {section.group!r}{nearest(section.group, table.column_names)}; it has {', '.join(table.column_names)}."
        )
    return [str(value).encode() for value in table[section.group].to_pylist()]


def side_of(key: bytes, section: Split) -> str:
    share = int.from_bytes(hashlib.sha256(b"%d:" % section.seed + key).digest()[:8]) / 2**64
    return "test" if share < section.test else "val" if share < section.test + section.val else "train"


def paired(content: list[Any]) -> list[tuple[int, int]]:
    """Near-duplicate texts. Images and tables are compared by their bytes alone, which the hash has done already."""
    texts = [value for value in content if isinstance(value, str)]
    return [(i, j) for i, j, _ in duplicates.near_pairs(texts, THRESHOLD)] if len(texts) == len(content) else []


def complete(tables: dict[str, pa.Table], classes: list[str]) -> None:
    """Refuse a split in which a class could not be learnt or not be judged."""
    if len(classes) < 2:
        raise Failure(f"split: all rows have the label {classes[0]!r}: a classifier needs at least two classes.")
    problems = []
    for side in ("train", "test"):
        counts = Counter(tables[side]["label"].to_pylist())
        problems += [f"{name!r} has no row in {side}" for name in classes if not counts[name]]
    if problems:
        total = Counter(label for rows in tables.values() for label in rows["label"].to_pylist())
        rare = ", ".join(f"{name} ({total[name]} in all)" for name in sorted(classes, key=lambda name: total[name])[:3])
        raise Failure(f"split: {'; '.join(problems[:5])}. The rarest classes are {rare}: add rows, merge or remove the class, or raise split.test.")


if __name__ == "__main__":
    main(split)
