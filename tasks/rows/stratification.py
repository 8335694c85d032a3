"""Stratification."""

from collections import Counter
from typing import Any

from tasks.core.errors import StageError


def compare_class_shares(side: Counter[str], whole: Counter[str]) -> dict[str, Any]:
    """How far a side's class shares are from those of all rows: half the sum of the differences (total variation distance), and the largest."""
    total = side.total()
    gaps = {
        name: (side[name] / total if total else 0.0) - count / whole.total()
        for name, count in whole.items()
    }
    name = min(gaps, key=lambda name: (-abs(gaps[name]), name))
    shares = {name: round(side[name] / total, 6) if total else 0.0 for name in sorted(whole)}
    largest = {"class": name, "difference": round(gaps[name], 6)}
    return {
        "shares": shares,
        "total_variation": round(sum(map(abs, gaps.values())) / 2, 6),
        "largest": largest,
    }


def require_learnable_split(
    labels: dict[str, Counter[str]], total: Counter[str], classes: list[str], problem: str
) -> None:
    """Refuse a split in which a class could not be learnt or not be judged; of a target it is enough that both sides have rows."""
    if len(classes) < 2 and problem == "regression":
        raise StageError(
            "split: all rows have the same target: there is nothing to learn; add rows with others."
        )
    if len(classes) < 2:
        raise StageError(
            f"split: all rows have the label {', '.join(map(repr, classes)) or 'of none'}: a classifier needs at least two classes."
        )
    problems = []
    for side in ("train", "test"):
        lacking = [name for name in classes if not labels[side][name]]
        problems += [
            f"{name!r} has no row in {side}"
            for name in lacking
            if problem != "regression" or len(lacking) == len(classes)
        ]
    if problems:
        rare = ", ".join(
            f"{name} ({total[name]} in all)"
            for name in sorted(classes, key=lambda name: total[name])[:3]
        )
        raise StageError(
            f"split: {'; '.join(problems[:5])}. The rarest classes are {rare}: add rows, merge or remove the class, or raise split.test."
        )
