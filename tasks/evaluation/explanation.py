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

from tasks import page
from tasks.evaluation import Case, Found, examples
from tasks.evaluation.inside import Batch, Inside
from tasks.modalities import rows as contents
from tasks.modalities import tabular
from tasks.modalities.image import pixels
from tasks.problems import DIGITS, Floats
from tasks.recipe import LOWER_IS_BETTER

EACH, STEPS, TOGETHER = 4, 24, 64  # rows of each kind; steps of the integral, and rows of a batch in it
TRAINED, NUMBERS, SIMILAR = 5000, 15_000_000, 3  # training rows that are looked at, the numbers of all their inputs, and those shown beside each row
MAPS, TOKENS = 2, 24  # maps of attention, and the tokens of each
ROWS, REPEATS = 500, 5  # of permutation importance
COLUMNS = 8  # of a row of a table, those that count most


def chosen(case: Case) -> dict[str, list[int]]:
    """Rows of each kind: right ones at random, those that were answered worst, and those in which two answers are nearest to one another."""
    problem, answers, rng = case.problem, case.answers, random.Random(case.recipe.evaluate.seed)  # noqa: S311  not for secrets
    wrong = [row for row, *_ in problem.worst(case.targets, answers, EACH)]
    right = problem.right(case.targets, case.said)
    if right is None:
        worst = [row for row, *_ in problem.worst(case.targets, answers, len(answers))]
        return {"Nearest": worst[EACH:][-EACH:], "Farthest": wrong}
    best = np.sort(answers, axis=1)
    margin = best[:, -1] - best[:, -2] if problem.NAME == "classification" else np.abs(answers - 0.5).min(axis=1)
    unsure = [row for row in np.argsort(margin, kind="stable").tolist() if row not in wrong][:EACH]
    known = [row for row in np.flatnonzero(right).tolist() if row not in unsure]
    return {"Right": sorted(rng.sample(known, min(EACH, len(known)))), "Wrong": wrong, "Least certain": unsure}


def attributions(inside: Inside, batch: Batch, outputs: torch.Tensor) -> torch.Tensor:
    """How much each number of the inputs counts for the output asked of each row; together, what the output is above that of the baseline."""
    network = inside.adapter.network
    if inside.embeddings is not None:
        start = inside.embeddings(torch.full_like(batch.rest[0], inside.adapter.pad))  # type: ignore[attr-defined]
    else:
        start = torch.zeros_like(batch.inputs) + getattr(network, "mean", 0.0)
    rest = batch.rest or None
    found: torch.Tensor = IntegratedGradients(inside.outputs).attribute(batch.inputs, start, outputs, rest, n_steps=STEPS, internal_batch_size=TOGETHER)
    return found


def told(inside: Inside, row: Any, counts: torch.Tensor) -> Markup:
    """The row with what counts in it: a text's tokens and an image's pixels on coloured ground, the columns of a table with bars."""
    if isinstance(row, str):
        return inside.tokens(row, counts.sum(1).tolist())
    if isinstance(row, bytes):
        image, values = pixels([row])[0].mean(0), counts.sum(0).numpy()
        ground = np.where(values[..., None] > 0, (37, 99, 190), (217, 72, 65))
        share = (np.abs(values) / (np.abs(values).max() or 1))[..., None]
        return examples.picture((image[..., None] * (1 - share) + ground * share).astype(np.uint8).transpose(2, 0, 1))
    sums = sorted(((float(counts[place].sum()), column["name"]) for column, place in inside.columns()), key=lambda one: -abs(one[0]))[:COLUMNS]
    most = abs(sums[0][0]) or 1.0
    line = Markup('<span class="bar{}" style="width: {:.2f}rem"></span> {} <b>{}</b><br>')
    return Markup("").join(line.format("" if value > 0 else " cut", 4 * abs(value) / most, name, page.shown(row.get(name))) for value, name in sums)


def attention(inside: Inside, row: str) -> tuple[list[str], Floats]:
    """The first tokens of a text, and how much each (first axis) looks at each in the encoder's last layer."""
    adapter: Any = inside.adapter
    encoder, encoding = adapter.network.encoder, adapter.tokenizer.encode(row)
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")  # others do not tell
    ids = torch.tensor([encoding.ids])
    weights = encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True).attentions[-1][0].mean(0)
    encoder.set_attn_implementation(before)
    return [row[start:stop] or token for (start, stop), token in zip(encoding.offsets, encoding.tokens, strict=True)][:TOKENS], weights[
        :TOKENS, :TOKENS
    ].numpy()


def importance(case: Case, inside: Inside) -> dict[str, dict[str, float]]:
    """By how much the metric is worse, on average and in its standard deviation, when the cells of each column change places."""
    rng, predictor, metric = np.random.default_rng(case.recipe.evaluate.seed), case.predictor, case.problem.metrics[0]
    drawn = np.sort(rng.permutation(len(case.rows))[:ROWS])
    features, targets, sign = tabular.encoded(predictor.columns, [case.rows[row] for row in drawn]), case.targets[drawn], 1 if metric in LOWER_IS_BETTER else -1  # type: ignore[attr-defined]

    def score(given: Any) -> float:
        return sign * case.problem.measure(targets, case.problem.answers(predictor.session.run(["logits"], {"features": given})[0]))[metric]  # type: ignore[attr-defined]

    plain, found = score(features), {}
    for column, place in inside.columns():
        worse = []
        for _ in range(REPEATS):
            mixed = features.copy()
            mixed[:, place] = features[rng.permutation(len(features)), place]
            worse.append(score(mixed) - plain)
        found[column["name"]] = {"value": round(float(np.mean(worse)), DIGITS), "deviation": round(float(np.std(worse)), DIGITS)}
    return found


def measure(case: Case) -> Found | None:
    if case.problem.NAME == "language":
        return None
    inside, problem = Inside(case.trained), case.problem
    kinds = chosen(case)
    picked = [row for rows in kinds.values() for row in rows]
    rows = [case.rows[row] for row in picked]
    said = problem.columns(case.targets, {"model": case.answers, "baseline": case.answers})
    trained = case.train.take(inside.drawn(contents(case.recipe, case.train), NUMBERS, case.recipe.evaluate.seed, SIMILAR, TRAINED))
    known = contents(case.recipe, trained)
    alike = inside.features(rows) @ inside.features(known).T
    counts: dict[int, Markup] = {}
    for batch in inside.batches(rows):
        found = attributions(inside, batch, torch.from_numpy(case.answers[[picked[row] for row in batch.rows]].argmax(1)))
        counts |= {picked[row]: told(inside, rows[row], found[at]) for at, row in enumerate(batch.rows)}
    shown = [
        {
            "kind": next(kind for kind, of in kinds.items() if row in of),
            "id": case.test["id"][row].as_py(),
            "true": said["label"][row].as_py(),
            "said": said["predicted"][row].as_py(),
            "row": examples.shown(case.rows[row]) if isinstance(case.rows[row], bytes) else "",
            "counts": counts[row],
            "similar": [
                {"label": trained["label"][other].as_py(), "cosine": float(alike[at, other]), "row": examples.shown(known[other])}
                for other in np.argsort(-alike[at], kind="stable")[:SIMILAR].tolist()
            ],
        }
        for at, row in enumerate(picked)
    ]
    maps = [attention(inside, row) for row in sorted(rows, key=len)[:MAPS]] if inside.embeddings is not None else []
    columns = importance(case, inside) if inside.columns() else {}
    return Found({"importance": columns} if columns else {}, {"rows": shown, "maps": maps, "importance": columns, "metric": problem.metrics[0]})
