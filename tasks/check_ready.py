"""Check ready: Great Expectations over the split, and the proof that no row is in two parts of it.

    python -m tasks.check_ready support-desk

Writes checks/ready/.
"""

import pyarrow as pa

from tasks.checks import suite
from tasks.checks.suite import CheckedData
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.rows import leakage_check
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths


def check_ready(recipe_name: str) -> None:
    """Check the split of a registered recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Check the rows that go into training and evaluation."""
    tables = {name: files.read_table(paths.split.table(name)) for name in layout.SPLITS}
    outcomes, notes = leakage_check.check_leakage(tables, recipe.modality, recipe.problem)
    rows = pa.concat_tables(tables.values(), promote_options="permissive")
    snapshot = suite.fingerprint_snapshot(list(paths.split.tables()))
    data = CheckedData(rows, snapshot, outcomes, notes)
    suite.run_suite(recipe, "ready", data, paths.checks("ready"))


if __name__ == "__main__":
    main(check_ready)
