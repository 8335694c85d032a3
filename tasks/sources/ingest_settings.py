"""What decides, beside the source itself, how its rows are written."""

from dataclasses import dataclass, replace

from tasks.contracts.snapshot import IdColumn
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.sources.erasure import ErasedIds
from tasks.storage import code_closure, hashing

# Kinds of sources that name their rows themselves.
KINDS_WITH_OWN_IDS = ("images", "package", "request_log")


@dataclass(frozen=True)
class IngestSettings:
    """The recipe, the ids to erase, and what a column `id` is taken for."""

    recipe: Recipe
    erased: ErasedIds
    id_column: IdColumn

    @classmethod
    def of_recipe(cls, recipe: Recipe, erased: ErasedIds) -> "IngestSettings":
        """Return the settings to begin with: a column `id` is believed to name the rows."""
        is_named = recipe.columns.id or recipe.ingest.kind in KINDS_WITH_OWN_IDS
        return cls(recipe, erased, IdColumn.NAMED if is_named else IdColumn.FOUND)

    def with_ordinary_id(self) -> "IngestSettings":
        """Return the same settings for a column `id` that does not name the rows."""
        return replace(self, id_column=IdColumn.ORDINARY)

    @property
    def id_columns(self) -> list[str]:
        """The columns of the written rows in which an id to erase may be."""
        if self.id_column == IdColumn.ORDINARY:
            return ["id", table_columns.ORDINARY_ID_COLUMN]
        return ["id"]

    def compute_cache_key(self) -> str:
        """Hash the code and the settings on which the bytes of every written file depend."""
        recipe = self.recipe
        settings = [
            recipe.ingest.model_dump(exclude={"path"}),
            recipe.columns,
            recipe.modality,
            is_label_made_later(recipe),
            recipe.split.column,
            recipe.split.file_patterns,
            self.id_column,
        ]
        return hashing.hash_json([code_closure.hash_stage_code("ingest"), settings])


def is_label_made_later(recipe: Recipe) -> bool:
    """Return whether labelling functions or people give the labels, so the source needs none."""
    return bool(recipe.label.functions or recipe.label.answers)
