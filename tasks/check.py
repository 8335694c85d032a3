"""Check: may this data be used? Great Expectations over the data as it came (`raw`) and as it goes into training (`ready`).

    python -m tasks.check_raw support-desk

Writes checks/<suite>/result.json and a page, checks/<suite>/index.html. Where an expectation fails, the pipeline stops here.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from tasks import expectations, files, page
from tasks.expectations import Declared
from tasks.recipe import Recipe
from tasks.step import Failure


def run(recipe: Recipe, suite: str, sources: list[Path], target: Path) -> None:
    """Check the rows of `sources`. The page is written whether the expectations hold or not. Raises Failure where one does not."""
    declared: Declared = getattr(recipe.check, suite)
    table = files.read_table(sources)
    columns = [name for name in table.column_names if name != "image"]
    rows: pd.DataFrame = table.select(columns).to_pandas()
    results = expectations.validate(rows, declared, suite) if declared else []
    failed = [result for result in results if not result["success"]]
    write(target, f"{recipe.name}: check {suite}", len(rows), results)
    if failed:
        raise Failure(
            f"check {suite}: {len(failed)} of {len(results)} expectations fail. {' '.join(map(told, failed))} See {target / 'index.html'}; mend the data, or change check.{suite} in the recipe."
        )


def write(target: Path, title: str, rows: int, results: list[dict[str, Any]]) -> None:
    files.write_json(target / "result.json", {"rows": rows, "success": all(result["success"] for result in results), "results": results})
    files.write_text(target / "index.html", page.checks(title, rows, results))


def told(result: dict[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in dict(result["arguments"]).items())
    count = f"{result['unexpected']} unexpected values" if result["unexpected"] is not None else f"observed {result['observed']}"
    examples = f", such as {', '.join(map(repr, result['examples']))}" if result["examples"] else ""
    return f"{result['expectation']}({arguments}): {count}{examples}."
