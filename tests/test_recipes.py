"""The recipes of public data sets, from the source to the split.

They run on the real files if these lie beside the repository, and everywhere on small files with
the same dirt.
"""

import csv
import gzip
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tasks import check_raw, check_ready, clean, ingest, label, resolve, split
from tasks.contracts.cleaning_report import CleaningReport
from tasks.contracts.label_report import LabelReport
from tasks.contracts.snapshot import Snapshot
from tasks.contracts.split_report import SplitReport
from tasks.recipe.loading import read_recipe
from tasks.storage.layout import StagePaths
from tests.conftest import ROOT
from tests.sources.test_images import encode_idx

RECIPES = ROOT / "tests" / "recipes"
REAL_DATA = ROOT.parent / "shared" / "data"
SOURCES = Path("data/sources")
REAL_FILES = {
    "sms-spam": {"sms-spam.tsv": "sms_spam/SMSSpamCollection"},
    "waimai-10k": {"waimai-10k.csv": "waimai_10k/waimai_10k.csv"},
    "banking77": {
        "banking77-train.csv": "banking77/train.csv",
        "banking77-test.csv": "banking77/test.csv",
    },
    "mnist": {
        "mnist-train-images.gz": "mnist/train-images-idx3-ubyte.gz",
        "mnist-train-labels.gz": "mnist/train-labels-idx1-ubyte.gz",
        "mnist-test-images.gz": "mnist/t10k-images-idx3-ubyte.gz",
        "mnist-test-labels.gz": "mnist/t10k-labels-idx1-ubyte.gz",
    },
}
WORDS = [
    "card", "cash", "pay", "fee", "limit", "transfer", "account",
    "refund", "branch", "code", "top", "currency", "exchange", "balance",
    "statement", "pending", "declined", "travel", "phone", "lost",
]  # fmt: skip


@dataclass(frozen=True)
class Reports:
    """What the stages reported."""

    raw: Snapshot
    clean: CleaningReport
    labelled: LabelReport
    split: SplitReport

    def rejects_by_rule(self) -> dict[str, int]:
        """Count the rows that each cleaning rule rejected; one may be applied twice."""
        counts: Counter[str] = Counter()
        for rule in self.clean.rules:
            counts.update({rule.rule: rule.rejected})
        return dict(counts)


def run_until_split(name: str, text: str | None = None) -> Reports:
    """Run a recipe, or another text of it, on data/sources; every stage accounts for every row."""
    paths = StagePaths.of_recipe(name)
    recipe = RECIPES / f"{name}.yaml"
    if text:
        recipe = Path(recipe.name)
        recipe.write_text(text)
    resolve.resolve_recipe(read_recipe(recipe)).write(paths.recipe)
    ingest.ingest(name)
    check_raw.check_raw(name)
    clean.clean(name)
    label.label(name)
    split.split(name)
    check_ready.check_ready(name)
    reports = Reports(
        Snapshot.read(paths.raw.snapshot),
        CleaningReport.read(paths.clean.report),
        LabelReport.read(paths.labelled.report),
        SplitReport.read(paths.split.report),
    )
    rows = reports.raw.rows
    for report in (reports.clean, reports.labelled, reports.split):
        assert report.rows_in == rows == report.rows + report.rejects
        rows = report.rows
    return reports


def run_on_real_files(name: str) -> Reports:
    SOURCES.mkdir(parents=True)
    for target, source in REAL_FILES[name].items():
        if not (REAL_DATA / source).is_file():
            pytest.skip(f"the real {source} is not beside the repository")
        (SOURCES / target).symlink_to(REAL_DATA / source)
    return run_until_split(name)


