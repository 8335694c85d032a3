"""Split: train, val and test by the hash of each row's content, by its group or by its time, with near-duplicates never on two sides.

    python -m tasks.split support-desk

A row's side depends on the row alone, so it never changes when others come or go, and equal contents share a side. Where near-duplicates fall on
different sides, those on the side that is evaluated stay and the others are set aside in split/rejects.parquet.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import drops, duplicates, files, resolve, sides, strata, times
from tasks.recipe import Recipe, Split
from tasks.step import Failure, main


def split(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "labelled", folder / "split")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    section = recipe.split
    table = files.read_table(source / "rows.parquet")
    if section.folds and "fold" in table.column_names:
        raise Failure(
            "split.folds: the data has a column 'fold' already, which the folds would replace: rename it in the source, or remove split.folds."
        )
    rows, placed, bounds, broken = (
        by_time(table, section) if section.time else (table, [], None, [])
    )
    content = duplicates.contents(rows, recipe.modality)
    keys = groups_of(rows, content, section)
    placed = placed or [side_of(sides.share(key, str(section.seed)), section) for key in keys]
    lost, pairs, clusters = sides.set_aside(rows["id"].to_pylist(), content, placed)
    out = rows.take(pa.array(sorted(lost), pa.int64()))
    aside = files.rejects(
        out,
        "split",
        "near-duplicate on another side",
        pa.array([lost[row] for row in sorted(lost)], pa.string()),
    )
    if section.folds:
        rows = rows.append_column("fold", pa.array(folds(keys, pairs, section), pa.int32()))
    tables = {
        side: rows.filter(
            pa.array(
                [place == side and row not in lost for row, place in enumerate(placed)], pa.bool_()
            )
        )
        for side in sides.SIDES
    }
    if section.folds:
        tables |= {side: tables[side].drop_columns(["fold"]) for side in ("test", "val")}
    named = dict(
        zip(
            rows["id"].to_pylist(),
            strata.named(recipe.problem, rows["label"].to_pylist()),
            strict=True,
        )
    )
    labels = {
        side: Counter(name for row in part["id"].to_pylist() for name in named[row])
        for side, part in tables.items()
    }
    whole = sum(labels.values(), Counter())
    rules = files.write_rejects(target / "rejects.parquet", [*broken, aside], table)
    print(
        drops.line("split", table.num_rows, sum(part.num_rows for part in tables.values()), rules),
        flush=True,
    )
    drops.check("split", table.num_rows, rules, recipe.max_dropped, target / "rejects.parquet")
    if recipe.columns.label:
        complete(
            labels,
            whole,
            sorted({name for names in named.values() for name in names}),
            recipe.problem,
        )
    for side, part in tables.items():
        files.write_table(target / f"{side}.parquet", part)
    sizes = {side: part.num_rows for side, part in tables.items()}
    about = {
        "rows_in": table.num_rows,
        "rows": sizes,
        "rejects": sum(rules.values()),
        "rules": rules,
        "clusters": clusters,
        "time": bounds,
    }
    gaps = {side: stratification(counts, whole) for side, counts in labels.items()}
    members = Counter(tables["train"]["fold"].to_pylist()) if section.folds else None
    files.write_json(
        target / "report.json",
        {**about, "classes": labels, "stratification": gaps, "folds": members},
    )


def side_of(share: float, section: Split) -> str:
    return (
        "test" if share < section.test else "val" if share < section.test + section.val else "train"
    )


def groups_of(table: pa.Table, content: list[Any], section: Split) -> list[bytes]:
    """What a row's side is a hash of: its group, or its content, also where the row has no group."""
    groups = (
        files.column(table, section.group, "split.group").to_pylist()
        if section.group
        else [None] * table.num_rows
    )
    return [
        sides.key(value) if group is None else str(group).encode()
        for group, value in zip(groups, content, strict=True)
    ]


