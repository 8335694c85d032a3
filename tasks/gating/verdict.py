"""From the files of an evaluation, and those of a champion, to the gate's verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import modalities, problems
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.gate_verdict import Disagreements, GateVerdict
from tasks.contracts.model_info import ModelInfo
from tasks.core.errors import StageError
from tasks.gating import decision, latency, pairs, preconditions, unseen_rows
from tasks.gating.champion import Champion
from tasks.gating.decision import GateInputs
from tasks.gating.pairs import PairsBySlice
from tasks.problems.base import Problem
from tasks.recipe.gate import LatencyRule
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import StagePaths


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with its evaluation, read from the stages' files. Tables are sorted by id."""

    paths: StagePaths
    evaluation: Evaluation
    predictions: pa.Table
    test: pa.Table
    problem: Problem

    @classmethod
    def read(cls, paths: StagePaths) -> "EvaluatedModel":
        """Read a model's evaluation, and make sure that it is one of this model on these rows."""
        evaluation = Evaluation.read(paths.evaluation.metrics)
        predictions = files.read_table(paths.evaluation.predictions).sort_by("id")
        test = files.read_table(paths.split.test).sort_by("id")
        preconditions.verify_evaluation_inputs(evaluation, predictions, test, paths)
        problem = problems.from_model_info(ModelInfo.read(paths.model.info))
        return cls(paths, evaluation, predictions, test, problem)


@dataclass(frozen=True)
class Contest:
    """A model beside a champion on the same test rows."""

    pairs: PairsBySlice
    latencies: dict[int, Floats] = field(default_factory=dict)  # by rows in a call


def judge_model(recipe: Recipe, paths: StagePaths, champion: Champion | None) -> GateVerdict:
    """Judge the model that was evaluated.

    Args:
        recipe: The recipe with the rules.
        paths: Where the model, its evaluation and its data lie.
        champion: The model in production; rules on a champion are skipped without one.

    Raises:
        StageError: A file is missing or does not belong to the others.
    """
    model = EvaluatedModel.read(paths)
    pairs_by_opponent: dict[str, PairsBySlice] = {
        "baseline": {pairs.ALL_ROWS: pairs.pair_with_baseline(model.problem, model.predictions)}
    }
    contest = None
    if champion is not None:
        contest = hold_contest(recipe, model, champion)
        pairs_by_opponent["champion"] = contest.pairs
    inputs = GateInputs(
        metrics=model.evaluation.numbers(),
        problem=model.problem,
        pairs=pairs_by_opponent,
        comparison_number=champion.comparison_number if champion else 1,
        latencies=contest.latencies if contest else {},
    )
    decided = decision.judge(recipe, inputs)
    return GateVerdict(
        verdict=decided.verdict,
        reason=decided.reason,
        checks=decided.checks,
        rows=len(model.test),
        champion=champion.version if champion else None,
        comparison_number=champion.comparison_number if champion else None,
        excluded_rows=contest.pairs[pairs.ALL_ROWS].excluded_rows if contest else None,
        disagreements=find_disagreements(model.problem, contest),
        model_sha256=model.evaluation.model_sha256,
        test_sha256=model.evaluation.test_sha256,
    )


def hold_contest(recipe: Recipe, model: EvaluatedModel, champion: Champion) -> Contest:
    """Let the champion answer the test rows, and time both models as far as rules ask for it."""
    predictor = modalities.load_predictor(champion.model.path)
    if predictor.problem.NAME != model.problem.NAME:
        raise StageError(
            f"gate: the champion is a model for {predictor.problem.NAME}, and this one for "
            f"{model.problem.NAME}: promote it to a channel of its own."
        )
    rows = modalities.extract_inputs(recipe, model.test)
    unseen = unseen_rows.find_unseen_rows(model.test, model.paths, champion.model, recipe.modality)
    answers = modalities.predict(predictor, rows)
    answers = model.problem.align_labels(answers, predictor.labels)
    masks = {pairs.ALL_ROWS: np.ones(len(unseen), dtype=bool)}
    masks |= pairs.build_slice_masks(recipe, model.test)
    excluded = int((~unseen).sum())
    pairs_by_slice = {}
    for name, mask in masks.items():
        pairs_by_slice[name] = pairs.pair_with_champion(
            model.problem, model.predictions, answers, unseen & mask, excluded
        )
    return Contest(pairs_by_slice, time_models(recipe, model, champion, rows))


def time_models(
    recipe: Recipe, model: EvaluatedModel, champion: Champion, rows: Sequence[Any]
) -> dict[int, Floats]:
    """Time both models on one thread, for each size of a call that a rule is on."""
    batches = [rule.batch for rule in recipe.gate if isinstance(rule, LatencyRule)]
    if not batches:
        return {}
    models = (
        modalities.load_predictor(model.paths.model.path, 1),
        modalities.load_predictor(champion.model.path, 1),
    )
    return {batch: latency.measure_latency(models, rows, batch) for batch in batches}


def find_disagreements(problem: Problem, contest: Contest | None) -> Disagreements | None:
    """Return the rows on which only one of the two models is right."""
    if contest is None:
        return None
    return pairs.find_disagreements(problem, contest.pairs[pairs.ALL_ROWS])
