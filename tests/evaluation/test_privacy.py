"""Privacy: membership inference, and passages of training texts in what a model writes.

Membership inference is compared with scikit-learn, and measured on a model that has memorised.
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
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny

SECTION = Evaluate(resamples=300)


def case(folder: Path, modality: str, rows: pa.Table, **options: Any) -> EvaluationContext:
    """The model that does best on the rows that it is trained on, with 64 others to test it on."""
    test = tiny.table(modality, 800, 64)
    for side in ("train", "val"):
        files.write_table(folder / "split" / f"{side}.parquet", rows)
    made = tiny.recipe(modality, folder, **options)
    train.run(made, StagePaths(folder), folder / "checkpoints")
    predictor = modalities.load_predictor(folder / "model")
    content, targets = modalities.extract_inputs(made, test), predictor.problem.targets(test)
    return EvaluationContext(
        made,
        ModelFolder(folder / "model"),
        predictor,
        rows,
        rows,
        test,
        content,
        targets,
        modalities.predict(predictor, content),
    )


def test_the_auc_is_scikit_learns_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    known, new = rng.normal(0, 1, 80).round(1), rng.normal(0.5, 1, 80).round(1)
    point, drawn = privacy.bootstrap_membership_auc(known, new, SECTION)
    assert point == pytest.approx(roc_auc_score([1] * 80 + [0] * 80, -np.concatenate([known, new])))
    assert len(drawn) == 300
    assert drawn.mean() == pytest.approx(point, abs=0.01)
    assert 0.02 < drawn.std() < 0.08


def test_rows_learnt_by_heart_are_told_from_new_ones(tmp_path: Path) -> None:
    rows = tiny.table("tabular", 0, 64)
    labels = pa.array(
        [["no", "yes"][value] for value in np.random.default_rng(0).integers(0, 2, 64)]
    )
    nonsense = rows.set_column(rows.column_names.index("label"), "label", labels)
    case_ = case(
        tmp_path,
        "tabular",
        nonsense,
        epochs=100,
        patience=100,
        dropout=0.0,
        hidden_sizes=[256, 256],
        learning_rate=1e-2,
        checkpoint_seconds=30.0,
    )
    told = privacy.measure(case_)
    assert told.metrics["membership_auc"]["low"] > 0.55
    assert set(told.metrics) == {"membership_auc"}
    assert privacy.measure(case_) == told


def test_a_model_that_saw_no_row_of_its_own_twice_gives_little_away(tmp_path: Path) -> None:
    told = privacy.measure(case(tmp_path, "image", tiny.table("image", 0, 100)))
    assert told.metrics["membership_auc"]["low"] < 0.5 < told.metrics["membership_auc"]["high"]


@pytest.mark.parametrize("start", [0, 3, 24, 25, 26, 49, 130])
def test_a_run_is_found_wherever_it_begins_and_a_shorter_one_is_not(start: int) -> None:
    letters = random.Random(0)
    text, said = ("".join(letters.choices("abcdefgh ", k=200)) for _ in range(2))
    copied, almost = (
        said[:17] + text[start : start + length] + "!" + said[17:] for length in (50, 49)
    )
    assert privacy.find_memorized(
        [copied, almost, said, text[start : start + 50], "short", ""], ["other", text]
    ).tolist() == [True, False, False, True, False, False]


def test_a_decoder_is_asked_what_it_writes(tmp_path: Path) -> None:
    tiny.decoder(tmp_path / "base")
    told = privacy.measure(case(tmp_path, "causal_lm", tiny.table("causal_lm", 0, 64)))
    assert 0 < told.metrics["membership_auc"]["value"] < 1
    for name in ("memorized", "memorized_by_people"):
        assert (
            0
            <= told.metrics[name]["low"]
            <= told.metrics[name]["value"]
            <= told.metrics[name]["high"]
            <= 1
        )


def test_no_copy_in_ten_texts_is_no_proof_that_there_is_none() -> None:
    assert proportion_interval(np.zeros(10, bool), SECTION) == {
        "value": 0.0,
        "low": 0.0,
        "high": 0.308497,
    }
