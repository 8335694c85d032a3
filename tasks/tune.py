"""Tune: search better values for the recipe's section `train`, if its section `tune` asks for it.

    python -m tasks.tune support-desk

Writes tuned/best.json (the chosen values, by their keys in `train`; {} without a section `tune`),
trials.csv for `dvc plots` and index.html. A search that was cut off is resumed from
checkpoints/.tune/<recipe>/<fingerprint>/; one whose `trials` were raised adds to those that are
there. It never reads the test split.
"""

from pathlib import Path

from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths
from tasks.telemetry import energy
from tasks.tuning import report, search, study
from tasks.tuning.study import TrialRecord


def tune(recipe_name: str) -> None:
    """Tune a registered recipe."""
    recipe = resolved.read_resolved_recipe(recipe_name)
    studies = layout.shared_path(f"checkpoints/.tune/{recipe_name}")
    run(recipe, StagePaths.of_recipe(recipe_name), studies)


def run(recipe: Recipe, paths: StagePaths, studies: Path) -> None:
    """Search values for the section `train`, and write the best, a table and a page.

    Args:
        recipe: The recipe.
        paths: Where the split is and the values go.
        studies: Where the recipe's studies are kept.

    Raises:
        StageError: None of the trials could be trained.
    """
    trials: list[TrialRecord] = []
    best: TrialRecord | None = None
    if recipe.tune:
        with energy.measure_energy():
            trials = search.search_values(recipe, recipe.tune, paths.split, studies)
        best = study.find_best_trial(recipe, recipe.tune, trials)
    if trials and best is None:
        raise StageError(
            f"tune: none of {len(trials)} trials could be trained; the first: {trials[0].note}"
        )
    files.write_json(paths.tuned.best, best.values if best else {})
    files.write_csv(paths.tuned.trials, report.tabulate_trials(recipe, trials))
    files.write_text(paths.tuned.page, report.render_study(recipe, trials, best))


if __name__ == "__main__":
    main(tune)
