"""Label: give every row its label and say where it came from; rows without one, and those whose label looks wrong, go to the review queue.

    python -m tasks.label support-desk

Writes labelled/rows.parquet (with label_source and label_confidence), labelled/rejects.parquet, labelled/review.csv and labelled/report.json.
The queue with its column `label` filled in is the file that label.answers names; the next run takes what people said before anything else.
"""

import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks import files, labelling, resolve
from tasks.mistakes import nearest
from tasks.recipe import Label, Recipe
from tasks.step import Failure, main


def label(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "clean", folder / "labelled")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    table, section = files.read_rows(source), recipe.label
    stated = pc.utf8_trim_whitespace(table["label"].combine_chunks())
    voted, disagree = labelling.by_keywords(table, section)
    said = {
        "people": labelling.by_people(table, section),
        "given": pc.if_else(pc.equal(stated, ""), None, stated),
        "lookup": labelling.by_table(table, section),
        "keywords": voted,
    }
    labels, sources = first(said)
    check_classes(table, labels, section)
    # What people or the source say was somebody's decision; a rule's label is worth as much as the rule.
    confidence = pc.if_else(pc.equal(sources, "keywords"), 0.9, 1.0)
    table = table.set_column(table.column_names.index("label"), "label", labels)
    table = table.append_column("label_source", sources).append_column("label_confidence", confidence)
    missing = pc.is_null(labels)
    kept, unlabelled = table.filter(pc.invert(missing)), table.filter(missing)
    if kept.num_rows == 0:
        raise Failure(f"label: none of {table.num_rows} rows has a label: name the column in columns.label, or give label.lookup or label.keywords.")
    why = pc.if_else(disagree, "keyword rules disagree", "no label, and no rule that knows one") if section.keywords else pa.repeat("no label", table.num_rows)
    queue = [reviewed(unlabelled, why.filter(missing), [""] * unlabelled.num_rows)]
    rejected = [files.rejects(unlabelled, "label", "no label", why.filter(missing))]
    wrong = {} if section.errors == "keep" else labelling.suspects(recipe, kept)
    if wrong:
        at = pa.array([index in wrong for index in range(kept.num_rows)])
        doubted, guesses = kept.filter(at), list(wrong.values())
        reasons = pa.array([f"labelled {label_}, looks like {guess}" for label_, guess in zip(doubted["label"].to_pylist(), guesses, strict=True)], pa.string())
        if section.errors == "relabel":
            values = [wrong.get(index, value) for index, value in enumerate(kept["label"].to_pylist())]
            kept = kept.set_column(kept.column_names.index("label"), "label", pa.array(values, pa.string()))
            origin = pc.if_else(at, "relabelled", kept["label_source"])
            kept = kept.set_column(kept.column_names.index("label_source"), "label_source", origin)
        elif section.errors == "drop":
            kept = kept.filter(pc.invert(at))
            rejected.append(files.rejects(doubted, "label", "label looks wrong", reasons))
        if section.errors != "relabel":
            queue.append(reviewed(doubted, reasons, guesses))
    files.write_table(target / "rows.parquet", kept)
    rules = files.write_rejects(target / "rejects.parquet", rejected, table)
    write_queue(target / "review.csv", pa.concat_tables(queue))
    files.write_json(
        target / "report.json",
        {
            "rows_in": table.num_rows,
            "rows": kept.num_rows,
            "rejects": sum(rules.values()),
            "classes": dict(sorted(Counter(kept["label"].to_pylist()).items())),
            "sources": dict(sorted(Counter(kept["label_source"].to_pylist()).items())),
            "errors": {"found": len(wrong), "done": section.errors},
            "review": sum(part.num_rows for part in queue),
        },
    )


def first(said: dict[str, pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The first answer for each row, and whose it is."""
    whose = [pc.if_else(pc.is_valid(answer), name, pa.scalar(None, pa.string())) for name, answer in said.items()]
    return pc.coalesce(*said.values()).cast(pa.string()), pc.coalesce(*whose).cast(pa.string())


def reviewed(rows: pa.Table, reasons: pa.Array, guesses: list[str]) -> pa.Table:
    """What a person sees of rows in the queue."""
    content = "text" if "text" in rows.column_names else "id"
    shown = rows.select(sorted({"id", content})).append_column("why", pa.chunked_array([pa.array(reasons.to_pylist(), pa.string())]))
    return shown.append_column("guess", pa.array(guesses, pa.string()))


def check_classes(table: pa.Table, labels: pa.Array, section: Label) -> None:
    """Raises Failure for a label that is not among those that the recipe lists."""
    for label_, name in zip(labels.to_pylist(), table["id"].to_pylist(), strict=True):
        if label_ is not None and section.classes is not None and label_ not in section.classes:
            count = pc.sum(pc.equal(labels, label_)).as_py()
            raise Failure(
                f"label {label_!r} of {count} row(s), first {name}, is not among label.classes{nearest(label_, section.classes)}: "
                "correct the source, or add it to the list in the recipe."
            )


def write_queue(path: Path, rows: pa.Table) -> None:
    """The rows that a person has to look at. The last column is for the answer; a file with `id` and `label` is what label.answers reads."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*rows.column_names, "label"])
    writer.writerows([*row.values(), ""] for row in rows.sort_by("id").to_pylist())
    files.write_text(path, buffer.getvalue())


if __name__ == "__main__":
    main(label)
