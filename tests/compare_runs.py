"""Prove that a refactoring changes no result: run small recipes with two trees and compare.

    python tests/compare_runs.py record FOLDER [--tree PATH] [--only CASE,CASE]
    python tests/compare_runs.py check FOLDER [--tree PATH] [--only CASE,CASE]

`record` runs each case through all stages and writes a summary of its results, FOLDER/<case>.json.
`check` runs the cases again, prints each difference, and exits with 1 if there is one. The script
knows nothing of the code but the command lines `python -m tasks.<stage> RECIPE`. To be fast it
loads the libraries once, and each stage runs in a copy of this process (fork); with `--plain` each
stage is a new Python process, with the same results.

A name that is changed on purpose needs an entry in a table below, and nothing else.
"""

import os

# Before numpy and torch are imported: one thread, no GPU, nothing that asks a server.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    CUDA_VISIBLE_DEVICES="",
    GX_ANALYTICS_ENABLED="false",
    HF_HUB_OFFLINE="1",
    PYTHONDONTWRITEBYTECODE="1",
)

import argparse
import csv
import hashlib
import importlib
import json
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ASPECTS = (
    "calibration", "slices", "fairness", "robustness", "attack", "explanation", "privacy", "cost",
)  # fmt: skip
METRICS = (
    "accuracy", "balanced_accuracy", "bits_per_byte", "exact_match", "hamming_loss", "log_loss",
    "macro_f1", "macro_precision", "macro_recall", "mae", "mcc", "mean_average_precision",
    "median_absolute_error", "micro_f1", "perplexity", "pr_auc", "r2", "rmse", "roc_auc",
    "subset_accuracy", "weighted_f1",
)  # fmt: skip
# What was renamed on purpose, old name to new. Both sides are translated before they are compared.
RENAMED_KEYS: dict[str, str] = {  # keys of JSON files and columns of CSV files, wherever they are
    "class": "class_name",
    "estimated": "estimated_accuracy",
    "reads": "definition",
    "right": "correct",
    "rules": "by_rule",
    "why": "reason",
    "accumulate": "gradient_accumulation_steps",
    "average": "ema_decay",
    "clip": "max_grad_norm",
    "crossed": "duplicates_across_parts",
    "part": "source_part",
    "do": "action",
    "gaps": "has_missing",
    "hidden": "hidden_sizes",
    "lack": "shortfall",
    "layer_decay": "layerwise_lr_decay",
    "lexical.safetensors": "tfidf.safetensors",
    "of": "source",
    "only_other_right": "only_opponent_right",
    "p": "p_value",
    "spread": "std",
}
RENAMED_PATHS: dict[str, str] = {  # beginnings of paths in JSON files: "a/b": "c"
    # raw/snapshot.json
    "id": "id_column",
    "rules/broken row": "by_rule/broken row",
    "rules/erased": "by_rule/erased",
    "rules/id given twice": "by_rule/id given twice",
    "rules/no id": "by_rule/no id",
    **{f"partitions/{number}/rules": f"partitions/{number}/by_rule" for number in range(20)},
    # model.json
    "columns": "input/columns",
    "ends/0": "input/bos_id",
    "ends/1": "input/eos_id",
    "export/0/metrics": "export/0",
    "export/1/metrics": "export/1",
    "export/2/metrics": "export/2",
    "export/3/metrics": "export/3",
    "inputs": "input_signature",
    "lexical": "tfidf_weight",
    "max_length": "input/max_length",
    "memory": "input/kv_cache_shape",
    "modality": "input/modality",
    "pad": "input/pad_id",
    "pooling": "input/pooling",
    "shape": "input/shape",
    "start/why": "start/reason",
    "teacher/why": "teacher/reason",
    # evaluation/metrics.json
    "privacy/copied": "aspects/privacy/memorized",
    "privacy/copied_people": "aspects/privacy/memorized_by_people",
    **{name: f"aspects/{name}" for name in ASPECTS},
    **{name: f"metrics/{name}" for name in METRICS},
    # pretrained/report.json
    "vocabulary": "vocab_size",
    # recipes
    "answers/given": "answers/total",
    "errors/done": "errors/action",
    "errors/found": "errors/count",
    "rows/test": "rows_by_split/test",
    "rows/train": "rows_by_split/train",
    "rows/val": "rows_by_split/val",
    "pretrain/network/heads": "pretrain/network/num_heads",
    "pretrain/network/vocabulary": "pretrain/network/vocab_size",
    "pretrain/network/width": "pretrain/network/hidden_size",
    "tune/folds": "split/folds",  # tune uses the folds of the split
    **{f"checks/{rule}/why": f"checks/{rule}/rule_reason" for rule in range(9)},  # of the gate
}
RENAMED_VALUES: dict[str, str] = {
    "why": "reason",
}  # whole strings in JSON and CSV files
RENAMED_COLUMNS: dict[str, str] = {}  # of Parquet files
RENAMED_FILES: dict[str, str] = {  # below data/<recipe>/, with # in the place of hashes
    "model/lexical.safetensors": "model/tfidf.safetensors",
}

