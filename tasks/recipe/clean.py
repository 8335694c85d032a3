"""The section `clean`: the cleaning rules and their order."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.core.suggest import suggest_nearest
from tasks.recipe.base import Section
from tasks.recipe.cleaning_rules import CLEANING_RULES, Pii, describe_rule
from tasks.recipe.errors import describe_error

RuleCall = str | dict[str, Any]  # a rule's name, or {name: arguments}


def validate_rules(calls: list[RuleCall]) -> list[RuleCall]:
    """Check the rules and complete their arguments; each becomes {name: arguments}."""
    completed: list[RuleCall] = [complete_rule(*split_call(call)) for call in calls]
    names = [split_call(call)[0] for call in completed]
    if "conflicting_duplicates" in names:
        before = names[: names.index("conflicting_duplicates")]
        if "exact_duplicates" in before:
            raise ValueError(
                "conflicting_duplicates must come before exact_duplicates, which leaves one of "
                "equal rows whatever their labels"
            )
    return completed


def split_call(call: RuleCall) -> tuple[str, Any]:
    """Split a rule into its name and its arguments."""
    if isinstance(call, str):
        return call, {}
    if len(call) != 1:
        raise ValueError(
            "each rule is a name or one name with its arguments, as in {length: {min: 3}}"
        )
    [(name, arguments)] = call.items()
    return name, arguments


def complete_rule(name: str, arguments: object) -> RuleCall:
    """Check the arguments of a rule and fill in the defaults.

    Raises:
        ValueError: There is no such rule, or its arguments are wrong.
    """
    if name not in CLEANING_RULES:
        raise ValueError(
            f"{name!r} is not a cleaning rule{suggest_nearest(name, CLEANING_RULES)}; the rules "
            f"are {', '.join(CLEANING_RULES)}"
        )
    model = CLEANING_RULES[name].arguments
    if model is None:
        if arguments:
            raise ValueError(f"{name} takes no arguments")
        return {name: {}}
    if model is Pii and isinstance(arguments, str):
        arguments = {"action": arguments}
    if not isinstance(arguments, dict):
        raise ValueError(
            f"{name} takes its arguments by name, as in {{length: {{min: 3}}}}, not {arguments!r}"
        )
    try:
        return {name: model.model_validate(arguments).model_dump()}
    except ValidationError as error:
        sentences = [describe_error(model, item, name) for item in error.errors()]
        raise ValueError("; ".join(sentences)) from None


class RulesJsonSchema:
    """Shows the names and arguments of the rules in the JSON schema of the list."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Replace what the types say, which is any text and any mapping."""
        schema = handler(core_schema)
        properties: dict[str, Any] = {}
        for name, rule in CLEANING_RULES.items():
            model = rule.arguments
            arguments = handler(model.__pydantic_core_schema__) if model else {"type": "object"}
            properties[name] = {"description": describe_rule(rule), "anyOf": [arguments]}
        short_pii = {"enum": list(get_args(Pii.model_fields["action"].annotation))}
        properties["pii"]["anyOf"].append(short_pii)
        call = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "maxProperties": 1,
        }
        return schema | {"items": {"anyOf": [{"enum": list(CLEANING_RULES)}, call]}}


class Clean(Section):
    """Cleaning rules, applied in this order."""

    rules: Annotated[list[RuleCall], AfterValidator(validate_rules), RulesJsonSchema()] = Field(
        description="The rules, each by its name, or as {name: {argument: value}}. By default "
        "those of the modality."
    )

    def rule_names(self) -> Iterator[str]:
        """Iterate over the names of the rules."""
        return (split_call(call)[0] for call in self.rules)

    def last_arguments(self, name: str) -> dict[str, Any] | None:
        """Return the arguments of the last rule of this name; None if there is none."""
        arguments = [arguments for rule, arguments in map(split_call, self.rules) if rule == name]
        return arguments[-1] if arguments else None

    def typed_columns(self) -> Iterator[str]:
        """Iterate over the columns that the rule `types` reads."""
        for call in self.rules:
            name, arguments = split_call(call)
            if name == "types":
                yield from arguments["columns"]
