"""Language: predict the text of a row, token by token, after its prompt.

Answers are the scores of a row's text, which are sums over its tokens; a resample draws whole rows.
`exact_match` is the share of rows whose whole text greedy decoding gives: each of its tokens is the
likeliest after those before it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.problems.base import COLUMN_PREFIXES, Problem, Tensor, WorstRow, WorstRowsTable
from tasks.problems.batch import Batch, CausalBatch
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats, Ints
from tasks.statistics.intervals import DIGITS

IGNORED_TARGET = -100  # the target where no token is to be predicted


class TextScores(NamedTuple):
    """The columns of answers and of predictions.parquet, for texts or sums of texts."""

    loss: Floats  # the sum of −log p over the tokens
    tokens: Floats
    hits: Floats  # tokens that were the likeliest
    bytes: Floats  # the size of the text in UTF-8


PREDICTION_COLUMNS = TextScores._fields


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
    """A text for each row. Answers and predictions are `[rows, 4]`, the fields of TextScores.

    `labels` name the tokenizer alone, since the tokens of another cannot be compared with these.
    """

    NAME = "language"
    WORST_ROWS = WorstRowsTable("Hardest texts", "log-loss of a token", "text", "guessed")
    ERROR_NAME = "log-loss of a token"

    def __init__(
        self,
        labels: Sequence[str],
        config: Train | None = None,
        temperature: float = 1.0,
        tokenizer: RowTokenizer | None = None,
    ) -> None:
        """Create the problem; only an exported model's baseline needs the tokenizer."""
        super().__init__(labels, config, temperature)
        self.tokenizer = tokenizer

    @classmethod
    def from_training_data(cls, config: Train, table: pa.Table) -> Self:
        """Create the problem; it does not depend on the rows."""
        return cls([], config)

    @property
    def width(self) -> int:
        """The number of scores of a text."""
        return len(PREDICTION_COLUMNS)

    def targets(self, table: pa.Table) -> Ints:
        """Return zeros: the texts themselves are the targets."""
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
        """Keep loss and bytes alone of a model with another tokenizer: its tokens differ."""
        if self.labels == labels:
            return answers
        is_comparable = [name in ("loss", "bytes") for name in PREDICTION_COLUMNS]
        return np.where(is_comparable, answers, np.nan)

    def compute_metrics(
        self, metrics: Collection[str], targets: Ints, predictions: Floats, weights: Floats
    ) -> dict[str, Floats]:
        """Compute metrics of weighted rows, each `[resamples]`."""
        totals = TextScores(*(weights @ predictions).T)  # each [resamples]
        values = {}
        for metric in metrics:
            if metric == "exact_match":
                values[metric] = weights @ match_exactly(predictions) / weights.sum(1)
            else:
                values[metric] = METRICS[metric](totals)
        return values

    def row_errors(self, targets: Ints, predictions: Floats) -> Floats:
        """Return the log-loss of a token of each row."""
        return token_log_loss(TextScores(*predictions.T))

    def prediction_columns(self, targets: Ints, answers: dict[str, Floats]) -> dict[str, pa.Array]:
        """Return the scores of each row."""
        columns = {}
        for model, prefix in COLUMN_PREFIXES.items():
            for index, name in enumerate(PREDICTION_COLUMNS):
                columns[f"{prefix}{name}"] = pa.array(answers[model][:, index].round(DIGITS))
        return columns

    def read_predictions(self, table: pa.Table) -> dict[str, Floats]:
        """Return the scores of model and baseline."""
        by_model = {}
        for model, prefix in COLUMN_PREFIXES.items():
            columns = [table[f"{prefix}{name}"].to_numpy() for name in PREDICTION_COLUMNS]
            by_model[model] = np.stack(columns, 1)
        return by_model

    def worst_rows(self, targets: Ints, answers: Floats, limit: int) -> list[WorstRow]:
        """Return the rows with the largest loss of a token."""
        scores = TextScores(*answers.T)
        loss = token_log_loss(scores)
        worst = np.argsort(-loss, kind="stable")[:limit].tolist()
        return [
            WorstRow(
                row,
                f"{scores.tokens[row]:.0f} tokens",
                f"{scores.hits[row]:.0f} right",
                float(loss[row]),
            )
            for row in worst
        ]


def match_exactly(predictions: Floats) -> Floats:
    """Return 1 for rows all of whose tokens are hits, else 0; NaN if unknown, `[rows]`."""
    scores = TextScores(*predictions.T)
    return np.where(np.isnan(scores.tokens), np.nan, scores.tokens == scores.hits)


def token_log_loss(scores: TextScores) -> Floats:
    """Return the mean log-loss of a token."""
    return np.asarray(scores.loss / scores.tokens)


def perplexity(scores: TextScores) -> Floats:
    """Return the exponential of a token's mean log-loss."""
    return np.asarray(np.exp(scores.loss / scores.tokens))


def token_accuracy(scores: TextScores) -> Floats:
    """Return the share of tokens that were the likeliest."""
    return np.asarray(scores.hits / scores.tokens)


def bits_per_byte(scores: TextScores) -> Floats:
    """Return the log-loss in bits for each byte, which all tokenizers share."""
    return np.asarray(scores.loss / scores.bytes / np.log(2))


METRICS: dict[str, Callable[[TextScores], Floats]] = {
    "perplexity": perplexity,
    "log_loss": token_log_loss,
    "accuracy": token_accuracy,
    "bits_per_byte": bits_per_byte,
}