# Beginnings of paths in JSON files that are new on purpose.
ADDED_PATHS = ("by_rule", "id_column", "max_dropped", "rows")

# Keys whose values say when or by which code a file was made, or how large a JSON file is.
IGNORED_KEYS = {
    "schema_version", "made_by", "cache_key", "seconds", "created", "libraries", "bytes",
    "ids", "notes",
}  # fmt: skip
# Sentences for people, whose numbers stand under other keys too.
REWORDED_KEYS = {"reason"}
# Pages, what a clock said, and temporary files.
IGNORED_FILES = re.compile(r"\.html$|review\.labelstudio\.xml$|(^|/)cost\.json$|(^|/)\.[^/]*$")
# Hashes in names and values are left out, as the files of which they are are compared themselves.
HASH = re.compile(r"\b[0-9a-f]{12,}\b")

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    "resolve", "ingest", "check_raw", "clean", "label", "split",
    "check_ready", "pretrain", "tune", "train", "evaluate", "gate",
)  # fmt: skip
STAGE_SECONDS = 180
LIBRARIES = (
    "boto3", "captum.attr", "charset_normalizer", "cleanlab", "daft", "ftfy", "great_expectations",
    "imagehash", "jinja2", "onnx", "onnxruntime", "onnxscript", "optuna", "pandas", "peft",
    "presidio_analyzer", "py3langid", "pydantic", "rapidfuzz", "rensa", "safetensors.torch",
    "scipy.stats", "sklearn.datasets", "sklearn.feature_extraction.text", "sklearn.linear_model",
    "tokenizers", "torch", "torch.onnx", "transformers",
)  # fmt: skip
# Files of a model that other programs read: every byte counts.
EXACT = re.compile(
    r"^(tokenizer.*|special_tokens_map|added_tokens|vocab|merges|config|generation_config)"
    r"\.(json|txt)$"
)


WORDS = [
    "amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty",
    "knoll", "lotus", "maple", "night", "ocean", "pearl", "quartz", "river", "stone", "tulip",
    "umber", "vapor", "willow", "xenon", "yarrow", "zephyr", "acorn", "birch", "coral", "dune",
    "elm", "fern", "glade", "hazel", "iris", "jade", "kelp", "lilac", "moss", "nectar",
]  # fmt: skip
CHANNELS = ("chat", "email", "form")
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}  # of the tiny base models

