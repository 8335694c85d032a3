"""Which rules of a recipe are applied part by part, and which to all rows at once."""

from dataclasses import dataclass

from tasks.cleaning import RULES
from tasks.cleaning.rules import RuleCall, Scope
from tasks.recipe.recipe import Recipe


@dataclass(frozen=True)
class RulePlan:
    """The rules of a recipe, divided by what they have to see."""

    streamed: list[RuleCall]  # applied to one part after the other
    whole: list[RuleCall]  # applied afterwards, to all rows at once
    pii_kinds: frozenset[str]  # kinds of personal data that no report may show

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "RulePlan":
        """Cut the rules of a recipe before the first one that needs all rows."""
        calls = []
        for item in recipe.clean.rules:
            if isinstance(item, dict):
                [(name, arguments)] = item.items()
                calls.append(RULES[name].bind(arguments, recipe.modality))
        cut = count_streamed(calls)
        kinds: set[str] = set()
        for call in calls:
            if call.name == "pii":
                kinds.update(call.arguments["kinds"])
        return cls(calls[:cut], calls[cut:], frozenset(kinds))


def count_streamed(calls: list[RuleCall]) -> int:
    """Count the rules before the first one that cannot be applied part by part.

    `exact_duplicates` can, because it remembers the rows of earlier parts, but only once.
    """
    names: set[str] = set()
    for number, call in enumerate(calls):
        is_second_memory = call.name == "exact_duplicates" and call.name in names
        if call.rule.scope is Scope.TABLE or is_second_memory:
            return number
        names.add(call.name)
    return len(calls)
