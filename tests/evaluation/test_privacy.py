"""Privacy.

Membership inference is compared with scikit-learn's AUC and tried on a model that has memorized its
rows; passages of training texts are found in what a model writes.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from tasks import modalities, train
from tasks.evaluation import privacy
from tasks.evaluation.base import EvaluationContext
from tasks.recipe.evaluate import Evaluate
from tasks.statistics.intervals import proportion_interval
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests import tiny

CONFIG = Evaluate(resamples=300)


def train_on(folder: Path, modality: str, rows: pa.Table, **options: Any) -> EvaluationContext:
    """Train a model that is also validated on its training rows, with 64 other rows as a test."""
    paths = StagePaths(folder)
    test = tiny.table(modality, 800, 64)
    files.write_table(paths.split.train, rows)
    files.write_table(paths.split.val, rows)
    recipe = tiny.recipe(modality, folder, **options)
    train.run(recipe, paths, folder / "checkpoints")
    predictor = modalities.load_predictor(paths.model.path)
    inputs = modalities.extract_inputs(recipe, test)
    return EvaluationContext(
        recipe=recipe,
        model=paths.model,
        predictor=predictor,
        train=rows,
        val=rows,
        test=test,
        inputs=inputs,
        targets=predictor.problem.targets(test),
        answers=modalities.predict(predictor, inputs),
    )


def test_the_auc_is_scikit_learns_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    train_losses = rng.normal(0, 1, 80).round(1)
    test_losses = rng.normal(0.5, 1, 80).round(1)
    auc, resampled = privacy.bootstrap_membership_auc(train_losses, test_losses, CONFIG)
    is_member = [1] * 80 + [0] * 80
    losses = np.concatenate([train_losses, test_losses])
    assert auc == pytest.approx(roc_auc_score(is_member, -losses))
    assert len(resampled) == 300
    assert resampled.mean() == pytest.approx(auc, abs=0.01)
    assert 0.02 < resampled.std() < 0.08


def test_memorized_rows_are_distinguished_from_new_ones(tmp_path: Path) -> None:
    rows = tiny.table("tabular", 0, 64)
    is_yes = np.random.default_rng(0).integers(0, 2, 64)
    labels = pa.array(np.array(["no", "yes"])[is_yes].tolist())
    random_labels = rows.set_column(rows.column_names.index("label"), "label", labels)
    case = train_on(
        tmp_path,
        "tabular",
        random_labels,
        epochs=100,
        patience=100,
        dropout=0.0,
        hidden_sizes=[256, 256],
        learning_rate=1e-2,
        checkpoint_seconds=30.0,
    )
    result = privacy.measure(case)
    assert result.metrics["membership_auc"]["low"] > 0.55
    assert set(result.metrics) == {"membership_auc"}
    assert privacy.measure(case) == result


def test_a_model_that_saw_each_row_only_once_reveals_little(tmp_path: Path) -> None:
    result = privacy.measure(train_on(tmp_path, "image", tiny.table("image", 0, 100)))
    auc = result.metrics["membership_auc"]
    assert auc["low"] < 0.5 < auc["high"]


@pytest.mark.parametrize("start", [0, 3, 24, 25, 26, 49, 130])
def test_a_copied_passage_is_found_wherever_it_begins_and_a_shorter_one_is_not(
    start: int,
) -> None:
    letters = random.Random(0)
    text = "".join(letters.choices("abcdefgh ", k=200))
    written = "".join(letters.choices("abcdefgh ", k=200))
    passage = text[start : start + 50]
    copied = f"{written[:17]}{passage}!{written[17:]}"
    too_short = f"{written[:17]}{passage[:49]}!{written[17:]}"
    texts = [copied, too_short, written, passage, "short", ""]
    is_memorized = privacy.find_memorized(texts, ["other", text])
    assert is_memorized.tolist() == [True, False, False, True, False, False]


def test_the_texts_of_a_decoder_are_searched(tmp_path: Path) -> None:
    tiny.decoder(tmp_path / "base")
    rows = tiny.table("causal_lm", 0, 64)
    metrics = privacy.measure(train_on(tmp_path, "causal_lm", rows)).metrics
    assert 0 < metrics["membership_auc"]["value"] < 1
    for name in ("memorized", "memorized_by_people"):
        interval = metrics[name]
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1


def test_no_copy_in_ten_texts_is_no_proof_that_there_is_none() -> None:
    assert proportion_interval(np.zeros(10, bool), CONFIG) == {
        "value": 0.0,
        "low": 0.0,
        "high": 0.308497,
    }
