"""Language: the text of a row is to be predicted, token by token, after its prompt. An answer is what a row's tokens cost, and a resample draws whole rows.

`exact_match` is the share of rows of which greedy decoding gives the whole text: those of which each token is the likeliest after the ones before it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.problems.base import Problem, Tensor
from tasks.problems.batch import Batch, CausalBatch
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


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A row as tokens: a token that begins it, the prompt, the text, and a token that ends it."""

    tokens: NDArray[np.int32]
    text_start: int  # the index of the first token that is to be predicted
    text_bytes: int  # the size of the text in UTF-8


@dataclass(frozen=True)
class RowTokenizer:
    """How an exported model tokenizes rows; its baseline does the same."""

    encode: Callable[[Sequence[dict[str, str]]], list[TokenizedText]]
    vocab_size: int


class LanguageProblem(Problem):
    """`labels` name the tokenizer alone, since the tokens of another cannot be compared with these."""

    NAME = "language"
    WORST_ROWS_HEADING = ("Hardest texts", "log-loss of a token", "text", "guessed")
    ERROR_NAME = "log-loss of a token"

    def __init__(
        self,
        labels: Sequence[str],
        config: Train | None = None,
        temperature: float = 1.0,
        tokenizer: RowTokenizer | None = None,
    ) -> None:
        """Give an exported model's problem its tokenizer, which the baseline needs."""
        super().__init__(labels, config, temperature)
        self.tokenizer = tokenizer

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        return cls([], section)

    @property
    def width(self) -> int:
        return len(PREDICTION_COLUMNS)

    def targets(self, table: pa.Table) -> NDArray[np.int64]:
        """The texts themselves are the targets."""
        return np.zeros(table.num_rows, np.int64)

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Return the sum of the cross-entropies, and the number of predicted tokens."""
        from torch.nn.functional import cross_entropy

        assert isinstance(batch, CausalBatch)
        logits = outputs.float().flatten(0, 1)
        loss = cross_entropy(logits, batch.targets.flatten(), reduction="sum")
        return loss, float((batch.targets != IGNORED_TARGET).sum())

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return PREDICTION_COLUMNS of each example, `[examples, 4]`."""
        import torch

        assert isinstance(batch, CausalBatch)
        is_predicted = batch.targets != IGNORED_TARGET
        logits = outputs[is_predicted].float()  # [tokens, vocabulary]
        targets = batch.targets[is_predicted]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none").double()
        is_likeliest = (logits.argmax(1) == targets).double()
        token_scores = torch.stack([loss, torch.ones_like(loss), is_likeliest], 1)
        example_of_token = batch.example_of_window[batch.windows[is_predicted]]
        empty = torch.zeros(len(batch.text_bytes), 3, dtype=torch.float64, device=loss.device)
        example_scores = empty.index_add(0, example_of_token, token_scores)
        return torch.cat([example_scores, batch.text_bytes[:, None].double()], 1)

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
