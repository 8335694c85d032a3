"""Evaluate: score the exported model, as it would be served, on the test split, beside a baseline.

    python -m tasks.evaluate support-desk

Writes evaluation/metrics.json (each metric with its bootstrap interval, and the numbers of each
aspect), predictions.parquet, golden.parquet with requests whose answers are known, plots/ for
`dvc plots`, report.html, and cost.json with measured times, which are no part of the verdict.
"""

import pyarrow as pa

from tasks import evaluation, modalities
from tasks.contracts.base import JsonObject
from tasks.contracts.evaluation import Evaluation
from tasks.core.stage import main
from tasks.evaluation import golden, plots, report
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Floats
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths


def evaluate(recipe_name: str) -> None:
    """Evaluate a recipe's model."""
    recipe = resolved.read_resolved_recipe(recipe_name)
    run(recipe, StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Evaluate the model in `paths.model` on the test split."""
    context = EvaluationContext.load(recipe, paths)
    baseline_answers = predict_baseline(context)
    aspects = evaluation.measure_aspects(context)
    result = summarize(context, baseline_answers, aspects, paths)
    write_predictions(paths, context, baseline_answers)
    golden.write_golden_requests(paths.evaluation.golden, context)
    result.write(paths.evaluation.metrics)
    files.write_json(paths.evaluation.cost, merge_timings(aspects))
    history = report.TrainingHistory.read(paths.model)
    plots.write_plots(paths.evaluation, context, result, aspects, history)
    page = report.render_report(context, result, aspects, history)
    files.write_text(paths.evaluation.page, page)


def predict_baseline(context: EvaluationContext) -> Floats:
    """Fit the modality's baseline on the training split; return its answers to the test rows."""
    train_inputs = modalities.extract_inputs(context.recipe, context.train)
    train_targets = context.problem.targets(context.train)
    predict = modalities.get_modality(context.recipe.modality).predict_baseline
    answers: Floats = predict(train_inputs, train_targets, context.inputs, context.problem)
    return answers


def summarize(
    context: EvaluationContext,
    baseline_answers: Floats,
    aspects: dict[str, AspectResult],
    paths: StagePaths,
) -> Evaluation:
    """Return the content of metrics.json."""
    problem = context.problem
    targets = context.targets
    baseline = problem.compact_predictions(targets, baseline_answers)
    content: JsonObject = {
        "metrics": problem.metric_intervals(targets, context.predictions, context.config),
        "baseline": problem.metric_intervals(targets, baseline, context.config),
        "classes": problem.metrics_by_class(targets, context.predictions, context.config),
        "aspects": {name: aspect.metrics for name, aspect in aspects.items()},
        "rows": context.test.num_rows,
        "model_sha256": hashing.hash_folder(paths.model.path),
        "test_sha256": hashing.sha256(paths.split.test),
    }
    return Evaluation.model_validate(content)


def write_predictions(
    paths: StagePaths, context: EvaluationContext, baseline_answers: Floats
) -> None:
    """Write what the gate compares: the answers of model and baseline to each test row."""
    answers = {"model": context.answers, "baseline": baseline_answers}
    columns = context.problem.prediction_columns(context.targets, answers)
    ids = context.test["id"].cast(pa.string())
    files.write_table(paths.evaluation.predictions, pa.table({"id": ids, **columns}))


def merge_timings(aspects: dict[str, AspectResult]) -> JsonObject:
    """Return what the aspects measured with a clock."""
    timings: JsonObject = {}
    for aspect in aspects.values():
        timings |= aspect.timings
    return timings


if __name__ == "__main__":
    main(evaluate)
