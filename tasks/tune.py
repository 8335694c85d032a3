"""Tune: search better values for the recipe's train section, where the recipe says which.

    python -m tasks.tune support-desk

Writes tuned/best.json (the chosen values, by their keys in train; {} without a `tune` section), trials.csv for `dvc plots` and index.html. A search that was
cut off is taken up from checkpoints/.tune/<recipe>/<fingerprint>/; one whose `trials` were raised adds to those that are there. It never reads the test split.
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


def tune(name: str) -> None:
    recipe = resolved.read_resolved_recipe(name)
    studies = layout.shared_path(f"checkpoints/.tune/{name}")
    run(recipe, StagePaths.of_recipe(name), studies)


def run(recipe: Recipe, paths: StagePaths, studies: Path) -> None:
    """Search values for the train section, and write the best, a table and a page."""
    done: list[TrialRecord] = []
    if recipe.tune:
        with energy.measure_energy():
            done = search.search_values(recipe, recipe.tune, paths.split.path, studies)
    best = study.find_best_trial(recipe, recipe.tune, done) if recipe.tune else None
    if done and best is None:
        raise StageError(
            f"tune: none of {len(done)} trials could be trained; the first: {done[0]['note']}"
        )
    files.write_json(paths.tuned.best, best["values"] if best else {})
    files.write_csv(paths.tuned.trials, report.tabulate_trials(recipe, done))
    files.write_text(paths.tuned.page, report.render_study(recipe, done, best))


if __name__ == "__main__":
    main(tune)
