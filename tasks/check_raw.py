"""Check raw: Great Expectations over the data as it came, and drift since the last snapshot.

    python -m tasks.check_raw support-desk

Writes checks/raw/.
"""

from tasks.checks import suite
from tasks.checks.suite import CheckedData
from tasks.contracts.snapshot import Snapshot
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths


def check_raw(recipe_name: str) -> None:
    """Check the snapshot of a registered recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Check the snapshot in raw/."""
    partitions = Snapshot.read(paths.raw.snapshot).partitions
    sources = [paths.raw.partition(partition.file) for partition in partitions]
    data = CheckedData(files.read_table(sources), suite.fingerprint_snapshot(sources))
    suite.run_suite(recipe, "raw", data, paths.checks("raw"))


if __name__ == "__main__":
    main(check_raw)
