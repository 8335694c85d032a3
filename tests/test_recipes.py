"""The recipes of public data sets, from source to split: on the real files where they are beside the repository, on small ones with the same dirt everywhere."""

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks import check_raw, check_ready, clean, ingest, label, resolve, split
from tasks.recipe import resolved
from tasks.recipe.loading import read_recipe
from tasks.storage import files, layout
from tests.conftest import ROOT
from tests.modalities.test_image import idx

REAL = ROOT.parent / "shared" / "data"
SOURCES = Path("data/sources")
PLACES = {
    "sms-spam": {"sms-spam.tsv": "sms_spam/SMSSpamCollection"},
    "waimai-10k": {"waimai-10k.csv": "waimai_10k/waimai_10k.csv"},
    "banking77": {
        "banking77-train.csv": "banking77/train.csv",
        "banking77-test.csv": "banking77/test.csv",
    },
    "mnist": {
        f"mnist-{side}-{kind}.gz": f"mnist/{prefix}-{kind}-idx{dimensions}-ubyte.gz"
        for side, prefix in (("train", "train"), ("test", "t10k"))
        for kind, dimensions in (("images", 3), ("labels", 1))
    },
}
WORDS = [
    "card",
    "cash",
    "pay",
    "fee",
    "limit",
    "transfer",
    "account",
    "refund",
    "branch",
    "code",
    "top",
    "currency",
    "exchange",
    "balance",
    "statement",
    "pending",
    "declined",
    "travel",
    "phone",
    "lost",
]


def until_split(name: str, text: str | None = None) -> dict[str, Any]:
    """Run the recipe, or another `text` of it, on what lies in data/sources; returns each step's report. Every step accounts for every row."""
    folder = Path("data") / name
    path = ROOT / "tests" / "recipes" / f"{name}.yaml"
    if text:
        path = Path(path.name)
        path.write_text(text)
    resolve.resolve_recipe(read_recipe(path)).write(resolved.resolved_path(name))
    for run in (
        ingest.ingest,
        check_raw.check_raw,
        clean.clean,
        label.label,
        split.split,
        check_ready.check_ready,
    ):
        run(name)
    told: dict[str, Any] = {"raw": files.read_json(folder / "raw" / "snapshot.json")}
    rows = told["raw"]["rows"]
    for step in ("clean", "labelled", "split"):
        told[step] = files.read_json(folder / step / "report.json")
        out = told[step]["rows"]
        assert told[step]["rows_in"] == rows == out + told[step]["rejects"]
        rows = out
    return told


