"""Language: the text of a row is to be predicted, token by token, after its prompt. An answer is what a row's tokens cost, and a resample draws whole rows.

`exact_match` is the share of rows of which greedy decoding gives the whole text: those of which each token is the likeliest after the ones before it.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.problems.base import Problem, Tensor
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import DIGITS

IGNORED_TARGET = -100  # the target where no token is to be predicted
PREDICTION_COLUMNS = (
    "loss",
    "tokens",
    "hits",
    "bytes",
)  # of a row: the sum of −log p over its tokens, their number, how many were the likeliest, and its text's size


class LanguageProblem(Problem):
    """`labels` name the tokenizer alone, since the tokens of another cannot be compared with these."""

    NAME = "language"
    WORST_ROWS_HEADING = ("Hardest texts", "log-loss of a token", "text", "guessed")
    ERROR_NAME = "log-loss of a token"
    encode: Callable[
        [Sequence[Any]], list[Any]
    ]  # rows as the model's tokens, which the baseline shares; a predictor sets it
    vocabulary: int

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        return cls([], section)

    @property
    def width(self) -> int:
        return len(PREDICTION_COLUMNS)

    def targets(self, table: pa.Table) -> NDArray[np.int64]:
        """The texts themselves are the targets."""
        return np.zeros(table.num_rows, np.int64)

    def loss(
        self, outputs: Tensor, inputs: tuple[Tensor, ...], targets: Tensor
    ) -> tuple[Tensor, float]:
        from torch.nn.functional import cross_entropy

        total = cross_entropy(outputs.float().flatten(0, 1), inputs[3].flatten(), reduction="sum")
        return total, float((inputs[3] != IGNORED_TARGET).sum())

    def predict_batch(self, outputs: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        import torch

        _, _, texts, targets, owners, sizes = inputs
        counted = targets != IGNORED_TARGET
        logits, wanted = outputs[counted].float(), targets[counted]
        loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="none").double()
        tokens = torch.stack(
            [loss, torch.ones_like(loss), (logits.argmax(1) == wanted).double()], 1
        )
        rows = torch.zeros(len(sizes), 3, dtype=torch.float64, device=loss.device).index_add(
            0, owners[texts[counted]], tokens
        )
        return torch.cat([rows, sizes[:, None].double()], 1)

    def align_labels(self, answers: Floats, labels: list[str]) -> Floats:
        """Of a model with another tokenizer only the loss by the byte is known, since its tokens are others."""
        return (
            answers
            if self.labels == labels
            else np.where([True, False, False, True], answers, np.nan)
        )

    def compute_metrics(
        self, metrics: Collection[str], targets: NDArray[np.int64], said: Floats, weights: Floats
    ) -> dict[str, Floats]:
        loss, tokens, hits, size = (weights @ said).T
        found: dict[str, Any] = {
            "perplexity": lambda: np.exp(loss / tokens),
            "log_loss": lambda: loss / tokens,
            "accuracy": lambda: hits / tokens,
            "exact_match": lambda: (
                weights
                @ np.where(np.isnan(said[:, 1]), np.nan, said[:, 1] == said[:, 2])
                / weights.sum(1)
            ),
            "bits_per_byte": lambda: loss / size / np.log(2),
        }
        return {metric: found[metric]() for metric in metrics}

    def row_errors(self, targets: NDArray[np.int64], said: Floats) -> Floats:
        return np.asarray(said[:, 0] / said[:, 1])

    def prediction_columns(
        self, targets: NDArray[np.int64], answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        told = {"": answers["model"], "baseline_": answers["baseline"]}
        return {
            f"{prefix}{part}": pa.array(said[:, at].round(DIGITS))
            for prefix, said in told.items()
            for at, part in enumerate(PREDICTION_COLUMNS)
        }

    def read_predictions(self, predictions: pa.Table) -> dict[str, Floats]:
        return {
            who: np.stack(
                [predictions[f"{prefix}{part}"].to_numpy() for part in PREDICTION_COLUMNS], 1
            )
            for who, prefix in (("model", ""), ("baseline", "baseline_"))
        }

    def worst_rows(
        self, targets: NDArray[np.int64], answers: Floats, count: int
    ) -> list[tuple[int, str, str, float]]:
        each = answers[:, 0] / answers[:, 1]
        return [
            (row, f"{answers[row, 1]:.0f} tokens", f"{answers[row, 2]:.0f} right", float(each[row]))
            for row in np.argsort(-each, kind="stable")[:count].tolist()
        ]
