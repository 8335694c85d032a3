"""Floors and ceilings: a number of an evaluation, found by its path, against a bound.

A number that is not there never meets a bound.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import JsonValue

from tasks.contracts.gate_verdict import AnyResult, Outcome, ThresholdResult
from tasks.core.suggest import suggest_nearest
from tasks.recipe.gate import ThresholdRule

OUTCOMES_WORST_FIRST: tuple[Outcome, ...] = ("fail", "inconclusive", "pass", "skipped")
UNMET_OUTCOMES: tuple[Outcome, ...] = ("fail", "inconclusive")
MAX_OTHERS = 3  # numbers that are named beside the worst
GROUP_KEYS = {"rows", "support", "range"}  # what a group holds besides what was measured on it
DIGITS = 6


@dataclass(frozen=True)
class Entry:
    """What an evaluation holds at a path."""

    path: str
    content: JsonValue  # a number, an interval, a group; None if it was not measured
    rows: int | None  # that it was measured on, if the evaluation says so
    problem: str = ""  # why the path leads nowhere


@dataclass(frozen=True)
class Measurement:
    """A number, with its interval if it has one."""

    value: int | float
    low: int | float | None
    high: int | float | None


def find_entries(
    content: JsonValue, path: str, parent: str = "", rows: int | None = None
) -> Iterator[Entry]:
    """Find what an evaluation holds at a path.

    Args:
        content: The evaluation, or a part of it.
        path: Keys joined by dots. `*` stands for each key. Keys may hold dots themselves, so
            the longest key that fits is taken.
        parent: The path of `content`.
        rows: How many rows `content` was measured on.

    Yields:
        An entry for each number that the path stands for. One with a problem if there is none.
    """
    if not path:
        yield Entry(parent, content, rows)
        return
    group = content if isinstance(content, dict) else {}
    rows = count_rows(group, rows)
    keys, rest = match_keys(group, path)
    for key in keys:
        yield from find_entries(group[key], rest, join_path(parent, key), rows)
    if not keys:
        yield describe_missing_entry(group, path, parent, rows)


def count_rows(group: dict[str, JsonValue], rows: int | None) -> int | None:
    """Return how many rows a group was measured on; by default as many as its parent."""
    count = group.get("rows", group.get("support", rows))
    return count if isinstance(count, int) else None


def match_keys(group: dict[str, JsonValue], path: str) -> tuple[list[str], str]:
    """Return the keys of a group that a path begins with, and the rest of the path."""
    if path.startswith("*"):
        return match_any_key(group, path.partition(".")[2])
    fitting = [key for key in group if f"{path}.".startswith(f"{key}.")]
    if not fitting:
        return [], ""
    longest = max(fitting, key=len)
    return [longest], path[len(longest) + 1 :]


def match_any_key(group: dict[str, JsonValue], rest: str) -> tuple[list[str], str]:
    """Return the keys of a group under which the rest of a path can lie, and the rest."""
    if not rest:
        return sorted(group), rest
    return [key for key in sorted(group) if isinstance(group[key], dict)], rest


def join_path(parent: str, key: str) -> str:
    """Return the path of a key in a group."""
    return f"{parent}.{key}" if parent else key


def describe_missing_entry(
    group: dict[str, JsonValue], path: str, parent: str, rows: int | None
) -> Entry:
    """Return the entry for a path that leads nowhere, or to a group with too few rows."""
    full_path = join_path(parent, path)
    if group and set(group) <= GROUP_KEYS:
        return Entry(full_path, None, rows)
    first = path.partition(".")[0]
    contents = f"it has {', '.join(group)}" if group else "nothing is there"
    problem = (
        f"{parent or 'The evaluation'} has no {first!r}{suggest_nearest(first, group)}, so the "
        f"rule on {full_path} fails: {contents}."
    )
    return Entry(full_path, None, rows, problem)


def check_threshold(rule: ThresholdRule, entry: Entry) -> ThresholdResult:
    """Hold an entry against the rule's bound.

    If the whole interval has to meet the bound and only a part of it does, more rows would
    decide, so the outcome is inconclusive.
    """
    if entry.problem:
        return build_result(rule, entry.path, "fail", entry.problem)
    if entry.rows is not None and is_unmeasured(entry.content):
        outcome: Outcome = "inconclusive" if entry.rows else "fail"
        return build_result(rule, entry.path, outcome, describe_too_few_rows(entry))
    number = read_measurement(entry.content)
    if number is None:
        return build_result(rule, entry.path, "fail", describe_non_number(entry))
    if rule.on == "interval" and not has_interval(number):
        return build_result(rule, entry.path, "fail", describe_missing_interval(entry, number))
    return compare_with_bound(rule, entry, number)


def is_unmeasured(content: JsonValue) -> bool:
    """Return whether an entry is a number that could not be measured."""
    if isinstance(content, dict):
        return "value" in content and content["value"] is None
    return content is None


def read_measurement(content: JsonValue) -> Measurement | None:
    """Return the number of an entry, or None if it is no finite one."""
    if not isinstance(content, dict):
        return Measurement(content, None, None) if is_finite_number(content) else None
    value = content.get("value")
    if not is_finite_number(value):
        return None
    low = content.get("low")
    high = content.get("high")
    return Measurement(
        value,
        low if is_finite_number(low) else None,
        high if is_finite_number(high) else None,
    )


def has_interval(number: Measurement) -> bool:
    """Return whether both ends of the interval are known."""
    return number.low is not None and number.high is not None


def compare_with_bound(rule: ThresholdRule, entry: Entry, number: Measurement) -> ThresholdResult:
    """Compare a number, or its whole interval, with the bound."""
    pessimistic, optimistic = order_ends(rule, number)
    shortfall = shortfall_of(rule, pessimistic)
    outcome: Outcome = "fail"
    if shortfall <= 0:
        outcome = "pass"
    elif shortfall_of(rule, optimistic) <= 0:
        outcome = "inconclusive"
    result = build_result(
        rule, entry.path, outcome, describe_threshold(rule, entry, number, outcome)
    )
    return result.model_copy(
        update={
            "value": number.value,
            "low": number.low,
            "high": number.high,
            "shortfall": round(shortfall, DIGITS),
        }
    )


def order_ends(rule: ThresholdRule, number: Measurement) -> tuple[float, float]:
    """Return the ends that meet the bound least and most; on a point, they are the same."""
    if rule.on == "point" or number.low is None or number.high is None:
        return number.value, number.value
    if rule.rule == "floor":
        return number.low, number.high
    return number.high, number.low


def shortfall_of(rule: ThresholdRule, value: float) -> float:
    """Return how far a value is from meeting the bound; 0 or less if it meets it."""
    return rule.bound - value if rule.rule == "floor" else value - rule.bound


def build_result(rule: ThresholdRule, path: str, outcome: Outcome, reason: str) -> ThresholdResult:
    """Build the result of a rule, without numbers."""
    return ThresholdResult(
        rule=rule.rule,
        name=rule.name,
        rule_reason=rule.reason,
        metric=rule.metric,
        bound=rule.bound,
        on=rule.on,
        path=path,
        outcome=outcome,
        reason=reason,
    )


def describe_too_few_rows(entry: Entry) -> str:
    """Return why a number could not be measured."""
    if not entry.rows:
        return f"{entry.path} has no rows, so the rule fails."
    return (
        f"{entry.path} has {entry.rows} rows, too few to be measured: more test rows would decide."
    )


def describe_non_number(entry: Entry) -> str:
    """Return what an entry is instead of a number."""
    content = entry.content
    if isinstance(content, dict) and "value" not in content:
        keys = ", ".join(content)
        return f"{entry.path} is a group, not a number: use one of its entries, {keys}."
    value = content["value"] if isinstance(content, dict) else content
    return f"{entry.path} is not a number, so the rule fails: it is {value}."


def describe_missing_interval(entry: Entry, number: Measurement) -> str:
    """Return how to mend a rule on the interval of a number that has none."""
    return (
        f"{entry.path} {format_value(number.value)} has no interval to hold against the bound: "
        "write `on: point`."
    )


def describe_threshold(
    rule: ThresholdRule, entry: Entry, number: Measurement, outcome: Outcome
) -> str:
    """Return the number, the bound, and how much is missing."""
    verb = "is" if outcome == "pass" else "must be"
    limit = "at least" if rule.rule == "floor" else "at most"
    text = (
        f"{entry.path} {format_value(number.value)} {verb} {limit} {format_value(rule.bound, 'g')}"
    )
    if rule.on == "interval" and number.low is not None and number.high is not None:
        interval = f"{format_value(number.low)} to {format_value(number.high)}"
        text += f" over its whole interval {interval}"
    if outcome == "inconclusive":
        text += ": more test rows would decide"
    if outcome == "fail":
        text += describe_shortfall(rule, entry, number)
    return f"{text}."


def describe_shortfall(rule: ThresholdRule, entry: Entry, number: Measurement) -> str:
    """Return how much is missing, for an accuracy also as a number of rows."""
    shortfall = shortfall_of(rule, number.value)
    direction = "low" if rule.rule == "floor" else "high"
    text = f". It is {format_value(shortfall)} too {direction}"
    if entry.path.endswith("accuracy") and rule.rule == "floor" and entry.rows:
        rows_missing = math.ceil(shortfall * entry.rows - 1e-9)
        text += f", about {rows_missing} more of {entry.rows} rows right would reach it"
    return text


def worst_result(results: Sequence[AnyResult]) -> AnyResult:
    """Return the worst of a rule's results, naming the others that do not meet it."""
    ordered = sorted(results, key=severity)
    worst = ordered[0]
    if len(ordered) == 1:
        return worst
    reason = f"{worst.reason} It is the worst of {len(ordered)}{describe_others(ordered[1:])}."
    return worst.model_copy(update={"reason": reason})


