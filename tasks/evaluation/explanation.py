"""Explanation: what the answers for some test rows rest on. For rows that were answered rightly, wrongly and with least certainty it shows

- how much each token, pixel or column counts for the answer (integrated gradients, Sundararajan et al. 2017), from a text of padding, an even grey, or an average row,
- what an encoder's last layer looks at (the mean of its attention heads), and the training rows that are most similar for the network.

For a table also by how much the metric gets worse when the cells of a column change places (permutation importance, Breiman 2001): by the exported model.
"""

import random
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from markupsafe import Markup

from tasks import modalities
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.differentiable import DifferentiableBatch, DifferentiableModel
from tasks.evaluation.rendering import MAX_CELLS, render_image, render_row
from tasks.modalities import image, tabular
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.reports import html_pages
from tasks.statistics.intervals import DIGITS

ROWS_PER_KIND, INTEGRATION_STEPS, INTEGRATION_BATCH_SIZE = (
    3,
    16,
    16,
)  # rows of each kind; steps of the integral, and rows of a batch in it
MAX_TRAIN_ROWS, MAX_INPUT_NUMBERS, N_SIMILAR_ROWS = (
    5000,
    5_000_000,
    3,
)  # training rows that are looked at, the numbers of all their inputs, and those shown beside each row
MAX_ATTENTION_MAPS, MAX_MAP_TOKENS = 2, 24  # maps of attention, and the tokens of each
MAX_PERMUTED_ROWS, N_PERMUTATIONS = 500, 5  # of permutation importance


def choose_rows(case: EvaluationContext) -> list[tuple[str, int]]:
    """Rows of each kind: right ones at random, those that were answered worst, and those whose best answer is least certain."""
    right, answers = case.problem.is_correct(case.targets, case.said), case.answers
    bad = [row for row, *_ in case.problem.worst_rows(case.targets, answers, ROWS_PER_KIND)]
    certain = (
        answers.max(1)
        if case.problem.NAME == "classification"
        else np.abs(answers - 0.5).min(axis=1)
    )
    unsure = (
        []
        if right is None
        else [row for row in np.argsort(certain, kind="stable").tolist() if row not in bad][
            :ROWS_PER_KIND
        ]
    )
    others = [
        row
        for row in range(len(answers))
        if row not in bad + unsure and (right is None or right[row])
    ]
    generator = random.Random(case.recipe.evaluate.seed)  # noqa: S311
    some = sorted(generator.sample(others, min(ROWS_PER_KIND, len(others))))
    names = (
        ("Right", "Wrong", "Least certain") if right is not None else ("At random", "Farthest", "")
    )
    return [
        (name, row) for name, rows in zip(names, (some, bad, unsure), strict=True) for row in rows
    ]


def attribute_outputs(
    inside: DifferentiableModel, batch: DifferentiableBatch, outputs: torch.Tensor
) -> torch.Tensor:
    """How much each number of the inputs counts for the output asked of each row; together, what the output is above that of the baseline."""
    start = torch.zeros_like(batch.inputs) + getattr(inside.network, "mean", 0.0)
    if inside.embeddings:
        start = inside.embeddings(torch.full_like(batch.rest[0], inside.adapter.pad_id))
    found = IntegratedGradients(inside.outputs).attribute(
        batch.inputs,
        start,
        outputs,
        batch.rest or None,
        n_steps=INTEGRATION_STEPS,
        internal_batch_size=INTEGRATION_BATCH_SIZE,
    )
    return torch.as_tensor(found)


def render_attributions(inside: DifferentiableModel, row: Any, counts: torch.Tensor) -> Markup:
    """The row with what counts in it: a text's tokens and an image's pixels on coloured ground, the columns of a table with bars."""
    if isinstance(row, str):
        return inside.tokens(row, counts.sum(1).tolist())
    if isinstance(row, bytes):
        grey, values = (
            image.decode_images([row])[0].mean(0)[..., None],
            counts.sum(0).numpy()[..., None],
        )
        share = np.abs(values) / (np.abs(values).max() or 1)
        return (
            render_row(row)
            + " "
            + render_image(
                (
                    grey * (1 - share) + np.where(values > 0, (37, 99, 190), (217, 72, 65)) * share
                ).transpose(2, 0, 1)
            )
        )
    sums = sorted(
        ((float(counts[place].sum()), column["name"]) for column, place in inside.columns),
        key=lambda one: -abs(one[0]),
    )[:MAX_CELLS]
    line, most = (
        Markup('<span class="bar{}" style="width: {:.2f}rem"></span> {} <b>{}</b><br>'),
        abs(sums[0][0]) or 1.0,
    )
    return Markup().join(
        line.format(
            "" if value > 0 else " cut",
            4 * abs(value) / most,
            name,
            html_pages.format_value(row.get(name)),
        )
        for value, name in sums
    )


