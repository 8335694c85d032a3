"""Multilabel: any number of labels at once, `a|b` in one cell or a list. Answers are a probability for each label; from 0.5 on it is given."""

from collections.abc import Collection
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit

from tasks.core.errors import StageError
from tasks.problems import base
from tasks.problems.base import Problem, Tensor
from tasks.problems.batch import Batch
from tasks.problems.classification import build_probability_column
from tasks.recipe.train import Train
from tasks.rows import label_values
from tasks.statistics import class_metrics
from tasks.statistics.array_types import Flags, Floats
from tasks.statistics.intervals import DIGITS

LabelMatrix = NDArray[np.float32]  # 1 where a row (first axis) has a label (second axis)


class MultilabelProblem(Problem):
    NAME = "multilabel"
    CLASSES_HEADING = "Labels"
    WORST_ROWS_HEADING = ("Largest loss", "log-loss", "true classes", "model said")
    IS_CALIBRATED = True

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        labels = sorted({name for names in parse_label_sets(table) for name in names})
        if len(labels) < 2:
            raise StageError(
                f"train: the rows have {labels[0] if labels else 'no label'} alone: problem: multilabel needs at least two labels."
            )
        return cls(labels, section)

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        return table.filter(
            pa.array(
                [set(names) <= set(self.labels) for names in parse_label_sets(table)], pa.bool_()
            )
        )

    def targets(self, table: pa.Table) -> LabelMatrix:
        said, position = (
            parse_label_sets(table),
            {name: index for index, name in enumerate(self.labels)},
        )
        unknown = sorted({name for names in said for name in names} - set(position))
        if unknown:
            raise StageError(base.UNKNOWN_CLASS_MESSAGE.format(unknown[0]))
        result = np.zeros((len(said), self.width), np.float32)
        for row, names in enumerate(said):
            result[row, [position[name] for name in names]] = 1
        return result

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs.float(), targets, reduction="sum"), float(
            len(targets)
        )

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.float().sigmoid()

    def fit_head(self, features: Floats, targets: LabelMatrix) -> tuple[Floats, Floats] | None:
        fitted = self.build_linear_baseline(10).fit(features, targets).estimators_
        if not all(hasattr(one, "coef_") for one in fitted):  # a label that all rows have
            return None
        return tuple(
            np.concatenate([getattr(one, name) for one in fitted])
            for name in ("coef_", "intercept_")
        )  # type: ignore[return-value]

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        return np.asarray(expit(outputs.astype(np.float64) / self.temperature))

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        return np.asarray(expit(logit(answers) / temperature))

    def extract_confidences(
        self, targets: LabelMatrix, answers: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Of every label."""
        return answers, targets > 0

    def build_linear_baseline(self, strength: float = 1.0) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(LogisticRegression(C=strength, max_iter=300))

    def build_tree_baseline(self) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(HistGradientBoostingClassifier(random_state=0))

    def predict_with(self, model: Any, rows: Any) -> Floats:
        return np.asarray(model.predict_proba(rows))

    def class_flags(self, targets: LabelMatrix, said: Floats) -> tuple[Flags, Flags]:
        return targets > 0, said >= 0.5

    def compute_metrics(
        self, metrics: Collection[str], targets: LabelMatrix, said: Floats, weights: Floats
    ) -> dict[str, Floats]:
        there, given = self.class_flags(targets, said)
        rows = {
            "log_loss": compute_row_losses(targets, said),
            "subset_accuracy": self.is_correct(targets, said),
            "hamming_loss": (there != given).mean(1),
        }
        means = {
            metric: weights @ rows[metric] / weights.sum(1) for metric in metrics if metric in rows
        }
        return (
            class_metrics.compute_count_metrics(
                metrics, class_metrics.count_outcomes(there, given, weights)
            )
            | means
            | class_metrics.compute_ranking_metrics(metrics, there, said, weights)
        )

    def is_correct(self, targets: LabelMatrix, said: Floats) -> NDArray[np.bool_]:
        return np.asarray(((said >= 0.5) == (targets > 0)).all(axis=1))

    def prediction_columns(
        self, targets: LabelMatrix, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        found = {"label": pa.array([self.format_labels(row) for row in targets], pa.string())}
        for who, prefix in (("model", ""), ("baseline", "baseline_")):
            said = self.compact_predictions(targets, answers[who])
            found[f"{prefix}predicted"] = pa.array(
                [self.format_labels(row) for row in said], pa.string()
            )
            found |= {
                f"{prefix}loss": pa.array(compute_row_losses(targets, said).round(DIGITS)),
                f"{prefix}probabilities": build_probability_column(said),
            }
        return found

    def format_labels(self, row: NDArray[Any]) -> str:
        return str(
            label_values.format_label(
                self.NAME,
                [name for name, share in zip(self.labels, row, strict=True) if share >= 0.5],
            )
        )

    def read_predictions(self, predictions: pa.Table) -> dict[str, Floats]:
        return {
            who: np.array(predictions[f"{prefix}probabilities"].to_pylist())
            for who, prefix in (("model", ""), ("baseline", "baseline_"))
        }

    def confusion_pairs(self, targets: LabelMatrix, said: Floats) -> list[tuple[str, str]]:
        """A label that is there and given, that is missed, or that is given and not there."""
        found = []
        for true, guess in zip(targets > 0, said >= 0.5, strict=True):
            found += [
                (name if t else "(none)", name if g else "(none)")
                for name, t, g in zip(self.labels, true, guess, strict=True)
                if t or g
            ]
        return found

    def worst_rows(
        self, targets: LabelMatrix, answers: Floats, count: int
    ) -> list[tuple[int, str, str, float]]:
        loss, wrong = compute_row_losses(targets, answers), ~self.is_correct(targets, answers)
        ordered = [row for row in np.argsort(-loss, kind="stable").tolist() if wrong[row]][:count]
        return [
            (
                row,
                self.format_labels(targets[row]),
                self.format_labels(answers[row]),
                float(loss[row]),
            )
            for row in ordered
        ]


def parse_label_sets(table: pa.Table) -> list[list[str]]:
    return label_values.parse_labels(
        "multilabel", table["label"].to_pylist(), table["id"].to_pylist()
    )


def compute_row_losses(targets: LabelMatrix, answers: Floats) -> Floats:
    """−log p of what is true of each label, the mean over labels, shape (rows,)."""
    return np.asarray(
        -np.log(np.clip(np.where(targets > 0, answers, 1 - answers), 1e-15, 1.0)).mean(axis=1)
    )
