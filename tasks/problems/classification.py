"""Classification: one of several classes. Answers are probabilities.

Resampling is stratified by the true class (Efron and Tibshirani 1993, ch. 8): class sizes stay as they are, so no class vanishes from a resample.
Within a class the counts of predictions in a resample are multinomial, so a resample costs the size of the confusion matrix, not the number of rows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import problems
from tasks.mistakes import nearest
from tasks.problems import CHUNK, DIGITS, Floats
from tasks.recipe import Evaluate, Train
from tasks.step import Failure, Mistake

if TYPE_CHECKING:
    import torch

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """What a model said about the rows: predicted class and −log p(true class), each of shape (rows,)."""

    predicted: Ints
    loss: Floats


class Problem(problems.Problem):
    NAME = "classification"
    RESAMPLED = "stratified bootstrap"
    WORST = ("Wrong with most certainty", "probability")
    weights: "torch.Tensor | None" = None  # of each class in the loss, 1 for the average row

    @classmethod
    def fitted(cls, section: Train, table: pa.Table) -> Self:
        made = cls(sorted(set(table["label"].to_pylist())), section)
        if made.width < 2:
            raise Failure(f"train: all rows have the label {made.labels[0]!r}: a classifier needs at least two classes.")
        made.weights = class_weights(section, made.targets(table), made.labels)
        return made

    def known(self, table: pa.Table) -> pa.Table:
        return table.filter(pa.array([label in set(self.labels) for label in table["label"].to_pylist()]))

    def targets(self, table: pa.Table) -> Ints:
        return self.positions(table["label"].to_pylist())

    def positions(self, names: list[str]) -> Ints:
        position = {label: index for index, label in enumerate(self.labels)}
        unknown = sorted(set(names) - set(position))
        if unknown:
            raise Failure(problems.UNKNOWN.format(unknown[0]))
        return np.array([position[name] for name in names], dtype=np.int64)

    def loss(self, outputs: "torch.Tensor", inputs: "tuple[torch.Tensor, ...]", targets: "torch.Tensor") -> "tuple[torch.Tensor, float]":
        """Cross-entropy, with label smoothing and weights of classes."""
        from torch.nn.functional import cross_entropy

        weights = None if self.weights is None else self.weights.to(outputs.device)
        total = cross_entropy(outputs.float(), targets, weights, reduction="sum", label_smoothing=self.section.label_smoothing)
        return total, float(len(targets))

    def scores(self, outputs: "torch.Tensor", inputs: "tuple[torch.Tensor, ...]") -> "torch.Tensor":
        return outputs.float().softmax(1)

    def head(self, features: Floats, targets: Ints) -> tuple[Floats, Floats] | None:
        fitted = self.linear(10).fit(features, targets)
        return (fitted.coef_, fitted.intercept_) if len(fitted.classes_) == self.width > 2 else None

    def answers(self, outputs: NDArray[Any]) -> Floats:
        exponential = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
        result: Floats = exponential / exponential.sum(axis=1, keepdims=True)
        return result

    def sound(self, answers: Floats) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = super().sound(answers) & (np.abs(answers.sum(1) - 1) <= 1e-6)
        return found

    def linear(self, strength: float = 1.0) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, max_iter=300)

    def trees(self) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=0)

    def asked(self, model: Any, rows: Any) -> Floats:
        found = model.predict_proba(rows)
        result = np.zeros((len(found), self.width))
        result[:, model.classes_] = found
        return result

    def said(self, targets: Ints, answers: Floats) -> Scored:
        true = answers[np.arange(len(targets)), targets]
        return Scored(answers.argmax(1), -np.log(np.clip(true, 1e-15, 1.0)))

    def aligned(self, answers: Floats, labels: list[str]) -> Floats:
        """A class that these do not know is never right: the best of them comes last."""
        other = [index for index, name in enumerate(labels) if name not in self.labels]
        known = [answers[:, labels.index(name)] if name in labels else np.zeros(len(answers)) for name in self.labels]
        return np.stack([*known, answers[:, other].max(axis=1, initial=0)], 1)

    def points(self, targets: Ints, said: Scored) -> dict[str, float]:
        matrix = confusion(targets, said.predicted, size(targets, said))
        return {"accuracy": float(accuracy(matrix)), "macro_f1": float(macro_f1(matrix)), "log_loss": float(said.loss.mean())}

    def samples(self, metric: str, targets: Ints, models: list[Scored], section: Evaluate) -> Floats:
        if metric == "log_loss":
            return resampled_means(targets, np.stack([said.loss for said in models], 1), section)
        matrices = resampled_confusions(targets, [said.predicted for said in models], size(targets, *models), section)
        of = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
        return np.stack([of(matrix) for matrix in matrices], 1)

    def right(self, targets: Ints, said: Scored) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = said.predicted == targets
        return found

    def columns(self, targets: Ints, answers: dict[str, Floats]) -> dict[str, pa.Array]:
        names, found = np.array(self.labels, object), dict[str, pa.Array]()
        for who, prefix in (("model", ""), ("baseline", "baseline_")):
            said = self.said(targets, answers[who])
            found |= {f"{prefix}predicted": pa.array(names[said.predicted], pa.string()), f"{prefix}loss": pa.array(said.loss.round(DIGITS))}
        return {"label": pa.array(names[targets], pa.string()), **found, "probabilities": listed(answers["model"])}

    def read(self, predictions: pa.Table) -> dict[str, Scored]:
        return {
            who: Scored(self.positions(predictions[f"{prefix}predicted"].to_pylist()), predictions[f"{prefix}loss"].to_numpy())
            for who, prefix in (("model", ""), ("baseline", "baseline_"))
        }

    def by_class(self, targets: Ints, said: Scored, section: Evaluate) -> dict[str, dict[str, Any]]:
        matrix = confusion(targets, said.predicted, self.width)
        drawn = f1(resampled_confusions(targets, [said.predicted], self.width, section)[0])
        return problems.class_table(self.labels, matrix.diagonal(), matrix.sum(1), matrix.sum(0), drawn, section)

    def pairs(self, targets: Ints, said: Scored) -> list[tuple[str, str]]:
        return [(self.labels[true], self.labels[guess]) for true, guess in zip(targets, said.predicted, strict=True)]

    def worst(self, targets: Ints, answers: Floats, count: int) -> list[tuple[int, str, str, float]]:
        """The wrong answers of which the model was most certain."""
        wrong = np.flatnonzero(answers.argmax(1) != targets)
        ordered = wrong[np.argsort(-answers[wrong].max(1), kind="stable")][:count]
        return [(row, self.labels[targets[row]], self.labels[best := int(answers[row].argmax())], float(answers[row, best])) for row in ordered.tolist()]


def class_weights(section: Train, targets: Ints, classes: list[str]) -> "torch.Tensor | None":
    """The weight of each class in the loss, such that the average row has 1; `balanced` gives every class the same total (King and Zeng 2001)."""
    import torch

    if section.class_weights == "none":
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if isinstance(section.class_weights, str):
        weights = 1 / counts
    else:
        for name in section.class_weights:
            if name not in classes:
                raise Mistake(f"train.class_weights: {name!r} is not a class of the training rows{nearest(name, classes)}; they are {', '.join(classes)}.")
        weights = np.array([section.class_weights.get(name, 1.0) for name in classes])
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def listed(answers: Floats) -> pa.Array:
    return pa.array(answers.round(DIGITS).tolist(), pa.list_(pa.float64()))


def size(targets: Ints, *models: Scored) -> int:
    return 1 + max(int(targets.max()), *(int(said.predicted.max()) for said in models))


def confusion(targets: Ints, predicted: Ints, classes: int) -> Floats:
    """Counts, shape (true class, predicted class)."""
    return np.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(np.float64)


def accuracy(matrix: Floats) -> Any:
    """Of one confusion matrix or a stack (…, classes, classes)."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def f1(matrix: Floats) -> Floats:
    """Per class, shape (…, classes). A class that is neither there nor predicted counts 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(-1) + matrix.sum(-2)
    result: Floats = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return result


def macro_f1(matrix: Floats) -> Any:
    """The mean of F1 over the classes that the rows have."""
    present = matrix.sum(-1) > 0
    return (f1(matrix) * present).sum(-1) / present.sum(-1)


def resampled_confusions(targets: Ints, columns: list[Ints], classes: int, section: Evaluate) -> list[Floats]:
    """For each model's predictions in `columns` the confusion matrices of the same resamples, shape (resamples, classes, classes)."""
    rng = np.random.default_rng(section.seed)
    matrices = [np.zeros((section.resamples, classes, classes)) for _ in columns]
    for label in np.unique(targets):
        rows = np.stack([column[targets == label] for column in columns], 1)
        seen, counts = np.unique(rows, axis=0, return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=section.resamples)
        for model, matrix in enumerate(matrices):
            for column, predicted in enumerate(seen[:, model]):
                matrix[:, label, predicted] += drawn[:, column]
    return matrices


def resampled_means(targets: Ints, values: Floats, section: Evaluate) -> Floats:
    """Means of `values` (rows, models) in stratified resamples of the rows, shape (resamples, models); the same resamples for all models."""
    rng = np.random.default_rng(section.seed)
    totals = np.zeros((section.resamples, values.shape[1]))
    for label in np.unique(targets):
        part = values[targets == label]
        size = max(1, CHUNK // len(part))
        for start in range(0, section.resamples, size):
            picks = rng.integers(0, len(part), (min(size, section.resamples - start), len(part)))
            for model in range(values.shape[1]):
                totals[start : start + len(picks), model] += part[picks, model].sum(1)
    result: Floats = totals / len(targets)
    return result
