"""Column roles: the columns that the recipe names become `id`, `text` or `image`, and `label`."""

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.recipe import Recipe
from tasks.rows import predefined_split, table_columns
from tasks.rows.table_columns import PART_COLUMN
from tasks.sources import ingest_settings
from tasks.sources.base import RowBatch
from tasks.storage import layout

UNLABELLED_TEXT = "text"  # the label of every row if a text is learnt whole


def rename_columns(table: pa.Table, recipe: Recipe, source: str) -> pa.Table:
    """Give the columns that have a role the pipeline's names.

    All values become text, except images, which are bytes.

    Raises:
        StageError: The source lacks a column that the recipe names, or has another one of the
            name that it would get.
    """
    if not table.column_names:  # a batch of files that are not read
        table = build_empty_table(recipe)
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


def build_empty_table(recipe: Recipe) -> pa.Table:
    """Build a table without rows that has the columns which the recipe names."""
    columns = {}
    for name in find_role_columns(recipe, []).values():
        columns[name] = pa.array([], pa.string())
    return pa.table(columns)


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
    roles = {role: column or role for role, column in named.items() if column or role in names}
    if recipe.split.column is not None:
        roles[PART_COLUMN] = recipe.split.column
    return roles


def check_role_columns(columns: dict[str, str], names: list[str], source: str) -> None:
    """Refuse a column that is not there, and one that would be hidden by another."""
    for role, column in columns.items():
        if column not in names:
            raise StageError(
                f"{source}: there is no column {column!r}{suggest_nearest(column, names)}. "
                f"It has {', '.join(names)}: correct {name_key(role)} in the recipe."
            )
        if role in names and role not in columns.values():
            raise StageError(
                f"{source}: the column {role!r} would be hidden by the one that {name_key(role)} "
                "names: rename it in the source."
            )


def name_key(role: str) -> str:
    """Return the key of the recipe that names the column of a role."""
    return "split.column" if role == PART_COLUMN else f"columns.{role}"


def append_part(table: pa.Table, recipe: Recipe, batch: RowBatch) -> pa.Table:
    """Append the part of a predefined split, if the file or folder of the rows says it.

    Raises:
        StageError: The name of a folder is that of no part, and the recipe does not say which.
    """
    patterns = recipe.split.file_patterns
    part = batch.split
    if patterns:
        part = predefined_split.find_file_part(batch.name, patterns)
    elif part is None:
        return table
    elif part not in layout.SPLITS:
        raise StageError(
            f"{batch.name}: the folder {part!r} is on the level of splits, and its name says "
            "neither train, val nor test: write which folders are which, as in split: "
            f"{{train: [{part}], test: [other]}}."
        )
    return table.append_column(PART_COLUMN, pa.array([part] * table.num_rows, pa.string()))


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
