"""Tables: a multilayer perceptron on numbers and categories.

How a column becomes features is inferred from the training rows and kept in model.json.
"""

import datetime
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tasks import problems
from tasks.contracts.model_info import (
    CategoryColumn,
    Column,
    ModelInfo,
    NumberColumn,
    TabularInput,
)
from tasks.core.errors import StageError
from tasks.modalities import onnx
from tasks.modalities.base import Modality, ModelTrainer, Predictor
from tasks.modalities.onnx import ExportedInput
from tasks.problems.base import Problem, Targets
from tasks.problems.batch import Batch
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    import torch

Cell = Any  # a text, a number, a date, a truth value, or None
TableRow = dict[str, Cell]  # column → cell

# Fraction of a text column's cells that have to be numbers for the rest to count as errors.
MIN_NUMERIC_FRACTION = 0.99
MAX_DISTINCT_CODES = 10  # a text column with up to this many different numbers holds codes
MIN_CATEGORY_ROWS = 10  # rows from which a category has its own feature, in tables of thousands
MAX_CATEGORIES = 200  # of one column
CLIP_STD = 10.0  # standard deviations from the mean beyond which a number is cut
MIN_ROWS_FOR_TREES = 500  # with fewer rows the baseline is a linear model


def parse_number(cell: Cell) -> float:
    """Return a cell as a number, a date as its day's; NaN if it is neither or not finite."""
    if isinstance(cell, datetime.date):
        return float(cell.toordinal())
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return parse_date(cell)
    return number if math.isfinite(number) else math.nan


def parse_date(cell: Cell) -> float:
    """Return the number of a day in ISO format; NaN if the cell is no such date."""
    try:
        return float(datetime.date.fromisoformat(cell).toordinal())
    except (TypeError, ValueError):
        return math.nan


def parse_numbers(cells: Sequence[Cell]) -> Floats:
    """Return the cells as numbers, NaN for those that are none."""
    return np.array([parse_number(cell) for cell in cells], np.float64)


def is_missing(cell: Cell) -> bool:
    """Tell whether a cell is empty, NaN or infinite."""
    try:
        return cell is None or not math.isfinite(float(cell))
    except (TypeError, ValueError, OverflowError):
        return False


def category_name(cell: Cell) -> str | None:
    """Return a cell as the name of a category: 1, 1.0 and the text 1 are the same."""
    if cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def infer_columns(rows: Sequence[TableRow]) -> list[Column]:
    """Infer how each column becomes features, without columns that are the same in all rows.

    Raises:
        StageError: No column differs between rows, or a number is too large to learn from.
    """
    columns: list[Column] = []
    for name in rows[0]:
        column = infer_column(name, [row[name] for row in rows])
        if column is not None:
            columns.append(column)
    if not columns:
        raise StageError(
            "no column tells the training rows apart: they have "
            f"{', '.join(rows[0]) or 'none'}; name others in columns.features."
        )
    return columns


@dataclass(frozen=True)
class ColumnCells:
    """The cells of a column that are not missing, and those of them that are numbers."""

    present: list[Cell]
    numbers: Floats
    has_codes: bool  # such as 01234: digits that name something

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> "ColumnCells":
        """Collect them from all cells of a column."""
        present = [cell for cell in cells if not is_missing(cell)]
        parsed = parse_numbers(present)
        has_codes = any(has_leading_zero(cell) for cell in present)
        return cls(present, parsed[np.isfinite(parsed)], has_codes)

    @property
    def n_distinct(self) -> int:
        """How many different numbers there are."""
        return len(set(self.numbers.tolist()))


def infer_column(name: str, cells: Sequence[Cell]) -> Column | None:
    """Infer how a column becomes features; None if its cells are all the same."""
    column_cells = ColumnCells.of(cells)
    if is_numeric(column_cells):
        return build_number_column(name, cells, column_cells.numbers)
    warn_if_mostly_numeric(name, column_cells)
    return build_category_column(name, cells)


def is_numeric(cells: ColumnCells) -> bool:
    """Tell whether a column holds numbers.

    It does if it has a type of numbers, or if almost all of its text is numbers of more than a
    few values.
    """
    if not len(cells.numbers):
        return False
    if all(has_number_type(cell) for cell in cells.present):
        return True
    is_mostly_numbers = len(cells.numbers) >= MIN_NUMERIC_FRACTION * len(cells.present)
    return not cells.has_codes and is_mostly_numbers and cells.n_distinct > MAX_DISTINCT_CODES


