"""Evaluate: score the exported model, the very bytes that would be served, on the test split, beside a baseline fitted on the same split.

    python -m tasks.evaluate support-desk

Writes evaluation/metrics.json (each metric with its bootstrap interval, and what each aspect of tasks/evaluation found), predictions.parquet, plots/ for
`dvc plots`, report.html, and cost.json with what a clock said, which is no part of the verdict.
"""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa

from tasks import evaluation, modalities
from tasks.core.stage import main
from tasks.evaluation import report
from tasks.evaluation.base import EvaluationContext
from tasks.recipe import resolved
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.storage import files, hashing, layout


def evaluate(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(
        resolved.read_resolved_recipe(name),
        folder / "split",
        folder / "model",
        folder / "evaluation",
    )


def run(recipe: Recipe, source: Path, model: Path, target: Path) -> None:
    train, val, test = (
        files.read_table(source / f"{side}.parquet") for side in ("train", "val", "test")
    )
    predictor = modalities.load_predictor(model)
    problem, rows = predictor.problem, modalities.extract_inputs(recipe, test)
    case = EvaluationContext(
        recipe,
        model,
        predictor,
        train,
        val,
        test,
        rows,
        problem.targets(test),
        modalities.predict(predictor, rows),
    )
    targets = case.targets
    fit = modalities.import_modality(recipe.modality).predict_baseline
    answers = {
        "model": case.answers,
        "baseline": fit(
            modalities.extract_inputs(recipe, train), problem.targets(train), rows, problem
        ),
    }
    said = {who: problem.compact_predictions(targets, given) for who, given in answers.items()}
    metrics = {
        who: problem.metric_intervals(targets, given, recipe.evaluate)
        for who, given in said.items()
    }
    classes = problem.metrics_by_class(targets, said["model"], recipe.evaluate)
    aspects = evaluation.measure_aspects(case)
    files.write_table(
        target / "predictions.parquet",
        pa.table(
            {"id": test["id"].cast(pa.string()), **problem.prediction_columns(targets, answers)}
        ),
    )
    files.write_json(
        target / "metrics.json",
        {
            **metrics["model"],
            **{name: found.metrics for name, found in aspects.items()},
            "baseline": metrics["baseline"],
            "classes": classes,
            "rows": test.num_rows,
            "model_sha256": hashing.hash_folder(model),
            "test_sha256": hashing.sha256(source / "test.parquet"),
        },
    )
    files.write_json(
        target / "cost.json",
        {name: value for found in aspects.values() for name, value in found.timed.items()},
    )
    pairs = problem.confusion_pairs(targets, said["model"])
    history = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    about = files.read_json(model / "model.json")
    metric = about["train"]["metric"]
    chosen, sign = f"val_{metric}", -1 if metric in LOWER_IS_BETTER else 1
    kept = max(history, key=lambda record: (sign * record[chosen], record["epoch"]))
    bins = aspects["calibration"].shown["after"] if "calibration" in aspects else []
    plots = {
        "confusion": [("actual", "predicted"), *pairs],
        "f1": [
            ("class", "f1"),
            *((name, values["f1"]["value"]) for name, values in classes.items()),
        ],
        "reliability": [("probability", "right", "answers"), *bins],
        "history": [
            [*history[0], "metric"],
            *([*map(record.get, history[0]), record[chosen]] for record in history),
        ],
    }
    for name, lines in plots.items():
        files.write_csv(target / "plots" / f"{name}.csv", lines)
    counts = Counter(pairs)
    names = list(dict.fromkeys([*classes, *(name for pair in pairs for name in pair)]))
    matrix = [[counts[actual, predicted] for predicted in names] for actual in names]
    worst = [
        {
            "id": test["id"][row].as_py(),
            "actual": actual,
            "predicted": predicted,
            "number": number,
            "content": rows[row],
        }
        for row, actual, predicted, number in problem.worst_rows(
            targets, answers["model"], report.MAX_MISTAKES
        )
    ]
    shown = {
        "problem": problem,
        "rows": test.num_rows,
        "metrics": metrics,
        "classes": classes,
        "matrix": matrix,
        "names": names,
    }
    training = {
        "history": history,
        "metric": metric,
        "kept": kept["epoch"],
        "about": about,
        "searched": recipe.tune is not None,
    }
    more = {
        "aspects": aspects,
        "samples": case.samples,
        "steps": about.get("export", []),
        "training": training,
    }
    files.write_text(
        target / "report.html", html_pages.render_evaluation(recipe.name, worst, **shown, **more)
    )


if __name__ == "__main__":
    main(evaluate)