def make_texts(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [f"{' '.join(chance.sample(WORDS, 9))} {number * 37}" for number in range(count)]


def write_csv(name: str, rows: list[list[str]]) -> None:
    SOURCES.mkdir(parents=True, exist_ok=True)
    with (SOURCES / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read_split_texts(name: str) -> list[str]:
    texts = []
    for path in StagePaths.of_recipe(name).split.tables():
        texts += pq.read_table(path)["text"].to_pylist()
    return texts


def test_all_403_exact_duplicates_of_the_real_sms_spam_are_found(here: Path) -> None:
    reports = run_on_real_files("sms-spam")
    assert reports.raw.rows == 5574
    assert [(rule.rule, rule.rejected) for rule in reports.clean.rules[:2]] == [
        ("conflicting_duplicates", 0),
        ("exact_duplicates", 403),
    ]


def test_the_real_waimai_keeps_chinese_and_loses_what_is_labelled_both_ways(here: Path) -> None:
    reports = run_on_real_files("waimai-10k")
    assert reports.raw.rows == 11_987
    assert reports.rejects_by_rule()["language"] == 0
    assert reports.rejects_by_rule()["conflicting_duplicates"] == 14


def test_rows_of_the_real_banking77_that_both_files_hold_are_found(here: Path) -> None:
    reports = run_on_real_files("banking77")
    rejects = reports.rejects_by_rule()
    assert reports.raw.rows_in == 13_083
    assert len(reports.labelled.classes) == 77
    assert rejects["language"] == 0
    assert rejects["exact_duplicates"] + rejects["near_duplicates"] >= 29


def test_the_real_mnist_is_tested_on_all_official_test_images(here: Path) -> None:
    reports = run_on_real_files("mnist")
    assert reports.raw.rows == 70_000
    assert reports.split.rows_by_split == {"train": 54_000, "val": 6_000, "test": 10_000}
    test = pq.read_table(StagePaths.of_recipe("mnist").split.test, columns=["id"])
    assert test["id"].to_pylist() == [str(1_000_000 + number) for number in range(10_000)]


def test_sms_spam_on_a_small_file_with_the_same_dirt(here: Path) -> None:
    SOURCES.mkdir(parents=True)
    lines = []
    for number, text in enumerate(make_texts(200)):
        lines.append(f"{'spam' if number % 4 == 0 else 'ham'}\t{text}")
    odd = [
        'ham\t"an opening quotation mark, and never a closing one',
        "spam\tcall 08718727868 or mail win@prize.example.com &lt;now&gt;",
        "ham\tdonâ€™t\u200b be late",
        "spam\tone cell\ttoo many",
    ]
    content = "\n".join([*lines, *lines[:7], *odd]) + "\n"
    (SOURCES / "sms-spam.tsv").write_text(content, encoding="utf-8")
    reports = run_until_split("sms-spam")
    assert reports.raw.by_rule == {"broken row": 1}
    assert reports.rejects_by_rule()["exact_duplicates"] == 7
    kept = read_split_texts("sms-spam")
    assert '"an opening quotation mark, and never a closing one' in kept
    assert "call [phone] or mail [email] &lt;now&gt;" in kept
    assert "don’t be late" in kept


def test_waimai_on_a_small_file_with_the_same_dirt(here: Path) -> None:
    chance = random.Random(0)
    letters = "好吃味道足量大送水没有很快餐厅服务态度差菜凉了米饭鸡肉汤面辣油少多推荐再来不会"
    reviews = ["".join(chance.choices(letters, k=25)) for _ in range(200)]
    rows = [[str(number % 2), text] for number, text in enumerate(reviews)]
    odd = [
        ["1", reviews[0]],
        ["1", reviews[0]],
        ["0", "This review was written in English by somebody else."],
        ["1", f" {reviews[3]}\u200b"],
    ]
    write_csv("waimai-10k.csv", [["label", "review"], *rows, *odd])
    assert run_until_split("waimai-10k").rejects_by_rule() == {
        "encoding": 0,
        "unicode": 0,
        "control": 0,
        "white_space": 0,
        "language": 1,
        "pii": 0,
        "length": 0,
        "conflicting_duplicates": 3,
        "exact_duplicates": 1,
        "near_duplicates": 0,
    }


def test_banking77_on_small_files_with_the_same_dirt(here: Path) -> None:
    header = ["text", "category"]
    rows = [[text, f"intent_{number % 5}"] for number, text in enumerate(make_texts(240))]
    near_duplicate = [f"{rows[9][0]}!", rows[9][1]]
    conflict = [rows[4][0].upper(), "intent_0"]
    write_csv("banking77-train.csv", [header, *rows[:200], near_duplicate])
    write_csv("banking77-test.csv", [header, *rows[200:], rows[3], conflict])
    rejects = run_until_split("banking77").rejects_by_rule()
    assert {rule: count for rule, count in rejects.items() if count} == {
        "near_duplicates": 1,
        "conflicting_duplicates": 2,
        "exact_duplicates": 1,
    }


def write_idx_pair(name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    (SOURCES / f"mnist-{name}-images.gz").write_bytes(gzip.compress(encode_idx(images)))
    (SOURCES / f"mnist-{name}-labels.gz").write_bytes(gzip.compress(encode_idx(labels)))


def test_mnist_on_small_files_with_duplicates_of_all_kinds(here: Path) -> None:
    SOURCES.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 7, 7), dtype=np.uint8)
    images = pixels.repeat(4, 1).repeat(4, 2)
    labels = np.arange(300, dtype=np.uint8) % 10
    faint = (images[:2] * 0.9).astype(np.uint8)
    train_images = np.concatenate([images[:200], images[2:4], faint, images[5:6]])
    train_labels = np.array([*labels[:200], 2, 3, *labels[:2], 1], np.uint8)
    write_idx_pair("train", train_images, train_labels)
    write_idx_pair("test", images[200:], labels[200:])
    recipe = (RECIPES / "mnist.yaml").read_text().replace("54000", "150")
    near_duplicates = "- exact_duplicates\n    - near_duplicates: {distance: 6}"
    reports = run_until_split("mnist", recipe.replace("- exact_duplicates", near_duplicates))
    assert reports.rejects_by_rule() == {
        "unreadable": 0,
        "size": 0,
        "conflicting_duplicates": 2,
        "exact_duplicates": 2,
        "near_duplicates": 2,
    }
    assert reports.split.rows_by_split == {"train": 149, "val": 50, "test": 100}
