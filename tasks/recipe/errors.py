"""Mistakes in a recipe as sentences: key, value, what is allowed, and the nearest valid name."""

import re
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from tasks.core import suggest

EXAMPLES = {
    "name": "name: support-desk",
    "modality": "modality: text",
    "ingest": "ingest: {kind: files, path: data/sources/mine.csv}",
    "gate": "gate: [{rule: floor, metric: macro_f1, bound: 0.8}]",
}


def describe_error(recipe: type[BaseModel], error: Any) -> str:
    """One mistake as `key: value: what is wrong, what is allowed`."""
    location = [part for part in error["loc"] if part not in ("function-after", "function-before")]
    model, keys = locate_model(recipe, location)
    key = (
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).lstrip(".")
        or "recipe"
    )
    given = error["input"]
    shown = (
        re.sub(r"://[^/'\"]*@", "://…@", repr(given))
        if not isinstance(given, (dict, list))
        else type(given).__name__
    )
    kind, context = error["type"], error.get("ctx", {})
    example = f", for example `{EXAMPLES[key]}`" if key in EXAMPLES else ""
    if kind == "extra_forbidden":
        known = sorted(model.model_fields) if model else []
        return f"{key}: is not a known key{suggest.suggest_nearest(str(keys[-1]), known)}. Known here: {', '.join(known)}."
    if kind == "missing":
        return f"{key}: is missing; add it{example}."
    if kind == "literal_error":
        allowed = re.findall("'([^']+)'", context["expected"])
        return f"{key}: {shown} is not allowed{suggest.suggest_nearest(str(given), allowed)}. Allowed: {', '.join(allowed)}."
    if kind == "union_tag_invalid":
        return f"{key}.{context['discriminator'].strip(chr(39))}: {context['tag']!r} is not known. Allowed: {context['expected_tags']}."
    if kind == "union_tag_not_found":
        return f"{key}: has no {context['discriminator']} key; add it{example}."
    if kind == "value_error":
        return f"{key}: {context['error']}."
    return f"{key}: {shown}: {error['msg'][0].lower()}{error['msg'][1:]}."


def locate_model(
    recipe: type[BaseModel], location: list[Any]
) -> tuple[type[BaseModel] | None, list[Any]]:
    """The model that a pydantic location ends in, and the location without the names of union members, which no one wrote."""
    model: Any = recipe
    parent: type[BaseModel] | None = recipe
    keys: list[Any] = []
    for part in location:
        models = [
            member
            for member in get_args(model)
            if isinstance(member, type) and issubclass(member, BaseModel)
        ]
        members = {
            get_args(one.model_fields[tag].annotation)[0]: one
            for one in models
            for tag in ("kind", "rule")
            if tag in one.model_fields
        }
        if part in members:
            model = parent = members[part]
            continue
        keys.append(part)
        if isinstance(part, int):
            model = unwrap_annotation(next(iter(get_args(unwrap_annotation(model))), None))
        elif get_origin(model) is dict:
            model = unwrap_annotation(get_args(model)[1])
        else:
            parent = model if isinstance(model, type) and issubclass(model, BaseModel) else None
            field = parent.model_fields.get(str(part)) if parent else None
            model = unwrap_annotation(field.annotation) if field else None
    return parent, keys


def unwrap_annotation(annotation: Any) -> Any:
    """Take Annotated and `| None` off a type."""
    if get_origin(annotation) is Annotated:
        return unwrap_annotation(get_args(annotation)[0])
    members = [member for member in get_args(annotation) if member is not type(None)]
    return (
        unwrap_annotation(members[0])
        if len(members) == 1 and type(None) in get_args(annotation)
        else annotation
    )
