"""Column roles: the columns that the recipe names become `id`, `text` or `image`, and `label`."""

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.sources import ingest_settings

UNLABELLED_TEXT = "text"  # the label of every row if a text is learnt whole


def rename_columns(table: pa.Table, recipe: Recipe, source: str) -> pa.Table:
    """Give the columns that have a role the pipeline's names.

    All values become text, except images, which are bytes.

    Raises:
        StageError: The source lacks a column that the recipe names, or has another one of the
            name that it would get.
    """
    table = add_missing_label(table, recipe)
    columns = find_role_columns(recipe, table.column_names)
    check_role_columns(columns, table.column_names, source)
    others = [name for name in table.column_names if name not in columns.values()]
    cells = {role: table[column] for role, column in columns.items()}
    cells |= {name: table[name] for name in others}
    return pa.table(
        {
            name: column if holds_bytes(name, recipe) else table_columns.convert_to_text(column)
            for name, column in cells.items()
        }
    )


def add_missing_label(table: pa.Table, recipe: Recipe) -> pa.Table:
    """Append a label column if the source needs none."""
    name = recipe.columns.label
    if name is None:
        if "label" in table.column_names:
            return table
        # The later stages count labels.
        labels = pa.array([UNLABELLED_TEXT] * table.num_rows, pa.string())
        return table.append_column("label", labels)
    if name in table.column_names or not ingest_settings.is_label_made_later(recipe):
        return table
    return table.append_column(name, pa.nulls(table.num_rows, pa.string()))


def find_role_columns(recipe: Recipe, names: list[str]) -> dict[str, str]:
    """Return the source's column for each role: the one that the recipe names, or its own."""
    content = CONTENT_COLUMN[recipe.modality] or ""  # the content of a table is no one column
    named = {
        "id": recipe.columns.id,
        content: getattr(recipe.columns, content, None),
        "label": recipe.columns.label,
    }
    return {role: column or role for role, column in named.items() if column or role in names}


def check_role_columns(columns: dict[str, str], names: list[str], source: str) -> None:
    """Refuse a column that is not there, and one that would be hidden by another."""
    for role, column in columns.items():
        if column not in names:
            raise StageError(
                f"{source}: there is no column {column!r}{suggest_nearest(column, names)}. "
                f"It has {', '.join(names)}: correct columns.{role} in the recipe."
            )
        if role in names and role not in columns.values():
            raise StageError(
                f"{source}: the column {role!r} would be hidden by the one that columns.{role} "
                "names: rename it in the source."
            )


def holds_bytes(name: str, recipe: Recipe) -> bool:
    """Return whether a column holds the images of a recipe for images."""
    return name == "image" == CONTENT_COLUMN[recipe.modality]


def rename_ordinary_id(table: pa.Table, source: str) -> pa.Table:
    """Give the column `id`, which does not name the rows, another name.

    Raises:
        StageError: The source has a column of that other name.
    """
    names = table.column_names
    new_name = table_columns.ORDINARY_ID_COLUMN
    if "id" in names and new_name in names:
        raise StageError(
            f"{source}: the column 'id' repeats or lacks values, and the name that it would get, "
            f"{new_name!r}, is taken: rename one of them in the source, or name the column of ids "
            "in columns.id."
        )
    return table.rename_columns([new_name if name == "id" else name for name in names])
