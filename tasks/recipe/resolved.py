"""The resolved recipe: what the stage `resolve` writes and every other stage reads."""

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from tasks.contracts.base import Contract, Record
from tasks.recipe.recipe import Recipe
from tasks.storage.layout import StagePaths


class SourceFingerprints(Record):
    """Versions of everything outside the recipe that it names, by the section that reads it."""

    ingest: dict[str, str] = Field(default_factory=dict, description="Version by source part.")
    clean: str | None = Field(
        None, description="The id of the key that hashes or encrypts personal data."
    )
    serving: dict[str, Any] | None = Field(
        None, description="The rule `resize`, which a model applies itself when it is served."
    )
    label: dict[str, str | dict[str, str]] = Field(
        default_factory=dict, description="SHA-256 of files, and of the files of folders."
    )
    train: dict[str, Any] | None = Field(
        None, description="The champion: its version and the SHA-256 of its files."
    )
    export: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 of the files of the teacher."
    )
    libraries: dict[str, str] = Field(
        default_factory=dict, description="The versions of installed packages."
    )


class ResolvedRecipe(Contract):
    """A recipe with its defaults written out, and the fingerprints of its sources.

    In the file the sections of the recipe stand beside `sources`, so that DVC can watch each.
    """

    WRITTEN_BY: ClassVar[str] = "resolve"

    recipe: Recipe
    sources: SourceFingerprints = SourceFingerprints()

    @classmethod
    def parse(cls, content: Any, name: str) -> Self:
        """Check the content of a file in which the sections stand beside `sources`."""
        if isinstance(content, dict):
            sections = {key: content[key] for key in Recipe.model_fields if key in content}
            others = {key: value for key, value in content.items() if key not in sections}
            content = {**others, "recipe": sections}
        return super().parse(content, name)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        content = super().to_json()
        sections: dict[str, Any] = content.pop("recipe")
        return {**sections, **content}


def read_resolved_recipe(name: str) -> Recipe:
    """Read the recipe as the stage resolve has written it."""
    return ResolvedRecipe.read(resolved_path(name)).recipe


def read_fingerprints(name: str) -> SourceFingerprints:
    """Read the versions of what the recipe names."""
    return ResolvedRecipe.read(resolved_path(name)).sources


def resolved_path(name: str) -> Path:
    """Return where the resolved recipe lies."""
    return StagePaths.of_recipe(name).recipe