XOR = """
name: xor
modality: tabular
ingest: {kind: files, path: data/sources/xor.csv}
columns: {label: output, features: [a, b]}
clean: {rules: [{types: {columns: {a: integer, b: integer}}}]}
split: {group: draw}
train:
  hidden_sizes: [8]
  dropout: 0.0
  epochs: 12
  batch_size: 8
  learning_rate: 0.03
  patience: 40
gate:
  - {rule: floor, metric: accuracy, bound: 1.0}
  - {rule: baseline, metric: accuracy}
"""
DIGITS = """
name: digits
modality: image
ingest: {kind: package, name: sklearn.digits}
columns: {id: id}
check:
  raw:
    - expect_table_row_count_to_be_between: {min_value: 1700}
  ready:
    - expect_column_unique_value_count_to_be_between: {column: label, min_value: 10, max_value: 10}
clean:
  rules: [unreadable, {size: {exact: [8, 8]}}, exact_duplicates, {near_duplicates: {distance: 0}}]
label: {errors: drop}
train:
  epochs: 2
  schedule: cosine
  metric: accuracy
  label_smoothing: 0.05
  ema_decay: 0.9
  augment: {shift: 1, rotate: 8.0, zoom: 0.1, elastic: 0.3}
evaluate: {resamples: 200}
gate:
  - {rule: floor, metric: accuracy, bound: 0.3}
  - {rule: champion, metric: accuracy, margin: 0.02}
"""
TUMORS = """
name: tumors
modality: tabular
ingest: {kind: package, name: sklearn.breast_cancer}
columns: {id: id}
check:
  raw:
    - expect_table_row_count_to_be_between: {min_value: 500}
split: {folds: 2}
tune:
  trials: 3
  metric: accuracy
  space: {learning_rate: {low: 1e-4, high: 1e-2, log: true}, batch_size: [32, 64]}
train:
  {batch_size: 32, dropout: 0.3, epochs: 3, optimizer: sgd, l1: 0.0001, class_weights: balanced}
export: {prune: 0.2}
evaluate: {resamples: 200, slices: [{column: mean_radius, edges: [12, 15]}], sensitive: []}
gate:
  - rule: floor
    metric: accuracy
    bound: 0.5
    "on": interval
    name: accurate
    reason: so that it is of use
  - {rule: ceiling, metric: classes.benign.support, bound: 3}
"""
TEXT = """
name: text
modality: text
ingest: {kind: files, path: data/sources/text.csv}
columns: {id: id}
check:
  raw:
    - expect_column_values_to_not_be_null: {column: text}
    - expect_column_values_to_be_in_set: {column: channel, value_set: [chat, email], severity: warn}
  ready:
    - expect_column_values_to_be_unique: {column: text}
clean:
  rules:
    - encoding
    - html
    - unicode
    - white_space
    - control
    - pii: mask
    - length: {min: 5, max: 300}
    - exact_duplicates
    - near_duplicates: {threshold: 0.7}
split: {val: 0.15, test: 0.3}
train:
  base: base
  epochs: 3
  batch_size: 16
  batch_tokens: 128
  learning_rate: 0.003
  max_length: 16
  layerwise_lr_decay: 0.9
  freeze: embeddings
evaluate:
  slices: [channel, length, {column: age, edges: [40]}]
  sensitive: [channel]
  support: 5
  resamples: 200
gate:
  - {rule: floor, metric: macro_f1, bound: 0.4}
  - {rule: floor, metric: slices.channel.*.accuracy, bound: 0.2}
  - {rule: baseline, metric: macro_f1}
"""
VOTES = """
name: votes
modality: text
ingest: {kind: files, path: data/sources/votes.csv}
columns: {id: id}
clean: {rules: [white_space, {conflicting_duplicates: {}}, exact_duplicates]}
label:
  classes: [land, sea]
  answers: data/sources/answers.csv
  errors: flag
  model: dawid_skene
  confidence: 0.6
  functions:
    - {kind: lookup, file: data/sources/regions.csv, column: channel, value: region, trusted: true}
    - {kind: keyword, words: [fjord, inlet, ocean, coral], label: sea}
    - {kind: keyword, words: [grove, maple, stone], label: land}
    - {kind: regex, pattern: '\\b(heron|pearl|jetty)\\b', label: sea}
    - {kind: regex, pattern: '\\b(cedar|knoll|tulip)\\b', label: land}
split: {val: 0.15, test: 0.3, folds: 3}
pretrain: {base: base, epochs: 1, batch_tokens: 256, learning_rate: 0.001, max_length: 16}
train:
  epochs: 3
  batch_size: 16
  batch_tokens: 128
  learning_rate: 0.003
  max_length: 16
  lexical: true
  label_smoothing: 0.1
  gradient_accumulation_steps: 2
evaluate: {resamples: 200, support: 5}
gate:
  - {rule: floor, metric: macro_f1, bound: 0.4}
  - {rule: baseline}
"""
MULTILABEL = """
name: topics
modality: text
problem: multilabel
ingest: {kind: files, path: data/sources/topics.csv}
columns: {id: id}
clean: {rules: [html, white_space, exact_duplicates]}
split: {val: 0.15, test: 0.3}
train:
  base: base
  epochs: 3
  batch_size: 16
  batch_tokens: 128
  learning_rate: 0.003
  max_length: 16
  schedule: plateau
export: {int8: true}
evaluate: {resamples: 200, support: 5, slices: [channel]}
gate:
  - {rule: floor, metric: micro_f1, bound: 0.2}
  - {rule: baseline}
  - {rule: champion, metric: subset_accuracy, margin: 0.2}
"""
PRICES = """
name: prices
modality: tabular
problem: regression
ingest: {kind: files, path: data/sources/prices.csv, delimiter: auto, encoding: auto}
columns: {id: id, label: price}
clean:
  rules:
    - trim
    - missing
    - types:
        columns: {size: {type: number, unit: cm}, rooms: integer, built: date, garden: boolean}
    - spelling: {columns: [city], map: {B.: Berlin}}
    - repair: {by: [zip], columns: [city]}
    - range: {columns: {rooms: {min: 0, max: 20}, built: {min: 1900-01-01}}}
    - outliers: {columns: [size], factor: 3.0, action: "null"}
    - exact_duplicates
split: {time: built}
train: {batch_size: 32, hidden_sizes: [16], epochs: 6, learning_rate: 0.003, dropout: 0.1}
evaluate: {resamples: 200, slices: [{column: rooms}], sensitive: [garden]}
gate:
  - {rule: ceiling, metric: rmse, bound: 1000}
  - {rule: baseline, margin: 0.0}
"""
WRITER = """
name: writer
modality: causal_lm
ingest: {kind: files, path: data/sources/text.csv}
columns: {id: id, label: null, prompt: "{channel}: "}
clean: {rules: [white_space, {length: {min: 5, max: 300}}, exact_duplicates]}
split: {val: 0.15, test: 0.3}
pretrain:
  network: {layers: 2, hidden_size: 32, num_heads: 2, vocab_size: 300}
  epochs: 2
  learning_rate: 0.003
  batch_tokens: 512
  max_length: 32
train: {epochs: 2, batch_tokens: 256, learning_rate: 0.003, max_length: 32}
evaluate: {resamples: 200}
gate:
  - {rule: ceiling, metric: perplexity, bound: 500}
  - {rule: baseline, metric: log_loss}
"""
LORA = """
name: lora
modality: causal_lm
ingest: {kind: files, path: data/sources/text.csv}
columns: {id: id, label: null, prompt: "{channel}: "}
clean: {rules: [white_space, {length: {min: 5, max: 300}}, exact_duplicates]}
split: {val: 0.15, test: 0.3, group: age}
train:
  base: decoder
  epochs: 2
  batch_tokens: 256
  learning_rate: 0.003
  max_length: 32
  warmup: 0.2
  lora: {rank: 4, dropout: 0.1}
evaluate: {resamples: 200}
gate:
  - {rule: ceiling, metric: perplexity, bound: 500}
"""


