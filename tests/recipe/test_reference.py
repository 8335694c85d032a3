"""docs/recipe.md and the JSON schema: every key is described, and the examples are recipes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks.recipe.cleaning_rules import CLEANING_RULES
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tests import recipe_reference

SCHEMA = Recipe.model_json_schema()


def find_keys(schema: Any, path: str = "") -> Iterator[tuple[str, recipe_reference.Schema]]:
    """Find the keys of all sections, wherever they are in a JSON schema."""
    if isinstance(schema, list):
        for item in schema:
            yield from find_keys(item, path)
    elif isinstance(schema, dict):
        for name, value in schema.get("properties", {}).items():
            yield f"{path}.{name}", value
        for name, value in schema.items():
            yield from find_keys(value, f"{path}.{name}")


def test_the_reference_is_fresh() -> None:
    page = recipe_reference.Reference(SCHEMA).render_page()
    message = "run `python -m tests.recipe_reference --write`"
    assert recipe_reference.PAGE.read_text(encoding="utf-8") == page, message


def test_every_key_has_a_description() -> None:
    keys = dict(find_keys(SCHEMA))
    assert len(keys) > 150
    assert not [
        path
        for path, value in keys.items()
        if "description" not in value and "const" not in value and "$ref" not in value
    ]


def test_every_section_and_rule_is_on_the_page() -> None:
    page = recipe_reference.PAGE.read_text(encoding="utf-8")
    assert not [name for name in recipe_reference.EXAMPLES if name and f"\n## {name}\n" not in page]
    assert not [name for name in CLEANING_RULES if f"\n### clean.rules: {name}\n" not in page]


@pytest.mark.parametrize("section", list(recipe_reference.EXAMPLES))
def test_the_example_of_a_section_is_valid(section: str, tmp_path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(recipe_reference.EXAMPLES[""])
    values |= yaml.load(recipe_reference.EXAMPLES[section])
    path = tmp_path / "recipe.yaml"
    yaml.dump(values, path)
    assert section == "" or section in read_recipe(path).model_fields_set


def test_the_schema_has_every_section() -> None:
    assert set(SCHEMA["properties"]) == set(Recipe.model_fields)


def test_the_schema_shows_the_arguments_of_cleaning_rules() -> None:
    names, calls = SCHEMA["$defs"]["Clean"]["properties"]["rules"]["items"]["anyOf"]
    assert names["enum"] == list(calls["properties"]) == list(CLEANING_RULES)
    [length] = calls["properties"]["length"]["anyOf"]
    assert set(length["properties"]) == {"min", "max"}
