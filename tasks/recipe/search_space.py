"""What tuning may try: checks the values in `tune.space` against the section that they are for."""

from functools import reduce
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.core.suggest import suggest_nearest
from tasks.recipe import errors

Model = type[BaseModel]
Values = dict[str, Any]  # by key; a key within a section is one of augment.shift

# Keys that make no better model, or only a luckier one.
UNTUNABLE_KEYS = {"checkpoint_seconds", "metric", "processes", "seed", "sha256", "shard"}


def validate_space(space: Values, section: Model, interval: Model) -> Values:
    """Complete each interval, and give its bounds the type of their key.

    Args:
        space: A list of values or an interval by the key of `section`.
        section: The section that the values are for.
        interval: The section that describes an interval.

    Raises:
        ValueError: Something is wrong; the message describes all of it.
    """
    options = {}
    mistakes = []
    for name, option in space.items():
        try:
            options[name] = parse_option(str(name), option, section, interval)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return options


def parse_option(name: str, option: object, section: Model, interval: Model) -> object:
    """Check what tuning may try for one key.

    Raises:
        ValueError: The key cannot be tuned, or does not take one of the values.
    """
    known = list_tunable_keys(section)
    if name not in known:
        raise ValueError(
            f"{name} is not a key of train that can be tuned{suggest_nearest(name, known)}; those "
            f"are {', '.join(known)}"
        )
    if isinstance(option, list):
        return parse_choices(name, option, section)
    if isinstance(option, dict):
        return parse_interval(name, option, section, interval)
    raise ValueError(
        f"{name}: {option!r} is neither a list of values nor an interval such as "
        "{low: 1e-4, high: 1e-3, log: true}"
    )


def parse_choices(name: str, choices: list[object], section: Model) -> list[object]:
    """Check a list of values."""
    if not choices:
        raise ValueError(f"{name} is an empty list: write the values to try")
    return [
        parse_value(f"{name}[{number}]", name, value, section)
        for number, value in enumerate(choices)
    ]


def parse_interval(name: str, limits: Values, section: Model, interval: Model) -> Values:
    """Check an interval, and its limits as values of the key."""
    try:
        parsed = interval.model_validate(limits).model_dump()
    except ValidationError as error:
        raise ValueError(errors.describe_error(interval, error.errors()[0], name)) from None
    for limit in ("low", "high"):
        parsed[limit] = parse_value(f"{name}.{limit}", name, limits[limit], section)
    return parsed


def parse_value(place: str, name: str, value: object, section: Model) -> object:
    """Return the value in the type of its key: 0 is 0.0 if fractions are allowed."""
    try:
        parsed = section.model_validate(set_nested({}, name, value))
    except ValidationError as error:
        messages = [item["msg"] for item in error.errors() if item["loc"]]
        if messages:
            raise ValueError(f"{place}: {value!r}: {errors.lower_first(messages[0])}") from None
        return value  # it is refused only together with the defaults of other keys
    return reduce(getattr, name.split("."), parsed)


def set_nested(values: Values, name: str, value: object) -> Values:
    """Return the values with one replaced, whose name may be that of augment.shift, say."""
    head, _, tail = name.partition(".")
    inner = set_nested(values.get(head, {}), tail, value) if tail else value
    return {**values, head: inner}


def list_tunable_keys(section: Model) -> list[str]:
    """List the keys that can be tuned, those of an inner section as augment.shift."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if errors.is_model(inner):
            names += [f"{name}.{key}" for key in list_tunable_keys(inner)]
        else:
            names.append(name)
    return sorted(set(names) - UNTUNABLE_KEYS)
