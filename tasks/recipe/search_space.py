"""What tuning may try: the names in `tune.space` and their values, checked against the section of the recipe that they are for."""

from functools import reduce
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.core.suggest import suggest_nearest
from tasks.recipe.errors import describe_error

UNTUNABLE_KEYS = {
    "checkpoint_seconds",
    "metric",
    "processes",
    "seed",
    "sha256",
    "shard",
}  # they make no better model, or only a luckier one


def validate_space(
    given: dict[str, Any], section: type[BaseModel], interval: type[BaseModel]
) -> dict[str, Any]:
    """The space with each interval complete and its bounds in the type of their key. Raises ValueError with what is wrong."""
    made, told = {}, []
    for name, option in given.items():
        try:
            made[name] = parse_option(str(name), option, section, interval)
        except ValueError as error:
            told.append(f"{name}{error}")
    if told:
        raise ValueError("; ".join(told))
    return made


def parse_option(
    name: str, option: Any, section: type[BaseModel], interval: type[BaseModel]
) -> Any:
    known = list_tunable_keys(section)
    if name not in known:
        raise ValueError(
            f" is not a key of train that can be tuned{suggest_nearest(name, known)}; those are {', '.join(known)}"
        )
    if isinstance(option, list):
        if not option:
            raise ValueError(" is an empty list: write the values to try")
        return [
            parse_value(f"[{number}]", name, value, section) for number, value in enumerate(option)
        ]
    if not isinstance(option, dict):
        raise ValueError(
            f": {option!r} is neither a list of values nor an interval such as {{low: 1e-4, high: 1e-3, log: true}}"
        )
    try:
        made = interval.model_validate(option).model_dump()
    except ValidationError as error:
        raise ValueError(
            f".{describe_error(interval, error.errors()[0]).rstrip('.')}".replace(".recipe: ", ": ")
        ) from None
    return made | {
        bound: parse_value(f".{bound}", name, option[bound], section) for bound in ("low", "high")
    }


def parse_value(place: str, name: str, value: Any, section: type[BaseModel]) -> Any:
    """The value as its key has it: 0 is 0.0 where fractions are allowed."""
    try:
        return reduce(getattr, name.split("."), section.model_validate(set_nested({}, name, value)))
    except ValidationError as error:
        if wrong := [item["msg"] for item in error.errors() if item["loc"]]:
            raise ValueError(f"{place}: {value!r}: {wrong[0][0].lower()}{wrong[0][1:]}") from None
        return value  # only together with the defaults of other keys it is not allowed


def set_nested(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The values with that of augment.shift, say, in its place."""
    head, _, tail = name.partition(".")
    return {**values, head: set_nested(values.get(head, {}), tail, value) if tail else value}


def list_tunable_keys(section: type[BaseModel]) -> list[str]:
    """The keys that can be tuned, those of a section within it as augment.shift."""
    found = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        found += (
            [f"{name}.{one}" for one in list_tunable_keys(inner)]
            if nested
            else [name]
            if name not in UNTUNABLE_KEYS
            else []
        )  # type: ignore[arg-type]
    return sorted(found)