def compute_attention(inside: DifferentiableModel, row: str) -> tuple[list[str], Any]:
    """The first tokens of a text, and how much each (first axis) looks at each in the encoder's last layer."""
    encoder, encoding = inside.network.encoder, inside.adapter.tokenizer.encode(row)
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")  # others do not tell
    weights = (
        encoder(input_ids=torch.tensor([encoding.ids]), output_attentions=True)
        .attentions[-1][0]
        .mean(0)
    )
    encoder.set_attn_implementation(before)
    return [
        row[slice(*at)] or token
        for at, token in zip(encoding.offsets, encoding.tokens, strict=True)
    ][:MAX_MAP_TOKENS], weights[:MAX_MAP_TOKENS, :MAX_MAP_TOKENS].numpy()


def compute_permutation_importance(
    case: EvaluationContext, inside: DifferentiableModel
) -> dict[str, tuple[float, float]]:
    """By how much the metric is worse, on average and in its standard deviation, when the cells of each column change places."""
    rng, predictor, metric = (
        np.random.default_rng(case.recipe.evaluate.seed),
        case.predictor,
        case.problem.metrics[0],
    )
    drawn = np.sort(rng.permutation(len(case.rows))[:MAX_PERMUTED_ROWS])
    features = tabular.encode_features(predictor.columns, [case.rows[row] for row in drawn])  # type: ignore[attr-defined]

    def score(place: slice) -> float:
        given = features.copy()
        given[:, place] = features[rng.permutation(len(features)), place]
        answers = case.problem.decode_outputs(
            predictor.session.run(["logits"], {"features": given})[0]
        )  # type: ignore[attr-defined]
        return case.problem.measure(case.targets[drawn], answers)[metric] * (
            1 if metric in LOWER_IS_BETTER else -1
        )

    plain = score(slice(0))
    worse = {
        column["name"]: [score(place) - plain for _ in range(N_PERMUTATIONS)]
        for column, place in inside.columns
    }
    return {
        name: (round(float(np.mean(by)), DIGITS), round(float(np.std(by)), DIGITS))
        for name, by in worse.items()
    }


def measure(case: EvaluationContext) -> AspectResult | None:
    if case.problem.NAME == "language":
        return None
    inside, picked = DifferentiableModel(case.trained), choose_rows(case)
    rows = [case.rows[row] for _, row in picked]
    said = case.problem.prediction_columns(
        case.targets, dict.fromkeys(("model", "baseline"), case.answers)
    )
    known = modalities.extract_inputs(case.recipe, case.train)
    drawn = inside.drawn(
        known, MAX_INPUT_NUMBERS, case.recipe.evaluate.seed, N_SIMILAR_ROWS, MAX_TRAIN_ROWS
    )
    alike = inside.features(rows) @ inside.features([known[row] for row in drawn]).T
    about: list[dict[str, Any]] = [{}] * len(rows)
    for batch in inside.batches(rows):
        asked = case.answers[[picked[row][1] for row in batch.rows]].argmax(1)
        for row, counts in zip(
            batch.rows, attribute_outputs(inside, batch, torch.from_numpy(asked)), strict=True
        ):
            (kind, at), near = picked[row], np.argsort(-alike[row], kind="stable")[:N_SIMILAR_ROWS]
            similar = [
                (
                    case.train["label"][drawn[other]].as_py(),
                    float(alike[row, other]),
                    render_row(known[drawn[other]]),
                )
                for other in near
            ]
            about[row] = {
                "kind": kind,
                "id": case.test["id"][at].as_py(),
                "true": said["label"][at].as_py(),
                "said": said["predicted"][at].as_py(),
            }
            about[row] |= {
                "counts": render_attributions(inside, rows[row], counts),
                "similar": similar,
            }
    maps = (
        [compute_attention(inside, row) for row in sorted(rows, key=len)[:MAX_ATTENTION_MAPS]]
        if inside.embeddings
        else []
    )
    columns = compute_permutation_importance(case, inside) if inside.columns else {}
    metrics = (
        {"importance": {name: value for name, (value, _) in columns.items()}} if columns else {}
    )
    return AspectResult(
        metrics,
        {"rows": about, "maps": maps, "importance": columns, "metric": case.problem.metrics[0]},
    )