def severity(result: AnyResult) -> tuple[int, float]:
    """Return a sort key: the worst outcome first, then the largest shortfall."""
    shortfall = 0.0
    if isinstance(result, ThresholdResult):
        shortfall = math.inf if result.shortfall is None else result.shortfall
    return OUTCOMES_WORST_FIRST.index(result.outcome), -shortfall


def describe_others(results: Sequence[AnyResult]) -> str:
    """Name the first of the results that do not meet the rule, and count the rest."""
    unmet = [format_result(result) for result in results if result.outcome in UNMET_OUTCOMES]
    if not unmet:
        return ""
    rest = len(unmet) - MAX_OTHERS
    more = f" and {rest} more" if rest > 0 else ""
    return f"; the rule is not met by {', '.join(unmet[:MAX_OTHERS])}{more} either"


def format_result(result: AnyResult) -> str:
    """Return the path of a result, with its number if there is one."""
    if result.value is None:
        return str(result.path)
    return f"{result.path} ({format_value(result.value)})"


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a finite number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def format_value(value: float, kind: str = ".4f") -> str:
    """Format a number; whole and large ones without decimals."""
    is_whole = abs(value) >= 10_000 or isinstance(value, int)
    return f"{value:,.0f}" if is_whole else f"{value:{kind}}"