def has_number_type(cell: Cell) -> bool:
    """Tell whether a cell was read as a number or a date."""
    return isinstance(cell, int | float | datetime.date) and not isinstance(cell, bool)


def has_leading_zero(cell: Cell) -> bool:
    """Tell whether a cell is text such as 01234."""
    return isinstance(cell, str) and cell.isdecimal() and cell.startswith("0") and len(cell) > 1


def build_number_column(name: str, cells: Sequence[Cell], numbers: Floats) -> NumberColumn | None:
    """Build a column of numbers; None if they are all the same and none is missing."""
    with np.errstate(over="ignore", invalid="ignore"):
        std = float(numbers.std())
    if not math.isfinite(std):
        row = int(np.nanargmax(np.abs(parse_numbers(cells))))
        raise StageError(
            f"column {name!r} of row number {row + 1} is {cells[row]}, which is too large to "
            "learn from: clean it with a range rule."
        )
    has_missing = len(numbers) < len(cells)
    if not std and not has_missing:
        return None
    return NumberColumn(
        name=name,
        median=float(np.median(numbers)),
        mean=float(numbers.mean()),
        std=std or 1.0,
        has_missing=has_missing,
    )


def warn_if_mostly_numeric(name: str, cells: ColumnCells) -> None:
    """Print a warning if most cells of a column of categories are different numbers."""
    is_mostly_numbers = len(cells.numbers) > len(cells.present) / 2
    if cells.has_codes or not is_mostly_numbers or cells.n_distinct <= MAX_DISTINCT_CODES:
        return
    example = next(cell for cell in cells.present if math.isnan(parse_number(cell)))
    n_texts = len(cells.present) - len(cells.numbers)
    print(
        f"warning: column {name!r} is taken for categories, as {n_texts} of its "
        f"{len(cells.present)} cells are no numbers, such as {example!r}: give it a type in "
        "clean.rules",
        flush=True,
    )


def build_category_column(name: str, cells: Sequence[Cell]) -> CategoryColumn | None:
    """Build a column of the frequent categories; None if there is only one, or none is frequent."""
    counts = Counter(category_name(cell) for cell in cells)
    frequent = list_frequent_categories(counts, len(cells))
    if not frequent or len(counts) == 1:
        return None
    return CategoryColumn(name=name, values=sorted(frequent, key=missing_first))


