"""Check ready: Great Expectations over the rows that go into training and evaluation, and the proof that none is on two sides.

python -m tasks.check_ready support-desk
"""

import pyarrow as pa

from tasks import check, files, resolve, sides
from tasks.step import main


def check_ready(name: str) -> None:
    folder = files.folder_of(name)
    sources = {side: folder / "split" / f"{side}.parquet" for side in ("train", "val", "test")}
    tables = {side: files.read_table(path) for side, path in sources.items()}
    recipe = resolve.read(name)
    results, notes = sides.proof(tables, recipe.modality, recipe.problem)
    rows = pa.concat_tables(tables.values(), promote_options="permissive")
    check.run(
        recipe,
        "ready",
        rows,
        check.fingerprint(list(sources.values())),
        folder / "checks" / "ready",
        results,
        notes,
    )


if __name__ == "__main__":
    main(check_ready)
