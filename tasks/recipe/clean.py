"""The section `clean`: the cleaning rules and their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.core.suggest import suggest_nearest
from tasks.recipe.base import Section
from tasks.recipe.cleaning_rules import (
    ColumnTypes,
    ImageSize,
    LanguageFilter,
    LengthLimits,
    MissingValues,
    NearDuplicates,
    Outliers,
    Pii,
    Repair,
    Spelling,
    Trim,
    ValueRanges,
)
from tasks.recipe.errors import describe_error

RuleCall = str | dict[str, Any]  # a rule's name, or {name: arguments}

TEXTS = ("text", "causal_lm")
TEXTS_AND_IMAGES = ("text", "image", "causal_lm")
IMAGES = ("image",)


@dataclass(frozen=True)
class RuleSchema:
    """What a recipe may say about a cleaning rule."""

    description: str
    arguments: type[Section] | None = None
    modalities: Sequence[str] = ()  # those that it works on; all if there are none
    reason: str = ""  # why it rejects rows; empty if it rejects none


def with_arguments(
    arguments: type[Section], modalities: Sequence[str] = (), reason: str = ""
) -> RuleSchema:
    """Describe a rule by its arguments."""
    return RuleSchema(str(arguments.__doc__).splitlines()[0], arguments, modalities, reason)


CLEANING_RULES: dict[str, RuleSchema] = {
    "encoding": RuleSchema("Undo wrong encodings (mojibake), by ftfy.", modalities=TEXTS),
    "html": RuleSchema("Take out HTML tags, and the entities beside them.", modalities=TEXTS),
    "unicode": RuleSchema("Normalize to Unicode NFC.", modalities=TEXTS),
    "white_space": RuleSchema(
        "Make runs of blanks one blank, and of empty lines one line.", modalities=TEXTS
    ),
    "control": RuleSchema("Take out control and invisible characters.", modalities=TEXTS),
    "pii": with_arguments(Pii, reason="they hold personal data"),
    "language": with_arguments(
        LanguageFilter, TEXTS, reason="they are in a language that is not allowed"
    ),
    "length": with_arguments(LengthLimits, TEXTS, reason="they are too short or too long"),
    "unreadable": RuleSchema(
        "Drop images that cannot be decoded, or whose size differs from that of most.",
        modalities=IMAGES,
        reason="they are not readable images",
    ),
    "size": with_arguments(ImageSize, IMAGES, reason="they are images of another size"),
    "trim": with_arguments(Trim),
    "missing": with_arguments(MissingValues),
    "types": with_arguments(ColumnTypes, reason="a cell does not have its column's type"),
    "spelling": with_arguments(Spelling),
    "range": with_arguments(ValueRanges, reason="a cell is outside its column's range"),
    "outliers": with_arguments(Outliers, reason="a cell is an outlier"),
    "repair": with_arguments(Repair),
    "exact_duplicates": RuleSchema(
        "Drop all but the first of rows with equal content.",
        reason="an earlier row has the same content",
    ),
    "conflicting_duplicates": RuleSchema(
        "Drop all rows with equal content whose labels differ; letter case and white space are "
        "ignored.",
        reason="rows of the same content have other labels",
    ),
    "near_duplicates": with_arguments(
        NearDuplicates, TEXTS_AND_IMAGES, reason="an earlier row has nearly the same content"
    ),
}


def describe_rule(rule: RuleSchema) -> str:
    """Describe a rule, and the modalities that it works on if not all."""
    if not rule.modalities:
        return rule.description
    return f"{rule.description} For the modality {' or '.join(rule.modalities)}."


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

    def typed_columns(self) -> Iterator[str]:
        """Iterate over the columns that the rule `types` reads."""
        for call in self.rules:
            name, arguments = split_call(call)
            if name == "types":
                yield from arguments["columns"]
