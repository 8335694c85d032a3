"""Label: give every row its label and say where it came from; rows without one, and those whose label looks wrong, go to the review queue.

    python -m tasks.label support-desk

Writes labelled/rows.parquet (with label_source and label_confidence), labelled/rejects.parquet, labelled/report.json, the page labelled/index.html and
the queue for people: labelled/review.csv, and labelled/review.labelstudio.json to import into Label Studio. The table with its column `label` filled in,
or Label Studio's export, is a file that label.answers names; the next run takes what people said before anything else.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks import (
    answers,
    drops,
    files,
    label_model,
    page,
    resolve,
    review,
    strata,
    suspicion,
    votes,
)
from tasks.mistakes import nearest
from tasks.recipe import Label, Recipe
from tasks.step import Failure, main


def label(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "clean", folder / "labelled")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    table, section = files.read_rows(source), recipe.label
    said = answers.of_people(section, recipe.problem)
    people = pa.array([said.get(name) for name in table["id"].to_pylist()], pa.string())
    given = pc.utf8_trim_whitespace(table["label"].combine_chunks())
    given = pc.if_else(pc.equal(given, ""), None, given)
    written = [
        strata.text(recipe.problem, value)
        for value in strata.values(recipe.problem, given.to_pylist(), table["id"].to_pylist())
    ]
    stated = [
        ("people", people),
        ("given", given if recipe.problem == "regression" else pa.array(written, pa.string())),
    ]
    cast = votes.cast(recipe, table)
    trusted = [
        (function.kind, vote)
        for function, vote in zip(section.functions, cast, strict=True)
        if function.trusted
    ]
    known = first([*stated, *trusted])[0]
    there = strata.named(recipe.problem, known.drop_null().to_pylist())
    check_classes(table.filter(pc.is_valid(known)), there, section)
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
    decided, posterior, functions = by_votes(section, classes, cast, first(stated)[0], known)
    labels, sources = first([*stated, *trusted, ("functions", decided)])
    # What people, the source or a trusted function says was somebody's decision; what functions agree on is worth what the label model says.
    confidence = pc.if_else(pc.is_valid(known), 1.0, posterior.max(axis=1, initial=0))
    missing = pc.is_null(labels)
    why, guesses = unsure(section, classes, posterior[missing.to_numpy(zero_copy_only=False)])
    table = table.set_column(table.column_names.index("label"), "label", labels)
    table = table.append_column("label_source", sources).append_column(
        "label_confidence", confidence
    )
    kept, queue = table.filter(pc.invert(missing)), table.filter(missing)
    if kept.num_rows == 0:
        raise Failure(
            f"label: none of {table.num_rows} rows has a label: name the column in columns.label, or give label.functions."
        )
    rejected = [files.rejects(queue, "label", "no label", pa.chunked_array([why], pa.string()))]
    wrong = {} if section.errors == "keep" else suspicion.suspects(recipe, kept)
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
        kept = relabelled(kept, wrong)
    if section.errors == "drop":
        kept = kept.filter(pa.array([index not in wrong for index in range(kept.num_rows)]))
        rejected.append(
            files.rejects(
                doubted, "label", "label looks wrong", pa.chunked_array([doubts], pa.string())
            )
        )
    files.write_table(target / "rows.parquet", kept)
    rules = files.write_rejects(target / "rejects.parquet", rejected, table)
    review.write(target, recipe, queue, why, guesses, classes)
    counts = {
        "rows_in": table.num_rows,
        "rows": kept.num_rows,
        "rejects": sum(rules.values()),
        "review": queue.num_rows,
    }
    shares = Counter(
        name for names in strata.named(recipe.problem, kept["label"].to_pylist()) for name in names
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
        target / "index.html", page.render("labels", f"{recipe.name}: labels", report=report)
    )
    print(drops.line("label", table.num_rows, kept.num_rows, rules), flush=True)
    drops.check("label", table.num_rows, rules, recipe.max_dropped, target / "rejects.parquet")


def first(said: list[tuple[str, pa.Array]]) -> tuple[pa.Array, pa.Array]:
    """The first answer for each row, and whose it is."""
    whose = [
        pc.if_else(pc.is_valid(answer), name, pa.scalar(None, pa.string())) for name, answer in said
    ]
    return pc.coalesce(*(answer for _, answer in said)).cast(pa.string()), pc.coalesce(*whose).cast(
        pa.string()
    )


def by_votes(
    section: Label, classes: list[str], cast: list[pa.Array], stated: pa.Array, known: pa.Array
) -> tuple[pa.Array, NDArray[np.float64], list[Any]]:
    """The label of each row on which the functions that are not trusted agree enough, the classes' posterior, and the report on all functions."""

    def numbers(labels: pa.Array) -> label_model.Votes:
        at = pc.fill_null(pc.index_in(labels, value_set=pa.array(classes, pa.string())), -1)
        return np.asarray(at, np.int64)

    matrix = (
        np.stack([numbers(vote) for vote in cast], axis=1)
        if cast
        else np.zeros((len(known), 0), int)
    )
    voters = [number for number, function in enumerate(section.functions) if not function.trusted]
    fitted = label_model.MODELS[section.model](matrix[:, voters], len(classes), numbers(known))
    best, sure = fitted.decided(section.confidence)
    decided = pc.if_else(pa.array(sure), pa.array(classes, pa.string()).take(pa.array(best)), None)
    return (
        decided,
        fitted.posterior,
        label_model.functions(section.functions, matrix, numbers(stated), numbers(known), fitted),
    )


def unsure(
    section: Label, classes: list[str], posterior: NDArray[np.float64]
) -> tuple[list[str], list[str]]:
    """Why rows have no label, and the one that they may have: the class with most votes, if there is one."""
    reasons, guesses = [], []
    for row, single in zip(posterior, label_model.single(posterior), strict=True):
        ranked = sorted(
            (-share, name) for share, name in zip(row, classes, strict=True) if share > 0
        )
        shown = ", ".join(f"{name} {-share:.2f}" for share, name in ranked[:3])
        reasons.append(
            f"functions are not sure: {shown}"
            if ranked
            else "no function knows one"
            if section.functions
            else "no label"
        )
        guesses.append(ranked[0][1] if single else "")
    return reasons, guesses


def relabelled(rows: pa.Table, right: dict[int, tuple[str, float]]) -> pa.Table:
    wrong = pa.array([index in right for index in range(rows.num_rows)], pa.bool_())
    labels, shares = (
        zip(*(right[index] for index in sorted(right)), strict=True) if right else ((), ())
    )
    for name, values in (
        ("label", labels),
        ("label_source", ["relabelled"] * len(right)),
        ("label_confidence", shares),
    ):
        column = pc.replace_with_mask(rows[name], wrong, pa.array(values, rows[name].type))
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def check_classes(table: pa.Table, labels: list[list[str]], section: Label) -> None:
    """Raises Failure for a label that is not among those that the recipe lists."""
    for names, row in zip(labels, table["id"].to_pylist(), strict=True):
        for label_ in sorted(set(names) - set(section.classes or names)):
            count = sum(label_ in names for names in labels)
            told = f"label {label_!r} of {count} row(s), first {row}, is not among label.classes{nearest(label_, section.classes or [])}"
            raise Failure(f"{told}: correct the source, or add it to the list in the recipe.")


if __name__ == "__main__":
    main(label)
