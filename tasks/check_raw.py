"""Check raw: Great Expectations over the data as it came.

python -m tasks.check_raw support-desk
"""

from tasks.checks import suite
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.storage import files, layout


def check_raw(name: str) -> None:
    folder = layout.recipe_folder(name)
    sources = [
        folder / "raw" / part["file"]
        for part in files.read_json(folder / "raw" / "snapshot.json")["partitions"]
    ]
    suite.run_suite(
        resolved.read_resolved_recipe(name),
        "raw",
        files.read_table(sources),
        suite.fingerprint_snapshot(sources),
        folder / "checks" / "raw",
    )


if __name__ == "__main__":
    main(check_raw)
