"""Label: give every row its label and say where it came from; rows without one, and those whose label looks wrong, go to the review queue.

    python -m tasks.label support-desk

Writes labelled/rows.parquet (with label_source and label_confidence), labelled/rejects.parquet, labelled/report.json, the page labelled/index.html and
the queue for people: labelled/review.csv, and labelled/review.labelstudio.json to import into Label Studio. The table with its column `label` filled in,
or Label Studio's export, is a file that label.answers names; the next run takes what people said before anything else.
"""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.labelling import annotations, label_errors, resolve_labels, review_queue
from tasks.labelling import functions as labelling_functions
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.rows import dropped_rows, label_values, rejected_rows
from tasks.storage import files, layout


def label(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(resolved.read_resolved_recipe(name), folder / "clean", folder / "labelled")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    table, section = files.read_rows(source), recipe.label
    said = annotations.load_annotations(section, recipe.problem)
    people = pa.array([said.get(name) for name in table["id"].to_pylist()], pa.string())
    given = pc.utf8_trim_whitespace(table["label"].combine_chunks())
    given = pc.if_else(pc.equal(given, ""), None, given)
    written = [
        label_values.format_label(recipe.problem, value)
        for value in label_values.parse_labels(
            recipe.problem, given.to_pylist(), table["id"].to_pylist()
        )
    ]
    stated = [
        ("people", people),
        ("given", given if recipe.problem == "regression" else pa.array(written, pa.string())),
    ]
    cast = labelling_functions.cast_votes(recipe, table)
    trusted = [
        (function.kind, vote)
        for function, vote in zip(section.functions, cast, strict=True)
        if function.trusted
    ]
    known = resolve_labels.first_non_null([*stated, *trusted])[0]
    there = label_values.assign_strata(recipe.problem, known.drop_null().to_pylist())
    resolve_labels.check_allowed_classes(table.filter(pc.is_valid(known)), there, section)
    classes = (
        section.classes
        or sorted(
            {
                name
                for names in (*there, *(vote.drop_null().to_pylist() for vote in cast))
                for name in names
            }
        )
        or [""]
    )
    decided, posterior, functions = resolve_labels.label_by_votes(
        section, classes, cast, resolve_labels.first_non_null(stated)[0], known
    )
    labels, sources = resolve_labels.first_non_null([*stated, *trusted, ("functions", decided)])
    # What people, the source or a trusted function says was somebody's decision; what functions agree on is worth what the label model says.
    confidence = pc.if_else(pc.is_valid(known), 1.0, posterior.max(axis=1, initial=0))
    missing = pc.is_null(labels)
    why, guesses = resolve_labels.explain_unlabelled(
        section, classes, posterior[missing.to_numpy(zero_copy_only=False)]
    )
    table = table.set_column(table.column_names.index("label"), "label", labels)
    table = table.append_column("label_source", sources).append_column(
        "label_confidence", confidence
    )
    kept, queue = table.filter(pc.invert(missing)), table.filter(missing)
    if kept.num_rows == 0:
        raise StageError(
            f"label: none of {table.num_rows} rows has a label: name the column in columns.label, or give label.functions."
        )
    rejected = [
        rejected_rows.build_rejects(
            queue, "label", "no label", pa.chunked_array([why], pa.string())
        )
    ]
    wrong = {} if section.errors == "keep" else label_errors.find_label_issues(recipe, kept)
    doubted, looks = (
        kept.take(pa.array(list(wrong), pa.int64())),
        [right for right, _ in wrong.values()],
    )
    doubts = [
        f"labelled {given}, looks like {guess}"
        for given, guess in zip(doubted["label"].to_pylist(), looks, strict=True)
    ]
    queue, why, guesses = pa.concat_tables([queue, doubted]), why + doubts, guesses + looks
    if section.errors == "relabel":
        kept = resolve_labels.relabel_rows(kept, wrong)
    if section.errors == "drop":
        kept = kept.filter(pa.array([index not in wrong for index in range(kept.num_rows)]))
        rejected.append(
            rejected_rows.build_rejects(
                doubted, "label", "label looks wrong", pa.chunked_array([doubts], pa.string())
            )
        )
    files.write_table(target / "rows.parquet", kept)
    rules = rejected_rows.write_rejects(target / "rejects.parquet", rejected, table)
    review_queue.write_review_queue(target, recipe, queue, why, guesses, classes)
    counts = {
        "rows_in": table.num_rows,
        "rows": kept.num_rows,
        "rejects": sum(rules.values()),
        "review": queue.num_rows,
    }
    shares = Counter(
        name
        for names in label_values.assign_strata(recipe.problem, kept["label"].to_pylist())
        for name in names
    )
    whose = Counter(kept["label_source"].to_pylist())
    used = {"given": len(said), "used": len(people) - people.null_count}
    about = {
        "answers": used,
        "errors": {"found": len(wrong), "done": section.errors},
        "model": section.model,
        "functions": functions,
    }
    report = {
        **counts,
        "classes": dict(sorted(shares.items())),
        "sources": dict(sorted(whose.items())),
        **about,
    }
    files.write_json(target / "report.json", report)
    files.write_text(
        target / "index.html",
        html_pages.render_page("labels", f"{recipe.name}: labels", report=report),
    )
    print(dropped_rows.describe_counts("label", table.num_rows, kept.num_rows, rules), flush=True)
    dropped_rows.check_max_dropped(
        "label", table.num_rows, rules, recipe.max_dropped, target / "rejects.parquet"
    )


if __name__ == "__main__":
    main(label)