def by_time(
    table: pa.Table, section: Split
) -> tuple[pa.Table, list[str], dict[str, Any], list[pa.Table]]:
    """The rows whose time can be read, the side of each, the times at which val and test begin, and the other rows as rejects."""
    name = section.time or ""
    values = files.column(table, name, "split.time").to_pylist()
    bounds = [bound for bound in (section.val_from, section.test_from) if bound is not None]
    readers = [read for read in (times.number, times.instant) if None not in map(read, bounds)]
    read = max(readers, key=lambda one: sum(one(value) is not None for value in values))
    wanted = "number" if read is times.number else "date or time of ISO 8601"
    moments = [read(value) for value in values]
    order = sorted((moment, at) for at, moment in enumerate(moments) if moment is not None)
    if not order:
        kind = f", as split.test_from, {bounds[1]!r}, is" if bounds else ""
        seen = ", ".join(repr(str(value)[:80]) for value in values[:3])
        raise Failure(
            f"split.time: no value of the column {name!r} is a {wanted}{kind}; they are such as {seen}."
        )
    note = (
        None
        if bounds
        else "val_from and test_from are quantiles of these rows and move when rows come or go: write both into the recipe to keep every row."
    )
    bounds = bounds or [
        values[order[min(round(len(order) * part), len(order) - 1)][1]]
        for part in (1 - section.test - section.val, 1 - section.test)
    ]
    val_from, test_from = (read(bound) or 0.0 for bound in bounds)
    placed = [
        "test" if moment >= test_from else "val" if moment >= val_from else "train"
        for moment in moments
        if moment is not None
    ]
    val_told, test_told = (
        bound if isinstance(bound, (int, float)) else str(bound) for bound in bounds
    )
    report = {"column": name, "val_from": val_told, "test_from": test_told, "note": note}
    known = pa.array([moment is not None for moment in moments], pa.bool_())
    details = [
        f"{name} is empty" if value is None else f"{name} is no {wanted}: {str(value)[:80]!r}"
        for value in values
    ]
    lost = pc.invert(known)
    return (
        table.filter(known),
        placed,
        report,
        [
            files.rejects(
                table.filter(lost), "split", "no time", pa.array(details, pa.string()).filter(lost)
            )
        ],
    )


def folds(keys: list[bytes], alike: list[tuple[int, int]], section: Split) -> list[int]:
    """A fold for each row, by the smallest hash among those that are like it or of its group: a row without such keeps its fold whatever comes or goes."""
    shares = [sides.share(key, f"fold:{section.seed}") for key in keys]
    for members in duplicates.clusters([*sides.equal(keys), *alike]):
        least = min(shares[member] for member in members)
        for member in members:
            shares[member] = least
    return [int(share * (section.folds or 1)) for share in shares]


def stratification(side: Counter[str], whole: Counter[str]) -> dict[str, Any]:
    """How far a side's class shares are from those of all rows: half the sum of the differences (total variation distance), and the largest."""
    total = side.total()
    gaps = {
        name: (side[name] / total if total else 0.0) - count / whole.total()
        for name, count in whole.items()
    }
    name = min(gaps, key=lambda name: (-abs(gaps[name]), name))
    shares = {name: round(side[name] / total, 6) if total else 0.0 for name in sorted(whole)}
    largest = {"class": name, "difference": round(gaps[name], 6)}
    return {
        "shares": shares,
        "total_variation": round(sum(map(abs, gaps.values())) / 2, 6),
        "largest": largest,
    }


def complete(
    labels: dict[str, Counter[str]], total: Counter[str], classes: list[str], problem: str
) -> None:
    """Refuse a split in which a class could not be learnt or not be judged; of a target it is enough that both sides have rows."""
    if len(classes) < 2 and problem == "regression":
        raise Failure(
            "split: all rows have the same target: there is nothing to learn; add rows with others."
        )
    if len(classes) < 2:
        raise Failure(
            f"split: all rows have the label {', '.join(map(repr, classes)) or 'of none'}: a classifier needs at least two classes."
        )
    problems = []
    for side in ("train", "test"):
        lacking = [name for name in classes if not labels[side][name]]
        problems += [
            f"{name!r} has no row in {side}"
            for name in lacking
            if problem != "regression" or len(lacking) == len(classes)
        ]
    if problems:
        rare = ", ".join(
            f"{name} ({total[name]} in all)"
            for name in sorted(classes, key=lambda name: total[name])[:3]
        )
        raise Failure(
            f"split: {'; '.join(problems[:5])}. The rarest classes are {rare}: add rows, merge or remove the class, or raise split.test."
        )


if __name__ == "__main__":
    main(split)
