"""Tables: a multilayer perceptron on numbers and categories. What a cell becomes is fitted on the training rows and kept in model.json."""

import datetime
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.modalities import onnx
from tasks.modalities.base import Trainer
from tasks.problems import from_model_info
from tasks.problems.base import Problem, Targets
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats

TableRow = dict[str, Any]  # column → cell: text, a number, a date, yes or no, or None
FeatureColumn = dict[str, Any]  # how one column becomes features, as JSON
MIN_NUMERIC_FRACTION = (
    0.99  # share of a text column's cells that have to be numbers for the rest to be errors
)
MAX_DISTINCT_CODES = 10  # different numbers up to which a text column is one of codes
MIN_CATEGORY_ROWS = (
    10  # rows from which on a category has a feature of its own, in a table of thousands
)
MAX_CATEGORIES = 200  # categories of one column
CLIP_STD = 10.0  # spreads from the mean past which a number is as good as any other
MIN_ROWS_FOR_TREES = 500  # rows below which trees have too little to split


def parse_number(cell: Any) -> float:
    """A cell as a number, of a date its day; NaN where it is none or not finite."""
    if isinstance(cell, datetime.date):
        return float(cell.toordinal())
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        try:
            return float(datetime.date.fromisoformat(cell).toordinal())
        except (TypeError, ValueError):
            return math.nan
    return value if math.isfinite(value) else math.nan


def is_missing(cell: Any) -> bool:
    """Whether there is none, or NaN or an infinity in its place."""
    try:
        return cell is None or not math.isfinite(float(cell))
    except (TypeError, ValueError, OverflowError):
        return False


