"""Test accuracy of a recipe that names only its source, beside transformers' Trainer.

Each has its own defaults, and trains for the same number of epochs on the same rows.

make bench ARGS="-k defaults"
BENCH_SMALL=1 make bench ARGS="-k defaults"    with few rows, to see that it runs

Both start from the same base and learn from the same training rows. Ours also has the validation
rows, by which it keeps its best epoch, as it does by default.
Data: banking77 and sms_spam in ../shared/data.
"""

import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.storage.layout import StagePaths
from tests.bench.measured import measured
from tests.bench.test_training import DATA

SMALL = bool(os.environ.get("BENCH_SMALL"))
FEW = 3, 30  # classes, and rows of each, where it is small
RECIPE = """name: {name}
modality: text
ingest: {{kind: files, path: {path}}}
gate: [{{rule: floor, metric: accuracy, bound: 0.5}}]
"""


def banking77() -> list[tuple[str, str]]:
    """Texts and labels of both files, which are split anew."""
    found = []
    for side in ("train", "test"):
        with (DATA / "banking77" / f"{side}.csv").open(encoding="utf-8", newline="") as file:
            found += [(row["text"], row["category"]) for row in csv.DictReader(file)]
    return found


def sms_spam() -> list[tuple[str, str]]:
    found = []
    for line in (DATA / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines():
        label, _, text = line.partition("\t")
        found.append((text, label))
    return found


def few(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return some rows of some classes."""
    classes, count = FEW
    kept = []
    for name in sorted({label for _, label in rows})[:classes]:
        kept += [row for row in rows if row[1] == name][:count]
    return kept


def split_of(name: str, rows: list[tuple[str, str]], folder: Path) -> None:
    """Write a recipe and take its rows through the steps before training."""
    from tasks import clean, ingest, label, split
    from tasks.recipe.loading import read_recipe

    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(name=name, path=folder / "rows.csv"))
    recipe = read_recipe(path)
    ingest.run(recipe, StagePaths(folder))
    clean.run(recipe, StagePaths(folder))
    label.run(recipe, StagePaths(folder))
    split.run(recipe, StagePaths(folder))


def side_of(folder: Path, side: str) -> tuple[list[str], list[str]]:
    from tasks.storage import files

    table = files.read_table(folder / "split" / f"{side}.parquet")
    return table["text"].to_pylist(), table["label"].to_pylist()


def answers_ours(folder: Path) -> list[str]:
    """Train as the recipe says and return what the exported model says of the test rows."""
    from tasks import modalities, train
    from tasks.recipe.loading import read_recipe
    from tasks.storage.layout import StagePaths

    recipe = read_recipe(folder / "recipe.yaml")
    train.run(recipe, StagePaths(folder), folder / "checkpoints")
    predictor = modalities.load_predictor(folder / "model")
    answers = predictor(side_of(folder, "test")[0])
    return [predictor.labels[best] for best in answers.argmax(1)]


def answers_trainer(folder: Path) -> list[str]:
    """Train as a person does who says nothing but how many epochs there are."""
    import datasets
    import transformers

    from tasks.modalities import pretrained
    from tasks.recipe.loading import read_recipe

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    section = read_recipe(folder / "recipe.yaml").train
    base = pretrained.resolve_base_folder(section)
    (texts, labels), (test, _) = side_of(folder, "train"), side_of(folder, "test")
    names = sorted(set(labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(names)
    )

    def encoded(rows: list[str], targets: list[int]) -> Any:
        return datasets.Dataset.from_dict({**tokenizer(rows, truncation=True), "labels": targets})

    with tempfile.TemporaryDirectory() as target:
        arguments = transformers.TrainingArguments(
            target,
            num_train_epochs=section.epochs,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = encoded(texts, [names.index(label) for label in labels])
        trainer = transformers.Trainer(
            network, arguments, train_dataset=data, processing_class=tokenizer
        )
        trainer.train()
        said = trainer.predict(encoded(test, [0] * len(test))).predictions
    return [names[best] for best in said.argmax(1)]


@pytest.mark.parametrize("rows_of", [banking77, sms_spam], ids=lambda rows_of: rows_of.__name__)
def test_defaults_beside_those_of_transformers_trainer(rows_of: Any, tmp_path: Path) -> None:
    """The Trainer may not be above our interval, which is by bootstrap, as in evaluation."""
    from tasks.problems.classification import ClassificationProblem, ClassPredictions
    from tasks.recipe.evaluate import Evaluate
    from tasks.statistics import intervals

    name = rows_of.__name__
    if not (DATA / name).is_dir():
        pytest.skip(f"needs {DATA / name}")
    rows = rows_of()
    if SMALL:
        rows = few(rows)
    split_of(name.replace("_", "-"), rows, tmp_path)
    labels = side_of(tmp_path, "test")[1]
    classes = sorted(set(side_of(tmp_path, "train")[1]) | set(labels))
    problem, targets = (
        ClassificationProblem(classes),
        np.array([classes.index(label) for label in labels]),
    )
    counts = {side: len(side_of(tmp_path, side)[0]) for side in ("train", "val", "test")}
    print(f"\n{name}: {counts} rows; accuracy on test with its interval of 95 %")
    scores, highest = {}, {}
    for who, function in {
        "Millrace": answers_ours,
        "transformers' Trainer": answers_trainer,
    }.items():
        found = measured(function, tmp_path)
        said = ClassPredictions(
            np.array([classes.index(answer) for answer in found.result]), np.zeros(len(labels))
        )
        low, high = intervals.percentile_bounds(
            problem.bootstrap_metric("accuracy", targets, [said], Evaluate())[:, 0], 0.95
        )
        scores[who], highest[who] = problem.point_estimates(targets, said)["accuracy"], high
        print(f"{who:24} {scores[who]:.4f} ({low:.4f} to {high:.4f})   {found.seconds:,.0f} s")
    assert scores["transformers' Trainer"] <= highest["Millrace"]
