"""Evaluate: score the exported model, the very bytes that would be served, on the test split, beside a baseline fitted on the same split.

    python -m tasks.evaluate support-desk

Writes evaluation/metrics.json (each metric with its bootstrap interval), predictions.parquet, plots/ for `dvc plots` and report.html.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import files, intervals, modalities, page, resolve
from tasks.intervals import Floats, Ints, Scored
from tasks.recipe import METRICS, Evaluate, Recipe
from tasks.step import Failure, main

DIGITS = 6


def evaluate(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "split", folder / "model", folder / "evaluation")


def run(recipe: Recipe, source: Path, model: Path, target: Path) -> None:
    train, test = (files.read_table(source / f"{side}.parquet") for side in ("train", "test"))
    predictor = modalities.predictor(model)
    classes = predictor.labels
    labels = class_indices(test, classes, "test")
    rows = modalities.rows(recipe, test)
    probabilities = modalities.predict(predictor, rows)
    baseline = modalities.module(recipe.modality).baseline(modalities.rows(recipe, train), class_indices(train, classes, "train"), rows, len(classes))
    said = {"model": intervals.scored(labels, probabilities), "baseline": intervals.scored(labels, baseline)}
    metrics = {name: with_intervals(labels, scored, len(classes), recipe.evaluate) for name, scored in said.items()}
    matrix = intervals.confusion(labels, said["model"].predicted, len(classes))
    per_class = by_class(labels, said["model"], classes, recipe.evaluate)
    files.write_table(target / "predictions.parquet", predictions(test, classes, probabilities, said))
    files.write_json(
        target / "metrics.json",
        {
            **metrics["model"],
            "baseline": metrics["baseline"],
            "classes": per_class,
            "rows": test.num_rows,
            "model_sha256": files.hashes(model),
            "test_sha256": files.sha256(source / "test.parquet"),
        },
    )
    names = [classes[index] for index in labels]
    guesses = [classes[index] for index in said["model"].predicted]
    write_csv(target / "plots" / "confusion.csv", ["actual", "predicted"], zip(names, guesses, strict=True))
    write_csv(target / "plots" / "f1.csv", ["class", "f1"], [(name, values["f1"]["value"]) for name, values in per_class.items()])
    history = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    write_csv(target / "plots" / "history.csv", list(history[0]), [record.values() for record in history])
    report = page.evaluation(
        recipe.name,
        metrics,
        per_class,
        matrix.astype(int).tolist(),
        classes,
        mistakes(test, rows, classes, labels, probabilities),
        files.read_json(model / "model.json").get("export", []),
    )
    files.write_text(target / "report.html", report)


def class_indices(table: pa.Table, classes: list[str], side: str) -> Ints:
    position = {label: index for index, label in enumerate(classes)}
    names = table["label"].to_pylist()
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise Failure(
            f"split/{side}.parquet has the class {unknown[0]!r}, which the model does not know: run `dvc repro`, so that both come from the same data."
        )
    return np.array([position[name] for name in names], dtype=np.int64)


def with_intervals(labels: Ints, said: Scored, classes: int, section: Evaluate) -> dict[str, dict[str, float]]:
    """Each metric as value, low and high."""
    points = intervals.points(labels, said, classes)
    result = {}
    for metric in METRICS:
        drawn = intervals.samples(labels, [said], classes, metric, section.resamples, section.seed)[:, 0]
        result[metric] = interval(points[metric], drawn, section)
    return result


def by_class(labels: Ints, said: Scored, classes: list[str], section: Evaluate) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 with its interval, and support, for each class."""
    matrix = intervals.confusion(labels, said.predicted, len(classes))
    drawn = intervals.f1(intervals.resampled_confusions(labels, [said.predicted], len(classes), section.resamples, section.seed)[0])
    result: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(classes):
        hits, said_so, there = matrix[index, index], matrix[:, index].sum(), matrix[index].sum()
        result[name] = {
            "precision": round(float(hits / said_so), DIGITS) if said_so else 0.0,
            "recall": round(float(hits / there), DIGITS) if there else 0.0,
            "f1": interval(float(intervals.f1(matrix)[index]), drawn[:, index], section),
            "support": int(there),
        }
    return result


def interval(point: float, drawn: Floats, section: Evaluate) -> dict[str, float]:
    low, high = intervals.bounds(drawn, section.confidence)
    return {"value": round(point, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def predictions(test: pa.Table, classes: list[str], probabilities: Floats, said: dict[str, Scored]) -> pa.Table:
    """One row per test row: everything that the gate compares, for the model and for the baseline."""
    columns: dict[str, Any] = {
        "id": test["id"].cast(pa.string()),
        "label": test["label"].cast(pa.string()),
        "predicted": pa.array([classes[index] for index in said["model"].predicted], pa.string()),
        "loss": pa.array(said["model"].loss.round(DIGITS)),
        "baseline_predicted": pa.array([classes[index] for index in said["baseline"].predicted], pa.string()),
        "baseline_loss": pa.array(said["baseline"].loss.round(DIGITS)),
        "probabilities": pa.array(probabilities.round(DIGITS).tolist(), pa.list_(pa.float64())),
    }
    return pa.table(columns)


def mistakes(test: pa.Table, rows: list[Any], classes: list[str], labels: Ints, probabilities: Floats, count: int = 15) -> list[dict[str, Any]]:
    """The wrong answers of which the model was most certain."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    ordered = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:count]
    shown = []
    for row in ordered.tolist():
        value = rows[row]
        best = int(probabilities[row].argmax())
        shown.append(
            {
                "id": test["id"][row].as_py(),
                "actual": classes[labels[row]],
                "predicted": classes[best],
                "probability": float(probabilities[row, best]),
                "content": value,
            }
        )
    return shown


def write_csv(path: Path, header: list[str], rows: Any) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, buffer.getvalue())


if __name__ == "__main__":
    main(evaluate)
