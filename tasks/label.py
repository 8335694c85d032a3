"""Label: give every row its label and say where it came from; rows without one go to the review queue.

    python -m tasks.label support-desk

Writes labelled/rows.parquet (with label_source and label_confidence), labelled/rejects.parquet, labelled/review.csv and labelled/report.json.
"""

import csv
import io
from collections import Counter
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import col, lit

from tasks import files, resolve
from tasks.recipe import Label, Recipe, nearest
from tasks.step import Failure, main


def label(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "clean", folder / "labelled")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    table = files.read_table(source / "rows.parquet")
    given = pc.if_else(pc.equal(pc.utf8_trim_whitespace(table["label"]), ""), None, pc.utf8_trim_whitespace(table["label"]))
    sources = pa.chunked_array([pc.if_else(pc.is_valid(given), "given", pa.scalar(None, pa.string())).combine_chunks()])
    labels = given
    reasons = pa.array(["no label"] * table.num_rows, pa.string())
    if recipe.label.lookup:
        found = looked_up(table, recipe.label)
        sources, labels = pc.coalesce(sources, pc.if_else(pc.is_valid(found), "lookup", pa.scalar(None, pa.string()))), pc.coalesce(labels, found)
    if recipe.label.keywords:
        found, disagree = voted(table, recipe.label)
        sources, labels = pc.coalesce(sources, pc.if_else(pc.is_valid(found), "keywords", pa.scalar(None, pa.string()))), pc.coalesce(labels, found)
        reasons = pc.if_else(disagree, "keyword rules disagree", "no label and no keyword")
    classes = allowed(table, labels, recipe.label)
    # A given label was somebody's decision; a rule's is worth as much as the rule.
    confidence = pc.if_else(pc.equal(sources, "keywords"), 0.9, 1.0)
    table = table.set_column(table.column_names.index("label"), "label", labels.cast(pa.string()))
    table = table.append_column("label_source", sources.cast(pa.string())).append_column("label_confidence", confidence)
    missing = pc.is_null(table["label"])
    out = table.filter(missing)
    kept = table.filter(pc.invert(missing))
    if kept.num_rows == 0:
        raise Failure(f"label: none of {table.num_rows} rows has a label: name the column in columns.label, or give label.lookup or label.keywords.")
    files.write_table(target / "rows.parquet", kept)
    rules = files.write_rejects(target / "rejects.parquet", [files.rejects(out, "label", "no label", reasons.filter(missing))], table)
    content = "text" if "text" in out.column_names else "id"
    write_queue(target / "review.csv", out.select(sorted({"id", content})), classes)
    files.write_json(
        target / "report.json",
        {
            "rows_in": table.num_rows,
            "rows": kept.num_rows,
            "rejects": sum(rules.values()),
            "classes": dict(sorted(Counter(kept["label"].to_pylist()).items())),
            "sources": dict(sorted(Counter(kept["label_source"].to_pylist()).items())),
            "review": out.num_rows,
        },
    )


def looked_up(table: pa.Table, section: Label) -> pa.Array:
    """The label that the recipe's table gives for each row's key, or null."""
    assert section.lookup
    path, key = Path(section.lookup.file), section.lookup.key
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for name in (key, section.lookup.label):
            if name not in (reader.fieldnames or []):
                raise Failure(f"{path}: there is no column {name!r}; it has {', '.join(reader.fieldnames or ['none'])}: correct label.lookup.")
        answers = {row[key]: row[section.lookup.label] for row in reader}
    if key not in table.column_names:
        raise Failure(f"label.lookup.key: the data has no column {key!r}{nearest(key, table.column_names)}; it has {', '.join(table.column_names)}.")
    return pa.array([answers.get(value) for value in table[key].to_pylist()], pa.string())


def voted(table: pa.Table, section: Label) -> tuple[pa.Array, pa.Array]:
    """For each row the label on which all keyword rules that match agree, or null; and whether matching rules disagree."""
    plan = daft.from_arrow(table)
    for number, rule in enumerate(section.keywords):
        if rule.column not in table.column_names:
            raise Failure(f"label.keywords[{number}].column: the data has no column {rule.column!r}{nearest(rule.column, table.column_names)}.")
        matches = col(rule.column).regexp(f"(?i){rule.pattern}").fill_null(False)
        plan = plan.with_column(f"__{number}", matches.cast(daft.DataType.int8()) * lit(1))
    votes = plan.select(*(f"__{number}" for number in range(len(section.keywords)))).to_arrow()
    names = [rule.label for rule in section.keywords]
    cast = [{names[number] for number, hit in enumerate(row) if hit} for row in zip(*(column.to_pylist() for column in votes.columns), strict=True)]
    agreed = pa.array([next(iter(found)) if len(found) == 1 else None for found in cast], pa.string())
    return agreed, pa.array([len(found) > 1 for found in cast], pa.bool_())


def allowed(table: pa.Table, labels: pa.ChunkedArray, section: Label) -> list[str]:
    """The classes: those that the recipe lists, or those found. Raises Failure for a label outside the list."""
    found = sorted(set(labels.drop_null().to_pylist()))
    if section.classes is None:
        return found
    for label_, name in zip(labels.to_pylist(), table["id"].to_pylist(), strict=True):
        if label_ is not None and label_ not in section.classes:
            count = pc.sum(pc.equal(labels, label_)).as_py()
            raise Failure(
                f"label {label_!r} of {count} row(s), first {name}, is not among label.classes{nearest(label_, section.classes)}: "
                "correct the source, or add it to the list in the recipe."
            )
    return section.classes


def write_queue(path: Path, rows: pa.Table, classes: list[str]) -> None:
    """The rows that a person has to label, with an empty column for the answer."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*rows.column_names, f"label (one of: {' | '.join(classes)})"])
    writer.writerows([*row.values(), ""] for row in rows.sort_by("id").to_pylist())
    files.write_text(path, buffer.getvalue())


if __name__ == "__main__":
    main(label)
