"""Finds, reads and checks recipes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe import defaults
from tasks.recipe.defaults import Values
from tasks.recipe.errors import describe_error
from tasks.recipe.recipe import NAME_PATTERN, Recipe
from tasks.recipe.yaml_file import read_yaml

RECIPES_FOLDER = Path("recipes")
PARAMS_FILE = Path("params.yaml")
MAX_SHOWN_MISTAKES = 20


def list_registered_names() -> list[str]:
    """List the names of the registered recipes, from params.yaml.

    Raises:
        ConfigError: The file is missing or holds no list of names.
    """
    try:
        params = read_yaml(PARAMS_FILE)
    except FileNotFoundError:
        message = f"{PARAMS_FILE} is not here: run millrace from the repository's root."
        raise ConfigError(message) from None
    names = params.get("recipes", ()) if isinstance(params, dict) else ()
    if not isinstance(names, list | None):
        raise ConfigError(f"{PARAMS_FILE} must hold a list `recipes:` of names.")
    return [str(name) for name in names or []]


def load_recipe(name: str) -> Recipe:
    """Read the registered recipe of that name.

    Raises:
        ConfigError: No recipe of that name is registered, or it has mistakes.
    """
    names = list_registered_names()
    if name not in names:
        raise ConfigError(
            f"{name!r} is not a registered recipe{suggest_nearest(name, names)}. "
            f"Registered: {', '.join(names)}. `millrace recipe add PATH` registers a file."
        )
    path = RECIPES_FOLDER / f"{name}.yaml"
    recipe = read_recipe(path)
    if recipe.name != name:
        raise ConfigError(
            f"{path}: name: {recipe.name!r} differs from the file's name; write name: {name}."
        )
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a recipe and fill in the defaults of its modality.

    Raises:
        ConfigError: It has mistakes; the message describes them, one a line.
    """
    values = defaults.fill_defaults(read_with_parent(path))
    mistakes = find_mistakes(values)
    if mistakes:
        raise ConfigError(f"{path} has {describe_mistakes(mistakes)}")
    return Recipe.model_validate(values)


def describe_mistakes(mistakes: Sequence[ErrorDetails]) -> str:
    """Describe mistakes, one a line; of very many the first."""
    sentences = dict.fromkeys(
        describe_error(Recipe, mistake) for mistake in mistakes[:MAX_SHOWN_MISTAKES]
    )
    n_more = len(mistakes) - MAX_SHOWN_MISTAKES
    n_mistakes = len(sentences) + max(n_more, 0)
    lines = ["1 mistake:" if n_mistakes == 1 else f"{n_mistakes:,} mistakes:"]
    lines += [f"  {sentence}." for sentence in sentences]
    if n_more > 0:
        lines.append(f"  And {n_more:,} more.")
    return "\n".join(lines)


def read_with_parent(path: Path) -> Values:
    """Read a recipe's sections; those that it lacks come from the recipe that it extends."""
    values = read_sections(path)
    parent = values.get("extends")
    if not isinstance(parent, str) or not re.fullmatch(NAME_PATTERN, parent):
        return values
    return read_sections(RECIPES_FOLDER / f"{parent}.yaml") | values


def read_sections(path: Path) -> Values:
    """Read the sections that a recipe's file holds.

    Raises:
        ConfigError: The file is missing or holds no mapping.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: give the path of a recipe.") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a recipe is a mapping that starts with name:, modality:, ingest:, gate:; "
            f"this file holds {type(values).__name__}."
        )
    return values


def find_mistakes(values: Values) -> list[ErrorDetails]:
    """Find every mistake in a recipe.

    Pydantic checks keys together only where all keys are known, so unknown ones are collected,
    deleted from `values`, and the rest is checked again.
    """
    mistakes: dict[tuple[object, ...], ErrorDetails] = {}
    while True:
        errors = validate(values)
        for item in errors:
            mistakes.setdefault((*item["loc"], item["type"], item["msg"]), item)
        unknown = [item["loc"] for item in errors if item["type"] == "extra_forbidden"]
        if not unknown:
            return list(mistakes.values())
        for location in unknown:
            delete_location(values, location)


def validate(values: Values) -> list[ErrorDetails]:
    """Return pydantic's errors for a recipe."""
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def delete_location(values: Any, location: tuple[Any, ...]) -> None:
    """Delete the value at a pydantic location, which also names the members of unions."""
    *parents, last = location
    for part in parents:
        is_key = isinstance(values, list) or part in values
        values = values[part] if is_key else values
    del values[last]
