"""Describes mistakes in a recipe: the key, its value, what is allowed, and the nearest name."""

import re
from types import UnionType
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tasks.core.errors import cut_middle
from tasks.core.suggest import suggest_nearest

Model = type[BaseModel]

MAX_MISTAKE_CHARACTERS = 1000
MAX_VALUE_CHARACTERS = 200
MAX_KEY_CHARACTERS = 60
TAG_KEYS = ("kind", "rule")  # keys whose value says which section of several is meant
EXAMPLES = {
    "name": "name: support-desk",
    "modality": "modality: text",
    "ingest": "ingest: {kind: files, path: data/sources/mine.csv}",
    "gate": "gate: [{rule: floor, metric: macro_f1, bound: 0.8}]",
}


def describe_error(model: Model, error: ErrorDetails, prefix: str = "") -> str:
    """Describe one mistake as `key: value: what is wrong, what is allowed`.

    Args:
        model: The section that was checked.
        error: One of pydantic's errors.
        prefix: The key of that section, such as `tune.space`.
    """
    section, keys = locate(model, error["loc"])
    key = format_key([prefix, *keys] if prefix else keys)
    value = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            reason = describe_unknown_key(str(keys[-1]), section)
        case "missing":
            reason = f"is missing; add it{describe_example(key)}"
        case "union_tag_not_found":
            reason = f"has no {context['discriminator']} key; add it{describe_example(key)}"
        case "union_tag_invalid":
            tag = format_input(context["tag"])
            reason = f"{tag} is not known. Allowed: {context['expected_tags']}"
            key += "." + context["discriminator"].strip("'")
        case "literal_error":
            reason = describe_wrong_choice(value, context["expected"])
        case "value_error":
            reason = str(context["error"])
        case _:
            reason = f"{format_input(value)}: {lower_first(error['msg'])}"
    return cut_middle(f"{key}: {reason}", MAX_MISTAKE_CHARACTERS)


def describe_unknown_key(name: str, section: Model | None) -> str:
    """Describe a key that its section does not have."""
    known = sorted(section.model_fields) if section else []
    return f"is not a known key{suggest_nearest(name, known)}. Known here: {', '.join(known)}"


def describe_wrong_choice(value: object, expected: str) -> str:
    """Describe a value that is not among those that pydantic names in `expected`."""
    allowed = re.findall("'([^']+)'", expected)
    suggestion = suggest_nearest(str(value), allowed)
    return f"{format_input(value)} is not allowed{suggestion}. Allowed: {', '.join(allowed)}"


def describe_example(key: str) -> str:
    """Show how a key that every recipe needs is written."""
    return f", for example `{EXAMPLES[key]}`" if key in EXAMPLES else ""


def format_input(value: object) -> str:
    """Show a value without the user and password of a URL, and of a collection its type alone."""
    if isinstance(value, dict | list):
        return type(value).__name__
    shown = re.sub(r"://[^/'\"]*@", "://…@", repr(value))
    return cut_middle(shown, MAX_VALUE_CHARACTERS)


def format_key(keys: list[str | int]) -> str:
    """Write keys and positions as `gate[1].bound`."""
    parts = [f"[{key}]" if isinstance(key, int) else f".{shorten_key(key)}" for key in keys]
    return "".join(parts).lstrip(".") or "recipe"


def shorten_key(key: str) -> str:
    """Return a key, cut to a readable length."""
    return cut_middle(key, MAX_KEY_CHARACTERS)


def lower_first(text: str) -> str:
    """Begin a sentence of pydantic's in lower case."""
    return text[0].lower() + text[1:]


def locate(model: Model, location: tuple[str | int, ...]) -> tuple[Model | None, list[str | int]]:
    """Find the section that a pydantic location ends in, and the keys that lead to the value.

    The location also names the member of a union that was tried (`files`, `str`), which is no key
    of the recipe and so is left out.
    """
    annotation: object = model
    section: Model | None = model
    keys: list[str | int] = []
    for part in location:
        members = union_members(annotation)
        if len(members) > 1:
            annotation = find_member(members, part)
            section = annotation if is_model(annotation) else section
            continue
        keys.append(part)
        annotation = members[0] if members else None
        if is_model(annotation):
            section = annotation
        elif get_origin(annotation) not in {list, dict}:
            section = None
        annotation = step_into(annotation, part)
    return section, keys


def union_members(annotation: object) -> list[object]:
    """List the members of a union except None; of another type itself."""
    annotation = unwrap_annotated(annotation)
    if get_origin(annotation) not in {Union, UnionType}:
        return [annotation]
    members = [unwrap_annotated(member) for member in get_args(annotation)]
    return [member for member in members if member is not type(None)]


def unwrap_annotated(annotation: object) -> object:
    """Take the constraints off a type."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def find_member(members: list[object], name: str | int) -> object:
    """Find the member of a union that pydantic names in a location; None if none has that name."""
    for member in members:
        if is_model(member):
            matches = name in tags_of(member)
        else:
            type_name = getattr(get_origin(member) or member, "__name__", "").lower()
            matches = str(name).partition("[")[0] == type_name
        if matches:
            return member
    return None


def tags_of(model: Model) -> set[str]:
    """Collect the values of `kind` or `rule` that choose a section."""
    tags = {model.__name__}
    for key in TAG_KEYS:
        field = model.model_fields.get(key)
        if field and get_origin(field.annotation) is Literal:
            tags.update(get_args(field.annotation))
    return tags


def step_into(annotation: object, part: str | int) -> object:
    """Return the type of an element of a list, of a value of a mapping, or of a section's key."""
    if get_origin(annotation) is list:
        return get_args(annotation)[0]
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if is_model(annotation) and part in annotation.model_fields:
        return annotation.model_fields[part].annotation
    return None


def is_model(annotation: object) -> TypeGuard[Model]:
    """Tell whether a type is a section of the recipe."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
