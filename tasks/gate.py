"""Gate: may this model be promoted? Decides from the evaluation alone, and says why.

    python -m tasks.gate support-desk

Writes gate.json. As a DVC stage it judges what content can judge: floors, ceilings and the baseline. The rules on the champion, which is not content but
the state of production, are judged at promotion, with the champion's answers on the same rows:

    python -m tasks.gate support-desk FOLDER VERSION LOOK FILE

LOOK says which comparison with this champion it is: they all share one error rate.
"""

import sys
from pathlib import Path
from typing import Any

from tasks import modalities, problems
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.model_info import ModelInfo
from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.gating import comparisons, decision, latency, preconditions, unseen_rows
from tasks.recipe import resolved
from tasks.recipe.gate import LatencyRule
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Floats
from tasks.storage import files, layout
from tasks.storage.layout import ModelFolder


def gate(
    name: str,
    champion: str | None = None,
    version: str | None = None,
    look: str = "1",
    out: str | None = None,
) -> None:
    folder = layout.recipe_folder(name)
    preconditions.require_passed_checks(folder)
    verdict = run(
        resolved.read_resolved_recipe(name),
        folder,
        Path(champion) if champion else None,
        version,
        int(look),
    )
    files.write_json(Path(out) if out else folder / "gate.json", verdict)


def run(
    recipe: Recipe, folder: Path, champion: Path | None, version: str | None, look: int = 1
) -> dict[str, Any]:
    """The verdict on the evaluation in `folder`, against the champion whose files lie in `champion`, if there is one."""
    evaluation = Evaluation.read(folder / "evaluation" / "metrics.json")
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet").sort_by("id")
    test = files.read_table(folder / "split" / "test.parquet").sort_by("id")
    preconditions.verify_evaluation_inputs(evaluation, predictions, test, folder)
    problem = problems.from_model_info(ModelInfo.read(ModelFolder(folder / "model").info))
    matches = {"baseline": {"": comparisons.pair_predictions(problem, predictions)}}
    timed: dict[int, Floats] = {}
    about: dict[str, Any] = {}
    if champion is not None:
        predictor = modalities.load_predictor(champion)
        if predictor.problem.NAME != problem.NAME:
            raise StageError(
                f"gate: the champion is a model for {predictor.problem.NAME}, and this one for {problem.NAME}: promote it to a channel of its own."
            )
        rows, new = (
            modalities.extract_inputs(recipe, test),
            unseen_rows.find_unseen_rows(test, folder, champion, recipe.modality),
        )
        answers = problem.align_labels(modalities.predict(predictor, rows), predictor.labels)
        groups = {
            "": new,
            **{
                name: new & mask
                for name, mask in comparisons.build_slice_masks(recipe, test).items()
            },
        }
        matches["champion"] = {
            name: comparisons.pair_predictions(
                problem, predictions, answers, mask, int((~new).sum())
            )
            for name, mask in groups.items()
        }
        models = (
            modalities.load_predictor(folder / "model", 1),
            modalities.load_predictor(champion, 1),
        )
        timed = {
            rule.batch: latency.measure_latency(models, rows, rule.batch)
            for rule in recipe.gate
            if isinstance(rule, LatencyRule)
        }
        about = {
            "look": look,
            "left_out": matches["champion"][""].left_out,
            "changed": comparisons.find_disagreements(problem, matches["champion"][""]),
        }
    verdict = decision.judge(recipe, evaluation.numbers(), problem, matches, look, timed)
    return {
        **verdict,
        **about,
        "champion": version,
        "model_sha256": evaluation.model_sha256,
        "test_sha256": evaluation.test_sha256,
        "rows": len(test),
    }


if __name__ == "__main__":
    if len(sys.argv) == 6:
        main(lambda name: gate(name, *sys.argv[2:]), sys.argv[1:2])
    main(gate)
