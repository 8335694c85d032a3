"""Loading."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe import defaults
from tasks.recipe.errors import describe_error
from tasks.recipe.recipe import Recipe

RECIPES_FOLDER = Path("recipes")
PARAMS_FILE = Path("params.yaml")


class StrictYamlLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, where PyYAML would keep the last, and that reads 1e-4 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


StrictYamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def list_registered_names() -> list[str]:
    """The names of the active recipes, from params.yaml."""
    try:
        names = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))["recipes"]
    except FileNotFoundError:
        raise ConfigError(
            f"{PARAMS_FILE} is not here: run millrace from the repository's root."
        ) from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise ConfigError(f"{PARAMS_FILE} must hold a list `recipes:` of names.") from None
    return [str(name) for name in names or []]


def load_recipe(name: str) -> Recipe:
    """The registered recipe of that name. Raises Mistake with every mistake in it."""
    names = list_registered_names()
    if name not in names:
        raise ConfigError(
            f"{name!r} is not a registered recipe{suggest_nearest(name, names)}. Registered: {', '.join(names)}. `millrace recipe add PATH` registers a file."
        )
    recipe = read_recipe(RECIPES_FOLDER / f"{name}.yaml")
    if recipe.name != name:
        raise ConfigError(
            f"{RECIPES_FOLDER / name}.yaml: name: {recipe.name!r} differs from the file's name; write name: {name}."
        )
    return recipe


def parse_yaml_file(path: Path, extends: bool = True) -> dict[Any, Any]:
    """What a recipe's file says; what it does not say is taken from the file of the recipe that it extends."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), StrictYamlLoader)  # noqa: S506  Loader is a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: give the path of a recipe.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: a recipe is a mapping that starts with name:, modality:, ingest:, gate:; this file holds {type(data).__name__}."
        )
    if extends and isinstance(data.get("extends"), str):
        data = {
            **parse_yaml_file(RECIPES_FOLDER / f"{data['extends']}.yaml", extends=False),
            **data,
        }
    return data


def read_recipe(path: Path) -> Recipe:
    """A recipe from a file, with the defaults of its modality filled in. Raises Mistake with every mistake, one a line."""
    filled, mistakes, unknown = (
        defaults.fill_defaults(parse_yaml_file(path)),
        dict[str, None](),
        list[Any]([()]),
    )
    while unknown:
        unknown = []
        try:
            recipe = Recipe.model_validate(filled)
        except ValidationError as error:
            mistakes |= dict.fromkeys(describe_error(Recipe, item) for item in error.errors())
            unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
            for location in unknown:  # without them pydantic goes on to what does not go together
                delete_location(filled, location)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError(
            "\n".join([f"{path} has {count}:", *(f"  {mistake}" for mistake in mistakes)])
        )
    return recipe


def delete_location(data: Any, location: tuple[Any, ...]) -> None:
    """Delete what is at a pydantic location, in which names of union members stand that no one wrote."""
    for part in location[:-1]:
        data = data[part] if isinstance(data, list) or part in data else data
    del data[location[-1]]
