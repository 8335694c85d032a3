"""A source in several files, and the runs over it."""

from pathlib import Path

from tasks import clean, ingest
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths

RECIPE = """name: parts
modality: text
ingest: {kind: files, path: 'in/*.csv'}
columns: {id: ID}
max_dropped: 1
clean: {rules: [white_space, RULES]}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""


def recipe(here: Path, with_id: bool = True, rules: str = "exact_duplicates") -> Recipe:
    (here / "recipe.yaml").write_text(
        RECIPE.replace("{id: ID}", "{id: id}" if with_id else "{}").replace("RULES", rules)
    )
    (here / "in").mkdir(exist_ok=True)
    return read_recipe(here / "recipe.yaml")


def write(here: Path, name: str, rows: list[tuple[str, str]], with_id: bool = True) -> None:
    lines = [
        "id,text,label" if with_id else "text,label",
        *(f"{row},{text},x" if with_id else f"{text},x" for row, text in rows),
    ]
    (here / "in" / name).write_text("\n".join(lines) + "\n")


def run(made: Recipe, folder: Path, erase: list[str] | None = None) -> dict[str, str]:
    paths = StagePaths(folder)
    files.write_csv(paths.erased_ids, [["id"], *([row] for row in erase or [])])
    ingest.run(made, paths)
    clean.run(made, paths)
    hashes = hashing.hash_folder(folder)
    return {path: digest for path, digest in hashes.items() if not path.startswith(".")}


def touched(folder: Path, before: dict[str, int]) -> set[str]:
    """The Parquet files of rows that were written since."""
    return {name for name, time in times(folder).items() if before.get(name) != time}


def times(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for place in ("raw", "clean/parts")
        for path in (folder / place).glob("*-*.parquet")
    }
