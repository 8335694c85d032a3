"""Floors and ceilings: any number of an evaluation, found by its path and held against a bound. A number that is not there never meets one."""

import math
from collections.abc import Iterator
from typing import Any

from tasks.core.suggest import suggest_nearest
from tasks.recipe.gate import ThresholdRule

OUTCOMES_WORST_FIRST = ("fail", "open", "pass", "none")  # the worst outcome first
MAX_OTHERS = 3  # numbers that are named beside the worst


def worst_result(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a rule says of several numbers or slices: what it says of the worst, and which others do not meet it."""
    found = sorted(
        checks,
        key=lambda check: (OUTCOMES_WORST_FIRST.index(check["outcome"]), -check.get("lack", 0)),
    )
    others = [
        check["path"] + ("" if check["value"] is None else f" ({format_value(check['value'])})")
        for check in found[1:]
        if check["outcome"] in OUTCOMES_WORST_FIRST[:2]
    ]
    more = ", ".join(others[:MAX_OTHERS]) + (
        f" and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
    )
    of = (
        f" It is the worst of {len(found)}{'; the rule is not met by ' + more + ' either' if others else ''}."
        if found[1:]
        else ""
    )
    return {**found[0], "reason": found[0]["reason"] + of}


def resolve_path(
    found: Any, path: str, where: str = "", rows: int | None = None
) -> Iterator[tuple[str, Any, int | None]]:
    """Each number at a path as (its path, what is there, of how many rows). `*` stands for each key; of keys with dots in them the longest that fits counts.

    A sentence is there where the path leads nowhere, and None where there are rows but too few to be measured.
    """
    if not path:
        yield where, found, rows
        return
    here = found if isinstance(found, dict) else {}
    rows = here.get("rows", here.get("support", rows))
    rest = path.partition(".")[2]
    if path[0] == "*":
        keys = [key for key in sorted(here) if isinstance(here[key], dict) or not rest]
    else:
        keys = sorted((key for key in here if path == key or path.startswith(f"{key}.")), key=len)[
            -1:
        ]
        rest = path[len(keys[0]) + 1 :] if keys else ""
    for key in keys:
        yield from resolve_path(here[key], rest, f"{where}.{key}".lstrip("."), rows)
    if not keys:
        first = path.partition(".")[0]
        there = f"it has {', '.join(here)}" if here else "nothing is there"
        lost = f"{where or 'The evaluation'} has no {first!r}{suggest_nearest(first, here)}, so nothing is known of {f'{where}.{path}'.lstrip('.')}: {there}."
        yield (
            f"{where}.{path}".lstrip("."),
            None if here and set(here) <= {"rows", "support", "range"} else lost,
            rows,
        )


def check_threshold(rule: ThresholdRule, path: str, found: Any, rows: int | None) -> dict[str, Any]:
    """One number against the bound. Where only the whole interval decides and the bound lies in it, the question is open."""
    value, low, high = (
        (found.get(part) for part in ("value", "low", "high"))
        if isinstance(found, dict)
        else (found, None, None)
    )  # type: Any, Any, Any
    check = {
        "path": path,
        "value": None,
        "low": None,
        "high": None,
        "lack": math.inf,
        "outcome": "fail",
    }
    if isinstance(found, str):
        return {**check, "reason": found}
    if value is None and rows is not None and (found is None or "value" in found):
        few = (
            f"has {rows} rows, too few to be measured: more test rows would decide"
            if rows
            else "has no rows, so nothing is known of it"
        )
        return {**check, "outcome": "open" if rows else "fail", "reason": f"{path} {few}."}
    if not is_finite_number(value):
        given = (
            f"it has {', '.join(found)}"
            if isinstance(found, dict) and "value" not in found
            else f"it is {value}"
        )
        return {**check, "reason": f"{path} is not a number, so nothing is known of it: {given}."}
    if rule.on == "interval" and not (is_finite_number(low) and is_finite_number(high)):
        return {
            **check,
            "reason": f"{path} {format_value(value)} has no interval to be held against the bound: write `on: point`.",
        }
    sign = 1 if rule.rule == "floor" else -1
    worst, best = (
        (value, value) if rule.on == "point" else (low, high) if sign == 1 else (high, low)
    )
    lack = sign * (rule.bound - worst)
    outcome = "pass" if lack <= 0 else "open" if sign * (rule.bound - best) <= 0 else "fail"
    wanted = f"at {'least' if sign == 1 else 'most'} {format_value(rule.bound, 'g')}"
    told = f"{path} {format_value(value)} {'is' if outcome == 'pass' else 'must be'} {wanted}"
    told += (
        f" over its whole interval {format_value(low)} to {format_value(high)}"
        if rule.on == "interval"
        else ""
    )
    told += ": more test rows would decide" if outcome == "open" else ""
    if outcome == "fail":
        by = sign * (rule.bound - value)
        told += f". It is {format_value(by)} too {'low' if sign == 1 else 'high'}"
        if path.endswith("accuracy") and sign == 1 and rows:
            told += (
                f", about {math.ceil(by * rows - 1e-9)} more of {rows} rows right would reach it"
            )
    return {
        "path": path,
        "value": value,
        "low": low,
        "high": high,
        "lack": round(lack, 6),
        "outcome": outcome,
        "reason": f"{told}.",
    }


def is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def format_value(value: float, kind: str = ".4f") -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 or isinstance(value, int) else f"{value:{kind}}"