def list_frequent_categories(counts: Counter[str | None], n_rows: int) -> list[str | None]:
    """Return up to MAX_CATEGORIES categories that enough rows have, the most frequent first."""
    min_rows = max(1, min(MIN_CATEGORY_ROWS, n_rows // 100))
    frequent = [category for category, count in counts.items() if count >= min_rows]
    frequent.sort(key=lambda category: (-counts[category], category or ""))
    return frequent[:MAX_CATEGORIES]


def missing_first(category: str | None) -> tuple[bool, str]:
    """Sort categories by name, the missing one before all."""
    return category is not None, category or ""


def encode_features(columns: Sequence[Column], rows: Sequence[TableRow]) -> NDArray[np.float32]:
    """Turn rows into features, `[rows, features]`. A column that a row lacks is missing there."""
    blocks = []
    for column in columns:
        cells = [row.get(column.name) for row in rows]
        blocks.append(encode_column(column, cells))
    return np.concatenate(blocks, axis=1, dtype=np.float32)


def encode_column(column: Column, cells: Sequence[Cell]) -> NDArray[Any]:
    """Return the features of one column, `[rows, features of the column]`."""
    if isinstance(column, NumberColumn):
        return encode_numbers(column, cells)
    return encode_categories(column, cells)


def encode_numbers(column: NumberColumn, cells: Sequence[Cell]) -> Floats:
    """Standardise numbers, and flag missing ones if training had some: `[rows, 1 or 2]`."""
    numbers = parse_numbers(cells)
    is_gap = np.isnan(numbers)
    standardised = (np.where(is_gap, column.median, numbers) - column.mean) / column.std
    clipped = np.clip(standardised, -CLIP_STD, CLIP_STD)
    if not column.has_missing:
        return clipped[:, None]
    return np.stack([clipped, is_gap], axis=1)


def encode_categories(column: CategoryColumn, cells: Sequence[Cell]) -> NDArray[np.bool_]:
    """Encode categories one-hot, `[rows, categories]`; a rare or new one is all zero."""
    index_of_category = {category: index for index, category in enumerate(column.values)}
    categories = [category_name(cell) for cell in cells]
    indices = np.array([index_of_category.get(category, -1) for category in categories])
    one_hot: NDArray[np.bool_] = indices[:, None] == np.arange(len(index_of_category))
    return one_hot


@dataclass(frozen=True)
class TabularBatch(Batch):
    """The features of some rows."""

    features: "torch.Tensor"  # [rows, features]


class TabularTrainer(ModelTrainer):
    """Trains the perceptron."""

    SUPPORTS_MIXED_PRECISION = False  # its layers are too small for bf16 to pay
    HAS_DIFFERENTIABLE_INPUTS = True

    def __init__(self, config: Train, rows: Sequence[TableRow], problem: Problem) -> None:
        import torch

        self.config = config
        self.problem = problem
        self.columns = infer_columns(rows)
        self.n_features = encode_features(self.columns, rows[:1]).shape[1]
        torch.manual_seed(config.seed)
        sizes = [self.n_features, *config.hidden_sizes]
        self.network = build_perceptron(sizes, problem.width, config.dropout)

    def encode(self, rows: Sequence[TableRow]) -> list["torch.Tensor"]:
        """Return the features of each row."""
        import torch

        return list(torch.from_numpy(encode_features(self.columns, rows)))

    def collate(
        self,
        examples: list["torch.Tensor"],
        generator: "torch.Generator | None",
    ) -> TabularBatch:
        """Stack the rows; nothing is augmented."""
        import torch

        return TabularBatch(torch.stack(examples))

    def input_signature(self) -> JsonValue:
        """Return name, kind and categories of each column."""
        signature: list[JsonValue] = []
        for column in self.columns:
            values: JsonValue = None
            if isinstance(column, CategoryColumn):
                values = [*column.values]
            signature.append([column.name, column.kind, values])
        return signature

    def export(self, folder: Path) -> TabularInput:
        """Write model.onnx."""
        import torch

        example = torch.zeros(2, self.n_features)
        features = ExportedInput("features", example, {0: torch.export.Dim("rows", min=1)})
        onnx.export_network(self.network.cpu(), [features], ModelFolder(folder).onnx)
        return TabularInput(columns=self.columns)


def build_perceptron(sizes: Sequence[int], n_outputs: int, dropout: float) -> "torch.nn.Module":
    """Build a multilayer perceptron: each hidden layer with ReLU and dropout."""
    from torch import nn

    layers: list[nn.Module] = []
    for n_inputs, n_hidden in itertools.pairwise(sizes):
        layers += [nn.Linear(n_inputs, n_hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_outputs))


class TabularPredictor(Predictor):
    """The exported perceptron."""

    def __init__(self, folder: Path, info: ModelInfo, threads: int) -> None:
        assert isinstance(info.input, TabularInput)
        self.problem = problems.from_model_info(info)
        self.labels = info.labels
        self.columns = info.input.columns
        self.session = onnx.open_session(ModelFolder(folder).onnx, threads)

    def __call__(self, rows: Sequence[TableRow]) -> Floats:
        """Return the answers for rows, `[rows, width]`."""
        features = encode_features(self.columns, rows)
        return self.problem.decode_outputs(self.session.run(["logits"], {"features": features})[0])


def predict_baseline(
    train: Sequence[TableRow], targets: Targets, rows: Sequence[TableRow], problem: Problem
) -> Floats:
    """Predict with gradient-boosted trees on the same features, or a linear model for few rows.

    It is fitted on `train`. Returns the answers for `rows`, `[rows, width]`.
    """
    columns = infer_columns(train)
    is_small = len(train) < MIN_ROWS_FOR_TREES
    model = problem.build_linear_baseline() if is_small else problem.build_tree_baseline()
    model.fit(encode_features(columns, train), targets)
    return problem.predict_with(model, encode_features(columns, rows))


MODALITY = Modality(TabularTrainer, TabularPredictor, predict_baseline)
