"""Runs the first stages on inputs that a test makes, and reads what they wrote and printed."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import clean, ingest, label, split
from tasks.core.errors import StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths

PATHS = StagePaths(Path("out"))
STAGES: dict[str, Callable[[Recipe, StagePaths], None]] = {
    "ingest": ingest.run,
    "clean": clean.run,
    "label": label.run,
    "split": split.run,
}
Row = dict[str, Any]
Content = bytes | str | Callable[[Path], object]  # of a file, or what makes the file


@dataclass(frozen=True)
class StageRun:
    """What the stages wrote and printed."""

    output: str
    error: str = ""  # the sentence with which a stage ended, if one did

    @property
    def rows(self) -> list[Row]:
        """The rows of the snapshot."""
        return [*iter_parts(PATHS.raw.path)]

    @property
    def warnings(self) -> list[str]:
        """The warnings at the terminal."""
        lines = self.output.splitlines()
        return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]

    def rejects(self, stage: str = "raw") -> list[tuple[str, str]]:
        """The rule and detail of each rejected row of a stage's folder."""
        table = files.read_table(sorted(PATHS.root.joinpath(stage, layout.REJECTS).glob("*")))
        return [(row["rule"], row["detail"]) for row in table.to_pylist()]

    def report(self, file: str) -> Any:
        """The content of a JSON file below the outputs."""
        return files.read_json(PATHS.root / file)

    def parts(self, column: str = "id") -> dict[str, str]:
        """The split of each row, by its value in a column."""
        parts = {}
        for name in layout.SPLITS:
            for value in files.read_table(PATHS.split.table(name))[column].to_pylist():
                parts[value] = name
        return parts


def iter_parts(folder: Path) -> Iterator[Row]:
    """Yield the rows of each Parquet file in a folder."""
    for path in sorted(folder.glob("*.parquet")):
        if path.is_file():
            yield from files.read_table(path).to_pylist()


def write_inputs(inputs: Mapping[str, Content]) -> None:
    """Write files by their path below the working directory."""
    for name, content in inputs.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def build_recipe(modality: str, **sections: Any) -> Recipe:
    """Read a recipe of this modality with these sections."""
    metric = "rmse" if sections.get("problem") == "regression" else "macro_f1"
    content = {
        "name": "tiny",
        "modality": modality,
        "max_dropped": 1.0,
        "gate": [{"rule": "floor", "metric": metric, "bound": 0.5}],
        **sections,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return read_recipe(Path("recipe.yaml"))


def run_stages(
    recipe: Recipe, capsys: pytest.CaptureFixture[str], until: str = "ingest"
) -> StageRun:
    """Run the stages up to one; a sentence that ends one of them is kept."""
    shutil.rmtree(PATHS.root, ignore_errors=True)
    capsys.readouterr()
    error = ""
    for name, run in STAGES.items():
        try:
            run(recipe, PATHS)
        except StageError as caught:
            error = str(caught)
            break
        if name == until:
            break
    return StageRun(capsys.readouterr().out, error)
