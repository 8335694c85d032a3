"""DVC's files as one recipe sees them: what the other recipes have costs nothing.

DVC parses and checks the whole dvc.yaml for each recipe of params.yaml, and reads and writes the
whole dvc.lock. These classes give it the stages of one recipe alone. What they write into dvc.lock
is what DVC would write there, byte for byte.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvc import dvcfile
from dvc.stage import serialize
from dvc.utils.serialize import dumps_yaml, parse_yaml

from tasks.contracts.base import JsonObject
from tasks.storage import files

if TYPE_CHECKING:  # DVC has no types: for a checker they are of any kind
    from dvc.repo import Repo
    from dvc.repo.index import Index
    from dvc.stage import Stage

MATRIX_OVER_RECIPES = {"recipe": "${recipes}"}
SCHEMA_LINE = "schema: '2.0'\n"
HEAD = f"{SCHEMA_LINE}stages:\n"
STAGE_BEGIN = re.compile(r"(?<=\n)(?=  \S)")
STAGE_PART = re.compile(r"  ([\w.@-]+):\n(?:   .*\n)+")


@dataclass(frozen=True)
class LockText:
    """The text of dvc.lock, cut into its stages.

    Attributes:
        stages: The lines of each stage, by its name, in the order of the file.
    """

    stages: dict[str, str]

    @classmethod
    def split(cls, text: str) -> "LockText | None":
        """Cut a text as DVC writes it; None if it has another form, such as after a merge."""
        if not text.startswith(HEAD):
            return None
        stages: dict[str, str] = {}
        for part in STAGE_BEGIN.split(text[len(HEAD) :]):
            match = STAGE_PART.fullmatch(part)
            if not match or match[1] in stages:
                return None
            stages[match[1]] = part
        return cls(stages)

    def select(self, recipe: str) -> str:
        """Return the text with the stages of one recipe, and those of no recipe."""
        chosen = [part for name, part in self.stages.items() if belongs_to(name, recipe)]
        return self.join(chosen) if chosen else SCHEMA_LINE

    def join(self, parts: list[str]) -> str:
        """Return these stages as a whole file."""
        return HEAD + "".join(parts)

    def replace(self, name: str, part: str) -> str:
        """Return the whole text with one stage replaced, or added at the end."""
        return self.join(list({**self.stages, name: part}.values()))


def belongs_to(stage_name: str, recipe: str) -> bool:
    """Return whether a stage is the recipe's own, or none of a recipe."""
    _, separator, owner = stage_name.partition("@")
    return not separator or owner == recipe


class RecipeLockfile(dvcfile.Lockfile):  # type: ignore[misc]  # DVC is not typed
    """dvc.lock, of which only one recipe's stages are parsed and rewritten."""

    def __init__(self, repo: "Repo", path: str, recipe: str) -> None:
        """Take DVC's repository, the path of the file and the recipe's name."""
        super().__init__(repo, path)
        self.recipe = recipe

    def read_parts(self) -> LockText | None:
        """Read the file; None if it is not there, or not in the form that DVC writes."""
        try:
            text = Path(self.path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return LockText.split(text)

    def _load_yaml(self, **options: object) -> tuple[JsonObject, str]:
        """Parse the recipe's stages; whatever looks strange is left to DVC."""
        parts = None if options else self.read_parts()
        if parts is None:
            return super()._load_yaml(**options)  # type: ignore[no-any-return]
        text = parts.select(self.recipe)
        data = parse_yaml(text, self.path)
        return self.validate(data, self.path), text

    def dump_stages(self, stages: list["Stage"], **options: object) -> None:
        """Write the entries of stages."""
        for stage in stages:
            parts = self.read_parts()
            if parts is None:
                super().dump_stages([stage], **options)
                continue
            entry = {"stages": serialize.to_lockfile(stage, **options)}
            part = dumps_yaml(entry).partition("\n")[2]
            if parts.stages.get(stage.name) != part:
                files.write_text(Path(self.path), parts.replace(stage.name, part))
        self.repo.scm_context.track_file(self.relpath)


class RecipeProjectFile(dvcfile.ProjectFile):  # type: ignore[misc]  # DVC is not typed
    """dvc.yaml with the stages of one recipe.

    Attributes:
        recipe: The recipe's name, which a subclass or an instance sets.
    """

    recipe = ""

    @property
    def _lockfile(self) -> RecipeLockfile:
        return RecipeLockfile(self.repo, str(Path(self.path).with_suffix(".lock")), self.recipe)

    def _load(self, **options: object) -> tuple[JsonObject, str]:
        data, text = super()._load(**options)
        for stage in data.get("stages", {}).values():
            if stage.get("matrix") == MATRIX_OVER_RECIPES:
                stage["matrix"] = {"recipe": [self.recipe]}
        return data, text


def load_project_file(repo: "Repo", recipe: str) -> RecipeProjectFile:
    """Load the dvc.yaml of the working directory as the recipe sees it."""
    project_file = RecipeProjectFile(repo, dvcfile.PROJECT_FILE)
    project_file.recipe = recipe
    return project_file


def narrow_dvc_to(recipe: str) -> None:
    """Make all of DVC see one recipe, for the rest of this process."""
    from dvc.repo import index

    class ProjectFile(RecipeProjectFile):
        pass

    def collect_files(repo: "Repo", **_: object) -> Iterator[tuple[str, "Index"]]:
        yield dvcfile.PROJECT_FILE, index.Index.from_file(repo, dvcfile.PROJECT_FILE)

    ProjectFile.recipe = recipe
    dvcfile.ProjectFile = ProjectFile
    index.collect_files = collect_files