def sentence(chance: random.Random, words: list[str]) -> str:
    return " ".join(chance.choice(words) for _ in range(chance.randint(5, 11)))


def text_rows() -> list[dict[str, Any]]:
    """Rows of two classes with personal data, markup, duplicates and rows to reject."""
    chance = random.Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(150):
        label = chance.choice(["no", "yes"])
        text = sentence(chance, WORDS[:27] if label == "no" else WORDS[13:])
        if number % 11 == 0:
            text += f" write to jane.doe{number}@example.com or +49 30 1234567"
        if number % 13 == 0:
            text = f"<p>{text} &amp; more</p>"
        if number % 17 == 0:
            text = f"  caf\u00c3\u00a9 {text}\u00a0 \u201cquoted\u201d"
        row = {"id": f"r{number:03d}", "text": text, "label": label}
        rows.append({**row, "channel": CHANNELS[number % 3], "age": chance.randint(18, 80)})
    for number in (5, 6, 7):
        rows.append({**rows[number], "id": f"same{number}"})
        near = rows[number + 20]
        rows.append({**near, "id": f"near{number}", "text": near["text"] + " again"})
    rows.append({**rows[0], "id": "short", "text": "ab"})
    rows.append({**rows[1], "id": "unlabelled", "label": ""})
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def make_xor(folder: Path) -> None:
    rows = []
    for draw in range(30):
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows.append({"draw": draw, "a": a, "b": b, "output": a ^ b})
    write_csv(folder / "data/sources/xor.csv", rows)


def make_text(folder: Path) -> None:
    write_csv(folder / "data/sources/text.csv", text_rows())
    make_encoder(folder / "base")


