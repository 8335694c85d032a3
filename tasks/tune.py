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
from tasks.telemetry import energy
from tasks.tuning import report, search, study
from tasks.tuning.study import TrialRecord


def tune(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(
        resolved.read_resolved_recipe(name),
        folder / "split",
        folder / "tuned",
        layout.shared_path(f"checkpoints/.tune/{name}"),
    )


def run(recipe: Recipe, source: Path, target: Path, studies: Path) -> None:
    done: list[TrialRecord] = []
    if recipe.tune:
        with energy.measure_energy():
            done = search.search_values(recipe, recipe.tune, source, studies)
    best = study.find_best_trial(recipe, recipe.tune, done) if recipe.tune else None
    if done and best is None:
        raise StageError(
            f"tune: none of {len(done)} trials could be trained; the first: {done[0]['note']}"
        )
    files.write_json(target / "best.json", best["values"] if best else {})
    files.write_csv(target / "trials.csv", report.tabulate_trials(recipe, done))
    files.write_text(target / "index.html", report.render_study(recipe, done, best))


if __name__ == "__main__":
    main(tune)
