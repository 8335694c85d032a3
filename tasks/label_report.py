"""What labelled/report.json tells of labelling functions."""

from typing import Any

import numpy as np

from tasks import label_model


def functions(declared: list[Any], votes: label_model.Votes, stated: label_model.Votes, known: label_model.Votes, fitted: label_model.Fitted) -> list[Any]:
    """One entry per function. A trusted one is measured on what people and the source said alone, since the rest is its own word."""
    by_all, by_stated = label_model.counts(votes, known), label_model.counts(votes, stated)
    voters = [number for number, function in enumerate(declared) if not function.trusted]
    made = []
    for number, function in enumerate(declared):
        counted = (by_stated if function.trusted else by_all)[number]
        voter = voters.index(number) if number in voters else None
        estimated = None if voter is None or fitted.accuracy is None else rounded(fitted.accuracy[voter])
        about = {"kind": function.kind, "trusted": function.trusted, "reads": reads(function), "label": getattr(function, "label", None)}
        learned = {"estimated": estimated, "weight": None if voter is None else rounded(fitted.weight[voter])}
        made.append({**about, **counted, "coverage": rounded(counted["votes"] / max(len(votes), 1)), **learned})
    return made


def reads(function: Any) -> str:
    """What tells a function from others of its kind: its pattern, words, examples, file or folder."""
    value = next(getattr(function, name) for name in ("pattern", "words", "examples", "file", "path") if hasattr(function, name))
    return value if isinstance(value, str) else ", ".join(value)


def rounded(value: float) -> float:
    return float(np.round(value, 4))