def make_votes(folder: Path) -> None:
    """Most rows have no label; some have a wrong one."""
    chance = random.Random(2)
    other = {"land": "sea", "sea": "land"}
    words = {
        "land": ["cedar", "grove", "knoll", "maple", "stone", "tulip"],
        "sea": ["fjord", "heron", "inlet", "jetty", "ocean", "pearl"],
    }
    rows: list[dict[str, Any]] = []
    for number in range(200):
        label = chance.choice(["land", "sea"])
        text = sentence(chance, [*words[label], *WORDS[26:]])
        known = label if number % 3 == 0 else ""
        if number % 30 == 0:
            known = other[label]
        channel = "port" if number % 19 == 0 and label == "sea" else chance.choice(CHANNELS)
        rows.append({"id": f"v{number:03d}", "text": text, "label": known, "channel": channel})
    rows.append({**rows[3], "id": "conflict", "label": other[rows[3]["label"]]})
    answers = [{"id": "v001", "label": "sea"}, {"id": "v002", "label": "land"}]
    write_csv(folder / "data/sources/votes.csv", rows)
    write_csv(folder / "data/sources/answers.csv", answers)
    write_csv(folder / "data/sources/regions.csv", [{"channel": "port", "region": "sea"}])
    make_encoder(folder / "base")


def make_topics(folder: Path) -> None:
    chance = random.Random(3)
    words_of = {"forest": WORDS[:8], "water": WORDS[8:16], "stone": WORDS[16:24]}
    rows = []
    for number in range(150):
        labels = [name for name in words_of if chance.random() < 0.45]
        words = list(WORDS[24:])
        for name in labels:
            words += words_of[name] * 3
        channel = chance.choice(CHANNELS)
        text = sentence(chance, words)
        label = "|".join(labels) or "[]"
        rows.append({"id": f"t{number:03d}", "text": text, "label": label, "channel": channel})
    write_csv(folder / "data/sources/topics.csv", rows)
    make_encoder(folder / "base")


def make_prices(folder: Path) -> None:
    """A table as people fill it in: units, missing cells, misspelt cities, outliers."""
    chance = random.Random(4)
    cities = {"10115": "Berlin", "20095": "Hamburg", "80331": "Munich"}
    rows = []
    for number in range(240):
        zip_code = chance.choice(list(cities))
        size = chance.uniform(3, 12)
        rooms = chance.randint(1, 6)
        extra = 30 if zip_code == "80331" else 0
        price = 40 * size + 25 * rooms + extra + chance.gauss(0, 10)
        row = {
            "id": f"p{number:03d}",
            "size": f"{size:.2f} m" if number % 3 else f"{size * 100:.0f}cm",
            "rooms": str(rooms),
            "built": f"{1950 + number // 4}-0{1 + number % 9}-15",
            "garden": chance.choice(["yes", "no"]),
            "zip": zip_code,
            "city": cities[zip_code],
            "price": f"{price:.1f}",
        }
        rows.append(row)
    changes = [
        (3, "city", " Berlim "),
        (4, "city", "B."),
        (9, "rooms", "n/a"),
        (15, "rooms", "many"),
        (21, "rooms", "99"),
        (33, "size", "900 m"),
        (40, "size", "?"),
        (41, "city", "Hamborg"),
        (50, "price", ""),
        (60, "built", "1850-01-15"),
    ]
    for number, column, cell in changes:
        rows[number][column] = cell
    rows.append(dict(rows[7], id="p007b"))
    write_csv(folder / "data/sources/prices.csv", rows, delimiter=";")


def make_writer(folder: Path) -> None:
    write_csv(folder / "data/sources/text.csv", text_rows())


def make_lora(folder: Path) -> None:
    make_writer(folder)
    make_decoder(folder / "decoder")


