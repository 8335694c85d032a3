"""Explanation: what the answers for some test rows rest on.

For rows that are answered correctly, wrongly and with least certainty it shows

- how much each token, pixel or column counts for the answer: integrated gradients (Sundararajan
  et al. 2017) from a text of padding, an even grey or an average row;
- what an encoder's last layer attends to (the mean of its heads);
- the training rows that are most similar for the network.

For a table also permutation importance (Breiman 2001) of the exported model: how much worse the
metric gets when a column's cells change places. scikit-learn's permutes raw columns of an
estimator; here the encoded features of a column move together, so that the ONNX model is asked
directly.
"""

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from markupsafe import Markup

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.differentiable import DifferentiableBatch, DifferentiableModel, SampleSize
from tasks.evaluation.rendering import MAX_CELLS, render_image, render_row
from tasks.modalities import image, tabular
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.reports import html_pages
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import DIGITS

ROWS_PER_KIND = 3
INTEGRATION_STEPS = 16
INTEGRATION_BATCH_SIZE = 16
N_SIMILAR_ROWS = 3  # training rows shown beside each row
TRAIN_SAMPLE_SIZE = SampleSize(5_000_000, min_rows=N_SIMILAR_ROWS, max_rows=5000)
MAX_ATTENTION_MAPS = 2
MAX_MAP_TOKENS = 24
MAX_PERMUTED_ROWS = 500
N_PERMUTATIONS = 5
BAR_REM = 4  # width of the longest bar
FOR_ANSWER_COLOUR = (37, 99, 190)
AGAINST_ANSWER_COLOUR = (217, 72, 65)


class ChosenRow(NamedTuple):
    """A test row to explain, and why it was chosen."""

    kind: str
    row: int


class Importance(NamedTuple):
    """How much worse the metric gets without a column: mean and standard deviation."""

    mean: float
    std: float


def measure(context: EvaluationContext) -> AspectResult | None:
    """Explain some answers; None for a model that writes text or whose inputs have no gradients."""
    if context.problem.NAME == "language":
        return None
    if not context.trainer.HAS_DIFFERENTIABLE_INPUTS:
        return None
    model = DifferentiableModel(context.trainer)
    chosen = choose_rows(context)
    texts = [context.inputs[item.row] for item in chosen]
    importance = compute_permutation_importance(context, model) if model.columns else {}
    metrics = {}
    if importance:
        metrics["importance"] = {name: value.mean for name, value in importance.items()}
    report = {
        "rows": explain_rows(context, model, chosen),
        "maps": compute_attention_maps(model, texts) if model.embeddings else [],
        "importance": importance,
        "metric": context.problem.metrics[0],
    }
    return AspectResult(metrics, report)


def choose_rows(context: EvaluationContext) -> list[ChosenRow]:
    """Choose correct rows at random, the worst rows, and those whose answer is least certain."""
    problem = context.problem
    is_correct = problem.is_correct(context.targets, context.predictions)
    worst = [row for row, *_ in problem.worst_rows(context.targets, context.answers, ROWS_PER_KIND)]
    unsure = [] if is_correct is None else least_certain_rows(context, worst)
    taken = worst + unsure
    others = [
        row
        for row in range(len(context.answers))
        if row not in taken and (is_correct is None or is_correct[row])
    ]
    generator = random.Random(context.config.seed)  # noqa: S311
    sample = sorted(generator.sample(others, min(ROWS_PER_KIND, len(others))))
    if is_correct is None:
        rows_by_kind = {"At random": sample, "Farthest": worst}
    else:
        rows_by_kind = {"Correct": sample, "Wrong": worst, "Least certain": unsure}
    chosen: list[ChosenRow] = []
    for kind, rows in rows_by_kind.items():
        chosen += [ChosenRow(kind, row) for row in rows]
    return chosen