def category_name(cell: Any) -> str | None:
    """A cell as the name of a category: 1, 1.0 and the text 1 are one."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return None if cell is None else str(cell)


def infer_columns(rows: Sequence[TableRow]) -> list[FeatureColumn]:
    """For each column that tells rows apart, how its cells become features."""
    columns = [
        column for name in rows[0] if (column := infer_column(name, [row[name] for row in rows]))
    ]
    if not columns:
        raise StageError(
            f"no column tells the training rows apart: they have {', '.join(rows[0]) or 'none'}; name others in columns.features."
        )
    return columns


def infer_column(name: str, cells: Sequence[Any]) -> FeatureColumn | None:
    """A column is numeric where it was given that type, or where (almost) all of its text is numbers of more than a few values."""
    known = [cell for cell in cells if not is_missing(cell)]
    values = np.array([parse_number(cell) for cell in known])
    found = values[np.isfinite(values)]
    typed = all(
        isinstance(cell, (int, float, datetime.date)) and not isinstance(cell, bool)
        for cell in known
    )
    coded = any(
        isinstance(cell, str) and cell.isdecimal() and cell.startswith("0") and len(cell) > 1
        for cell in known
    )  # 01234 is a name
    if len(found) and (
        typed
        or (
            not coded
            and len(found) >= MIN_NUMERIC_FRACTION * len(known)
            and len(set(found.tolist())) > MAX_DISTINCT_CODES
        )
    ):
        with np.errstate(over="ignore", invalid="ignore"):
            spread, gaps = float(found.std()), len(found) < len(cells)
        if not math.isfinite(spread):
            worst = int(np.nanargmax(np.abs([parse_number(cell) for cell in cells])))
            raise StageError(
                f"column {name!r} of row number {worst + 1} is {cells[worst]}, which is too large to learn from: clean it with a range rule."
            )
        about = {
            "median": float(np.median(found)),
            "mean": float(found.mean()),
            "spread": spread or 1.0,
            "gaps": gaps,
        }
        return {"name": name, "kind": "number", **about} if spread or gaps else None
    if not coded and len(found) > len(known) / 2 and len(set(found.tolist())) > MAX_DISTINCT_CODES:
        other = next(cell for cell in known if math.isnan(parse_number(cell)))
        count = f"{len(known) - len(found)} of its {len(known)} cells"
        print(
            f"warning: column {name!r} is taken for categories, as {count} are no numbers, such as {other!r}: give it a type in clean.rules",
            flush=True,
        )
    counts = Counter(category_name(cell) for cell in cells)
    least = max(1, min(MIN_CATEGORY_ROWS, len(cells) // 100))
    common = sorted(
        (value for value, count in counts.items() if count >= least),
        key=lambda value: (-counts[value], value or ""),
    )[:MAX_CATEGORIES]
    ordered = sorted(common, key=lambda value: (value is not None, value or ""))
    return (
        {"name": name, "kind": "category", "values": ordered}
        if common and len(counts) > 1
        else None
    )


def encode_features(
    columns: Sequence[FeatureColumn], rows: Sequence[TableRow]
) -> NDArray[np.float32]:
    """Rows → features, shape (rows, features): a number standardised, the median where there is none, and where training had gaps a flag that says
    so; a category one-hot, all zero where it was rare in training or not there. A column that a row lacks is a gap."""
    blocks = []
    for column in columns:
        cells = [row.get(column["name"]) for row in rows]
        if column["kind"] == "number":
            values = np.array([parse_number(cell) for cell in cells])
            gaps = np.isnan(values)
            standard = (np.where(gaps, column["median"], values) - column["mean"]) / column[
                "spread"
            ]
            blocks += [
                np.clip(standard, -CLIP_STD, CLIP_STD)[:, None],
                *([gaps[:, None]] if column["gaps"] else []),
            ]
        else:
            position = {value: index for index, value in enumerate(column["values"])}
            at = np.array([position.get(category_name(cell), -1) for cell in cells])
            blocks.append(at[:, None] == np.arange(len(position)))
    return np.concatenate(blocks, axis=1, dtype=np.float32)


class TabularTrainer(Trainer):
    mixed = False  # these layers are too small for bf16 to pay

    def __init__(self, section: Train, rows: Sequence[TableRow], problem: Problem) -> None:
        import torch

        self.section, self.problem = section, problem
        self.columns = infer_columns(rows)
        self.width = encode_features(self.columns, rows[:1]).shape[1]
        torch.manual_seed(section.seed)
        self.network = build_perceptron(
            [self.width, *section.hidden_sizes], problem.width, section.dropout
        )

    def encode(self, rows: Sequence[TableRow]) -> list[Any]:
        import torch

        return list(torch.from_numpy(encode_features(self.columns, rows)))

    def collate(self, examples: list[Any], generator: Any) -> tuple[Any, ...]:
        import torch

        return (torch.stack(examples),)

    def inputs(self) -> Any:
        return [[column["name"], column["kind"], column.get("values")] for column in self.columns]

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        inputs = (torch.zeros(2, self.width),)
        onnx.export_network(
            self.network.cpu(),
            inputs,
            ["features"],
            ({0: torch.export.Dim("rows", min=1)},),
            folder / "model.onnx",
        )
        return {"base": None, "columns": self.columns}


def build_perceptron(sizes: Sequence[int], classes: int, dropout: float) -> Any:
    """A multilayer perceptron: each hidden layer with ReLU and dropout."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


class TabularPredictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.problem = from_model_info(about)
        self.labels = self.problem.labels
        self.columns: list[FeatureColumn] = about["columns"]
        self.session = onnx.open_session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[TableRow]) -> NDArray[np.float64]:
        return self.problem.decode_outputs(
            self.session.run(["logits"], {"features": encode_features(self.columns, rows)})[0]
        )


def predict_baseline(
    train: Sequence[TableRow], targets: Targets, rows: Sequence[TableRow], problem: Problem
) -> Floats:
    """Gradient-boosted trees (few rows: a linear model) on the same features, fitted on `train`; answers for `rows`, shape (rows, width)."""
    columns = infer_columns(train)
    model = (
        problem.build_linear_baseline()
        if len(train) < MIN_ROWS_FOR_TREES
        else problem.build_tree_baseline()
    )
    return problem.predict_with(
        model.fit(encode_features(columns, train), targets), encode_features(columns, rows)
    )