def make_encoder(folder: Path) -> None:
    """A BERT of two layers with random weights."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = transformers.BertConfig(vocab_size=len(tokens), max_position_embeddings=32, **SIZES)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


def make_decoder(folder: Path) -> None:
    """A Llama of two layers with random weights, and a tokenizer of bytes."""
    import tokenizers
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        **SIZES,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def make_nothing(folder: Path) -> None:
    """The source is a package."""


@dataclass(frozen=True)
class Case:
    recipe: str
    make_sources: Callable[[Path], None]


CASES = {
    "xor": Case(XOR, make_xor),
    "digits": Case(DIGITS, make_nothing),
    "tumors": Case(TUMORS, make_nothing),
    "text": Case(TEXT, make_text),
    "votes": Case(VOTES, make_votes),
    "topics": Case(MULTILABEL, make_topics),
    "prices": Case(PRICES, make_prices),
    "writer": Case(WRITER, make_writer),
    "lora": Case(LORA, make_lora),
}


class StageError(Exception):
    """A stage ended with another status than 0."""


def run_case(name: str, tree: Path, plain: bool, keep: Path | None) -> dict[str, Any]:
    """Run a case through all stages in a temporary workspace and summarize its results."""
    workspace = Path(tempfile.mkdtemp(prefix=f"compare-{name}-"))
    try:
        (workspace / "recipes").mkdir()
        (workspace / "data" / "sources").mkdir(parents=True)
        (workspace / "recipes" / f"{name}.yaml").write_text(CASES[name].recipe.lstrip())
        (workspace / "params.yaml").write_text(f"recipes: [{name}]\n")
        without_energy(workspace)
        CASES[name].make_sources(workspace)
        for stage in STAGES:
            run_stage(stage, name, workspace, tree, plain)
        return summarize(workspace / "data" / name)
    finally:
        if keep:
            shutil.copytree(workspace, keep / name, dirs_exist_ok=True)
        shutil.rmtree(workspace)


def without_energy(workspace: Path) -> None:
    """Hide the optional codecarbon, which takes seconds to estimate what only cost.json says."""
    (workspace / "hidden").mkdir()
    statement = "raise ModuleNotFoundError('codecarbon', name='codecarbon')\n"
    (workspace / "hidden" / "codecarbon.py").write_text(statement)


def run_stage(stage: str, name: str, workspace: Path, tree: Path, plain: bool) -> None:
    log = workspace / f"{stage}.log"
    paths = [str(workspace), str(workspace / "hidden"), str(tree)]
    run = run_process if plain else run_forked
    status = run(stage, name, workspace, paths, log)
    if status:
        lines = log.read_text(errors="replace").splitlines()[-15:]
        message = f"{name}: the stage {stage} ended with status {status}:"
        raise StageError("\n    ".join([message, *lines]))


def run_process(stage: str, name: str, workspace: Path, paths: list[str], log: Path) -> int:
    command = [sys.executable, "-m", f"tasks.{stage}", name]
    with log.open("w") as file:
        done = subprocess.run(
            command,
            cwd=workspace,
            env=stage_environment(paths),
            stdout=file,
            stderr=file,
            timeout=STAGE_SECONDS,
        )
    return done.returncode


def run_forked(stage: str, name: str, workspace: Path, paths: list[str], log: Path) -> int:
    """Do what `python -m tasks.<stage> <name>` does, in a copy of this process."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    status = 1
    try:
        signal.alarm(STAGE_SECONDS)  # ends this process
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(workspace)
        environment = stage_environment(paths)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[0:1] = paths
        sys.argv = [f"tasks.{stage}", name]
        runpy.run_module(f"tasks.{stage}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def stage_environment(paths: list[str]) -> dict[str, str]:
    ours = ("MILLRACE_", "PREFECT_", "DVC_", "AWS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths[1:])}


def load_libraries() -> None:
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed; the stages that need it will say so.", file=sys.stderr)


def summarize(folder: Path) -> dict[str, Any]:
    """What each file below the folder holds, by its path there, without hashes in its name."""
    summary: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if not path.is_file() or IGNORED_FILES.search(relative):
            continue
        name = HASH.sub("#", relative)
        while name in summary:
            name += "+"
        summary[name] = summarize_file(path)
    return summary


def summarize_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".parquet":
        return {"columns": hash_columns(pq.read_table(path))}
    if path.suffix in (".json", ".jsonl", ".csv") and not EXACT.match(path.name):
        return {"leaves": dict(flatten(read_values(path)))}
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def hash_columns(table: pa.Table) -> dict[str, str]:
    """The type, the number of rows and a hash of the values, by column."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    columns = {}
    for name in table.column_names:
        values = json.dumps(table[name].to_pylist(), default=repr, ensure_ascii=False)
        digest = hashlib.sha256(values.encode()).hexdigest()
        columns[name] = f"{table[name].type} x {table.num_rows}: {digest}"
    return columns


def read_values(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    if path.suffix == ".csv":
        csv.field_size_limit(sys.maxsize)
        header, *rows = csv.reader(text.splitlines(keepends=True))
        return {"header": header, "rows": [dict(zip(header, row, strict=True)) for row in rows]}
    return json.loads(text)


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value by their paths, such as rules/0/name."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = [(str(number), item) for number, item in enumerate(value)]
    if not items:
        yield path, value
    for key, item in items:
        yield from flatten(item, f"{path}/{key}" if path else key)


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """A line for each difference, after the tables of renamed names are applied to both sides."""
    old, new = translate(old), translate(new)
    for file in sorted(old.keys() | new.keys()):
        if file not in new:
            yield f"{file}: is missing"
        elif file not in old:
            yield f"{file}: is new"
        else:
            yield from (f"{file}: {line}" for line in leaf_differences(old[file], new[file]))


def leaf_differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            yield f"{path} is missing, was {old[path]!r}"
        elif path not in old:
            if not f"{path}/".startswith(tuple(f"{added}/" for added in ADDED_PATHS)):
                yield f"{path} is new, {new[path]!r}"
        elif json.dumps(old[path]) != json.dumps(new[path]):  # 1 and 1.0 and true are different
            yield f"{path} was {old[path]!r}, is {new[path]!r}"


def translate(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    translated = {}
    for file, about in summary.items():
        if IGNORED_FILES.search(file):
            continue
        [(kind, values)] = about.items()
        if kind == "columns":
            leaves = {}
            for name, value in values.items():
                leaves[f"column {RENAMED_COLUMNS.get(name, name)}"] = value
        elif kind == "leaves":
            leaves = {}
            for path, value in values.items():
                # A key without a value says the same as no key.
                is_empty = value is None or (path, value) == ("rules", {})
                keys = {*path.split("/"), *translate_path(path).split("/")}
                is_ignored = bool(keys & (IGNORED_KEYS | REWORDED_KEYS))
                if not is_empty and not is_ignored:
                    leaves[translate_path(path)] = translate_value(value)
        else:
            leaves = {"the content (sha256)": values}
        translated[RENAMED_FILES.get(file, file)] = leaves
    return translated


def translate_path(path: str) -> str:
    for old, new in RENAMED_PATHS.items():
        if path == old or path.startswith(f"{old}/"):
            path = new + path.removeprefix(old)
    return HASH.sub("#", "/".join(RENAMED_KEYS.get(key, key) for key in path.split("/")))


def translate_value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return HASH.sub("#", RENAMED_VALUES.get(value, value))


def parse_arguments() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("action", choices=["record", "check"])
    parser.add_argument("folder", type=Path, help="where the summaries lie")
    parser.add_argument("--tree", type=Path, default=ROOT, help="whose code runs; by default ours")
    parser.add_argument("--only", default=",".join(CASES), help="cases, divided by commas")
    parser.add_argument("--plain", action="store_true", help="start a new process for each stage")
    parser.add_argument("--keep", type=Path, help="copy the workspaces to this folder")
    arguments = parser.parse_args()
    arguments.tree = arguments.tree.resolve()
    if not (arguments.tree / "tasks" / "resolve.py").is_file():
        parser.error(f"--tree: {arguments.tree} holds no tasks/resolve.py: name a repository.")
    arguments.only = arguments.only.split(",")
    unknown = set(arguments.only) - CASES.keys()
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))}: the cases are {', '.join(CASES)}.")
    for name in arguments.only:
        if arguments.action == "check" and not (arguments.folder / f"{name}.json").is_file():
            parser.error(f"{arguments.folder} holds no {name}.json: record it first.")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    begun = time.monotonic()
    if not arguments.plain:
        load_libraries()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for name in arguments.only:
        start = time.monotonic()
        path = arguments.folder / f"{name}.json"
        summary: dict[str, Any] = {}
        found: list[str] = []
        try:
            summary = run_case(name, arguments.tree, arguments.plain, arguments.keep)
            text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
            if arguments.action == "record":
                path.write_text(text)
            else:
                found = list(differences(json.loads(path.read_text()), json.loads(text)))
        except StageError as error:
            found = [str(error)]
        total += len(found)
        counts = f"{len(summary)} files, {len(found)} differences"
        print(f"{name}: {counts}, {time.monotonic() - start:.1f} s", flush=True)
        for line in found:
            print(f"  {line}")
    print(f"{arguments.action}: {total} differences, {time.monotonic() - begun:.1f} s")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