def least_certain_rows(context: EvaluationContext, excluded: list[int]) -> list[int]:
    """Return the rows whose best answer is least certain, without those excluded."""
    if context.problem.NAME == "classification":
        certainty = context.answers.max(1)
    else:
        certainty = np.abs(context.answers - 0.5).min(axis=1)
    ordered = np.argsort(certainty, kind="stable").tolist()
    return [row for row in ordered if row not in excluded][:ROWS_PER_KIND]


def explain_rows(
    context: EvaluationContext, model: DifferentiableModel, chosen: list[ChosenRow]
) -> list[JsonObject]:
    """Return for each chosen row its answer, what it rests on and similar training rows."""
    rows = [context.inputs[item.row] for item in chosen]
    similar = SimilarRows.find(context, model, rows)
    both = dict.fromkeys(("model", "baseline"), context.answers)
    predictions = context.problem.prediction_columns(context.targets, both)
    explained: list[JsonObject] = [{}] * len(rows)
    for batch in model.batches(rows):
        outputs = context.answers[[chosen[position].row for position in batch.rows]].argmax(1)
        attributions = attribute_outputs(model, batch, torch.from_numpy(outputs))
        for position, attribution in zip(batch.rows, attributions, strict=True):
            kind, row = chosen[position]
            explained[position] = {
                "kind": kind,
                "id": context.test["id"][row].as_py(),
                "true": predictions["label"][row].as_py(),
                "predicted": predictions["predicted"][row].as_py(),
                "counts": render_attributions(model, rows[position], attribution),
                "similar": similar.render(position),
            }
    return explained


@dataclass(frozen=True)
class SimilarRows:
    """Training rows, and how similar each is to the rows that are explained.

    Attributes:
        labels: The sampled training rows' labels.
        inputs: Their inputs.
        cosine: The cosine of the network's features, shape [explained rows, training rows].
    """

    labels: list[Any]
    inputs: list[Any]
    cosine: Floats

    @classmethod
    def find(
        cls, context: EvaluationContext, model: DifferentiableModel, rows: list[Any]
    ) -> "SimilarRows":
        """Compare rows with a sample of the training rows."""
        train_inputs = modalities.extract_inputs(context.recipe, context.train)
        sample = model.sample_rows(train_inputs, TRAIN_SAMPLE_SIZE, context.config.seed)
        inputs = [train_inputs[row] for row in sample]
        cosine = model.features(rows) @ model.features(inputs).T
        labels = context.train["label"].take(sample).to_pylist()
        return cls(labels, inputs, cosine)

    def render(self, position: int) -> list[tuple[Any, float, Markup]]:
        """Return label, cosine and content of the training rows most similar to a row."""
        nearest = np.argsort(-self.cosine[position], kind="stable")[:N_SIMILAR_ROWS]
        return [
            (self.labels[row], float(self.cosine[position, row]), render_row(self.inputs[row]))
            for row in nearest
        ]


def attribute_outputs(
    model: DifferentiableModel, batch: DifferentiableBatch, outputs: torch.Tensor
) -> torch.Tensor:
    """Return how much each input counts for one output of each row.

    Together they are what the output is above that of the starting point.

    Args:
        model: The network.
        batch: The rows.
        outputs: The position of the output of each row, shape [rows].

    Returns:
        The attributions, in the shape of the inputs.
    """
    start = torch.zeros_like(batch.inputs) + getattr(model.network, "mean", 0.0)
    if model.embeddings:
        start = model.embeddings(torch.full_like(batch.rest[0], model.trainer.pad_id))
    attributions = IntegratedGradients(model.outputs).attribute(
        batch.inputs,
        start,
        outputs,
        batch.rest or None,
        n_steps=INTEGRATION_STEPS,
        internal_batch_size=INTEGRATION_BATCH_SIZE,
    )
    return torch.as_tensor(attributions)


def render_attributions(model: DifferentiableModel, row: Any, attributions: torch.Tensor) -> Markup:
    """Return a row with what counts in it.

    A text's tokens and an image's pixels are coloured; the columns of a table have bars.
    """
    if isinstance(row, str):
        return model.render_tokens(row, attributions.sum(1).tolist())
    if isinstance(row, bytes):
        return render_row(row) + " " + render_coloured_pixels(row, attributions)
    return render_bars(model, row, attributions)


