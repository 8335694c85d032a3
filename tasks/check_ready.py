"""Check ready: Great Expectations over the rows that go into training and evaluation, and the proof that none is on two sides.

python -m tasks.check_ready support-desk
"""

import pyarrow as pa

from tasks.checks import suite
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.rows import leakage
from tasks.storage import files, layout


def check_ready(name: str) -> None:
    folder = layout.recipe_folder(name)
    sources = {side: folder / "split" / f"{side}.parquet" for side in ("train", "val", "test")}
    tables = {side: files.read_table(path) for side, path in sources.items()}
    recipe = resolved.read_resolved_recipe(name)
    results, notes = leakage.check_leakage(tables, recipe.modality, recipe.problem)
    rows = pa.concat_tables(tables.values(), promote_options="permissive")
    suite.run_suite(
        recipe,
        "ready",
        rows,
        suite.fingerprint_snapshot(list(sources.values())),
        folder / "checks" / "ready",
        results,
        notes,
    )


if __name__ == "__main__":
    main(check_ready)