def rejected(told: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rule in told["clean"]["rules"]:
        counts[rule["rule"]] = counts.get(rule["rule"], 0) + rule["rejected"]
    return counts


def real(name: str) -> dict[str, Any]:
    SOURCES.mkdir(parents=True)
    for target, source in PLACES[name].items():
        if not (REAL / source).is_file():
            pytest.skip(f"the real {source} is not beside the repository")
        (SOURCES / target).symlink_to(REAL / source)
    return until_split(name)


def texts(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [f"{' '.join(chance.sample(WORDS, 9))} {number * 37}" for number in range(count)]


def write_csv(name: str, rows: list[list[str]]) -> None:
    SOURCES.mkdir(parents=True, exist_ok=True)
    with (SOURCES / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def test_sms_spam_on_the_real_file_has_all_its_403_exact_duplicates_found(here: Path) -> None:
    told = real("sms-spam")
    assert told["raw"]["rows"] == 5574
    assert [(rule["rule"], rule["rejected"]) for rule in told["clean"]["rules"][:2]] == [
        ("conflicting_duplicates", 0),
        ("exact_duplicates", 403),
    ]


def test_waimai_on_the_real_file_keeps_chinese_and_rejects_what_is_labelled_both_ways(
    here: Path,
) -> None:
    told = real("waimai-10k")
    assert told["raw"]["rows"] == 11_987
    assert rejected(told)["language"] == 0
    assert rejected(told)["conflicting_duplicates"] == 14


def test_banking77_on_the_real_files_finds_rows_of_the_test_file_again_in_the_training_file(
    here: Path,
) -> None:
    told = real("banking77")
    assert told["raw"]["rows_in"] == 13_083
    assert len(told["labelled"]["classes"]) == 77
    assert rejected(told)["language"] == 0
    assert rejected(told)["exact_duplicates"] + rejected(told)["near_duplicates"] >= 29


def test_mnist_on_the_real_files_tests_on_all_of_the_official_test_images(here: Path) -> None:
    told = real("mnist")
    assert told["raw"]["rows"] == 70_000
    assert told["split"]["rows_by_split"] == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert [
        image["id"]
        for image in pq.read_table("data/mnist/split/test.parquet", columns=["id"]).to_pylist()
    ] == [str(1_000_000 + n) for n in range(10_000)]


def test_sms_spam_on_a_small_file_with_the_same_dirt(here: Path) -> None:
    SOURCES.mkdir(parents=True)
    lines = [
        f"{'spam' if number % 4 == 0 else 'ham'}\t{text}" for number, text in enumerate(texts(200))
    ]
    odd = [
        'ham\t"an opening quotation mark, and never a closing one',
        "spam\tcall 08718727868 or mail win@prize.example.com &lt;now&gt;",
        "ham\tdonâ€™t\u200b be late",
    ]
    (SOURCES / "sms-spam.tsv").write_text(
        "\n".join([*lines, *lines[:7], *odd, "spam\tone cell\ttoo many"]) + "\n", encoding="utf-8"
    )
    told = until_split("sms-spam")
    assert told["raw"]["by_rule"] == {"broken row": 1}
    assert rejected(told)["exact_duplicates"] == 7
    kept = [
        row["text"]
        for side in layout.SPLITS
        for row in pq.read_table(f"data/sms-spam/split/{side}.parquet").to_pylist()
    ]
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
    assert rejected(until_split("waimai-10k")) == {
        **dict.fromkeys(
            ("encoding", "unicode", "control", "white_space", "pii", "length", "near_duplicates"), 0
        ),
        "language": 1,
        "conflicting_duplicates": 3,
        "exact_duplicates": 1,
    }


def test_banking77_on_small_files_with_the_same_dirt(here: Path) -> None:
    rows = [[text, f"intent_{number % 5}"] for number, text in enumerate(texts(240))]
    write_csv(
        "banking77-train.csv", [["text", "category"], *rows[:200], [f"{rows[9][0]}!", rows[9][1]]]
    )
    write_csv(
        "banking77-test.csv",
        [["text", "category"], *rows[200:], rows[3], [rows[4][0].upper(), "intent_0"]],
    )
    told = until_split("banking77")
    assert {rule: count for rule, count in rejected(told).items() if count} == {
        "near_duplicates": 1,
        "conflicting_duplicates": 2,
        "exact_duplicates": 1,
    }


def test_mnist_on_small_files_with_duplicates_of_all_kinds(here: Path) -> None:
    SOURCES.mkdir(parents=True)
    chance = np.random.default_rng(0)
    pictures = chance.integers(0, 256, (300, 7, 7), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    labels, faint = np.arange(300, dtype=np.uint8) % 10, (pictures[:2] * 0.9).astype(np.uint8)
    images, numbers = (
        np.concatenate([pictures[:200], pictures[2:4], faint, pictures[5:6]]),
        np.array([*labels[:200], 2, 3, *labels[:2], 1], np.uint8),
    )
    for side, given, said in (("train", images, numbers), ("test", pictures[200:], labels[200:])):
        (SOURCES / f"mnist-{side}-images.gz").write_bytes(gzip.compress(idx(given)))
        (SOURCES / f"mnist-{side}-labels.gz").write_bytes(gzip.compress(idx(said)))
    recipe = (ROOT / "tests" / "recipes" / "mnist.yaml").read_text().replace("54000", "150")
    told = until_split(
        "mnist",
        recipe.replace(
            "- exact_duplicates", "- exact_duplicates\n    - near_duplicates: {distance: 6}"
        ),
    )
    assert rejected(told) == {
        "unreadable": 0,
        "size": 0,
        "conflicting_duplicates": 2,
        "exact_duplicates": 2,
        "near_duplicates": 2,
    }
    assert told["split"]["rows_by_split"] == {"train": 149, "val": 50, "test": 100}