def render_coloured_pixels(row: bytes, attributions: torch.Tensor) -> Markup:
    """Return a grey image with the pixels that count in colour."""
    grey = image.decode_images([row])[0].mean(0)[..., None]
    counts = attributions.sum(0).numpy()[..., None]
    opacity = np.abs(counts) / (np.abs(counts).max() or 1)
    colour = np.where(counts > 0, FOR_ANSWER_COLOUR, AGAINST_ANSWER_COLOUR)
    blended = grey * (1 - opacity) + colour * opacity
    return render_image(blended.transpose(2, 0, 1))


def render_bars(model: DifferentiableModel, row: Any, attributions: torch.Tensor) -> Markup:
    """Return a bar for each of the columns of a table that count most."""
    sums = [(float(attributions[span].sum()), column.name) for column, span in model.columns]
    sums.sort(key=lambda item: -abs(item[0]))
    largest = abs(sums[0][0]) or 1.0
    line = Markup('<span class="bar{}" style="width: {:.2f}rem"></span> {} <b>{}</b><br>')
    bars = [
        line.format(
            "" if value > 0 else " cut",
            BAR_REM * abs(value) / largest,
            name,
            html_pages.format_value(row.get(name)),
        )
        for value, name in sums[:MAX_CELLS]
    ]
    return Markup().join(bars)


def compute_attention_maps(
    model: DifferentiableModel, texts: list[str]
) -> list[tuple[list[str], Any]]:
    """Return the attention maps of the shortest texts."""
    shortest = sorted(texts, key=len)[:MAX_ATTENTION_MAPS]
    return [compute_attention(model, text) for text in shortest]


def compute_attention(model: DifferentiableModel, text: str) -> tuple[list[str], Any]:
    """Return a text's first tokens, and the attention of each (axis 0) to each (axis 1).

    It is that of the encoder's last layer, the mean over its heads.
    """
    encoder = model.network.encoder
    encoding = model.trainer.tokenizer.encode(text)
    implementation = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")  # the others do not return weights
    token_ids = torch.tensor([encoding.ids])
    last_layer = encoder(input_ids=token_ids, output_attentions=True).attentions[-1]
    encoder.set_attn_implementation(implementation)
    weights = last_layer[0].mean(0)
    pairs = zip(encoding.offsets, encoding.tokens, strict=True)
    tokens = [text[slice(*offsets)] or token for offsets, token in pairs]
    return tokens[:MAX_MAP_TOKENS], weights[:MAX_MAP_TOKENS, :MAX_MAP_TOKENS].numpy()


def compute_permutation_importance(
    context: EvaluationContext, model: DifferentiableModel
) -> dict[str, Importance]:
    """Return how much worse the metric gets when each column's cells change places."""
    generator = np.random.default_rng(context.config.seed)
    sample = np.sort(generator.permutation(len(context.inputs))[:MAX_PERMUTED_ROWS])
    predictor: Any = context.predictor
    rows = [context.inputs[row] for row in sample]
    features = tabular.encode_features(predictor.columns, rows)
    metric = context.problem.metrics[0]
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def loss_without(span: slice) -> float:
        """Return the metric, such that more is worse, with the span's features permuted."""
        permuted = features.copy()
        permuted[:, span] = features[generator.permutation(len(features)), span]
        logits = predictor.session.run(["logits"], {"features": permuted})[0]
        answers = context.problem.decode_outputs(logits)
        return sign * context.problem.measure(context.targets[sample], answers)[metric]

    unpermuted = loss_without(slice(0))
    importance = {}
    for column, span in model.columns:
        losses = [loss_without(span) - unpermuted for _ in range(N_PERMUTATIONS)]
        importance[column.name] = Importance(
            round(float(np.mean(losses)), DIGITS), round(float(np.std(losses)), DIGITS)
        )
    return importance
