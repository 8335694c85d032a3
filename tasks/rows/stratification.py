"""Stratification: how the classes are distributed over the splits, and whether that is enough."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.contracts.split_report import ClassShares, LargestDifference
from tasks.core.errors import StageError

MAX_PROBLEMS = 5  # in a message
MAX_RARE_CLASSES = 3
DIGITS = 6


def compare_class_shares(split: Counter[str], total: Counter[str]) -> ClassShares:
    """Compare a split's class shares with those of all rows.

    Args:
        split: The number of rows of each class in the split.
        total: The same in all splits together.
    """
    n_rows = split.total()
    differences = {}
    shares = {}
    for name, count in total.items():
        share = split[name] / n_rows if n_rows else 0.0
        differences[name] = share - count / total.total()
        shares[name] = round(share, DIGITS)
    largest = min(differences, key=lambda name: (-abs(differences[name]), name))
    distance = sum(map(abs, differences.values())) / 2
    return ClassShares(
        shares=dict(sorted(shares.items())),
        total_variation=round(distance, DIGITS),
        largest=LargestDifference(
            class_name=largest, difference=round(differences[largest], DIGITS)
        ),
    )


def require_learnable_split(
    counts: Mapping[str, Counter[str]], total: Counter[str], classes: Sequence[str], problem: str
) -> None:
    """Require that train and test have rows of every class, or for a regression any rows.

    Args:
        counts: By split, the number of rows of each class.
        total: The same in all splits together.
        classes: All classes of the data, also of rows that are in no split.
        problem: The recipe's problem.

    Raises:
        StageError: A class could not be learned, or not be evaluated.
    """
    if len(classes) < 2:
        raise StageError(describe_single_class(classes, problem))
    problems = []
    for split in ("train", "test"):
        missing = [name for name in classes if not counts[split][name]]
        if problem == "regression" and len(missing) < len(classes):
            continue
        problems += [f"{name!r} has no row in {split}" for name in missing]
    if problems:
        raise StageError(describe_missing_classes(problems, total, classes))


def describe_single_class(classes: Sequence[str], problem: str) -> str:
    """Explain that there is nothing to tell apart."""
    if problem == "regression":
        return (
            "split: all rows have the same target, so there is nothing to learn: "
            "add rows with other targets."
        )
    names = ", ".join(map(repr, classes)) or "of none"
    return f"split: all rows have the label {names}: a classifier needs at least two classes."


def describe_missing_classes(
    problems: Sequence[str], total: Counter[str], classes: Sequence[str]
) -> str:
    """Explain which classes a split lacks, and which are rare."""
    rarest = sorted(classes, key=lambda name: total[name])[:MAX_RARE_CLASSES]
    rare = ", ".join(f"{name} ({total[name]} in all)" for name in rarest)
    return (
        f"split: {'; '.join(problems[:MAX_PROBLEMS])}. The rarest classes are {rare}: "
        "add rows, merge or remove the class, or raise split.test."
    )
