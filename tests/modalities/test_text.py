"""Text classifiers: which embeddings are trained, what is exported, and the baseline."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.modalities.text import baseline
from tasks.modalities.text.classifier import TextTrainer
from tasks.modalities.text.predictor import TextPredictor
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Floats
from tasks.training import loop
from tasks.training.training_data import TrainingData
from tests import tiny

LABELS = ["no", "yes"]
EMBEDDINGS = "encoder.embeddings.word_embeddings.weight"
SIZE_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "pad_token_id",
)


def build_trainer(recipe: Recipe, rows: Sequence[str]) -> TextTrainer:
    return TextTrainer(recipe.train, rows, ClassificationProblem(LABELS, recipe.train))


def predict_by_network(trainer: TextTrainer, rows: Sequence[str]) -> Floats:
    """Return the probabilities of the network that is not exported, `[rows, classes]`."""
    batch = trainer.collate(trainer.encode(rows), None)
    with torch.no_grad():
        outputs = trainer.network.eval()(*batch.inputs)
    probabilities: Floats = outputs.softmax(1).double().numpy()
    return probabilities


def predict_exported(trainer: TextTrainer, folder: Path, rows: Sequence[str]) -> Floats:
    """Export the network and return the probabilities of the predictor."""
    info = tiny.model_info("text", labels=LABELS, input=trainer.export(folder))
    return TextPredictor(folder, info, 1)(rows)


def test_only_embeddings_of_training_tokens_change_and_others_still_work(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    recipe = tiny.recipe("text", tmp_path, precision="fp32", weight_decay=0.5)
    rows = [" ".join(tiny.WORDS[start : start + 3]) for start in (0, 1, 4, 5)] * 8
    targets = np.array([0, 0, 1, 1] * 8)
    trainer = build_trainer(recipe, rows)
    before = trainer.network.state_dict()[EMBEDDINGS].clone()
    examples = trainer.encode(rows)
    data = TrainingData(examples, targets, examples, targets)
    loop.fit(trainer, recipe.train, data, tmp_path / "checkpoints")
    after = trainer.network.state_dict()[EMBEDDINGS]
    assert after.shape == before.shape == (len(tiny.WORDS) + 5, 32)
    is_changed = (after != before).any(dim=1)
    assert set(is_changed.nonzero().flatten().tolist()) == set(np.concatenate(examples).tolist())
    new_rows = [" ".join(tiny.WORDS[9:]), f"{tiny.WORDS[0]} {tiny.WORDS[11]}"]
    expected = predict_by_network(trainer, new_rows)
    assert predict_exported(trainer, tmp_path, new_rows) == pytest.approx(expected, abs=1e-5)


def test_the_baseline_reads_words_and_single_ideographs() -> None:
    words = re.findall(baseline.WORD_PATTERN, "A card, two 卡片 and iPhone15很好吃!")
    assert words == ["card", "two", "卡", "片", "and", "iPhone15", "很", "好", "吃"]


def test_the_baseline_tells_chinese_texts_apart() -> None:
    frames = list(itertools.product("这那面", "了的呢"))
    positive = [f"{before}很好吃{after}" for before, after in frames]
    negative = [f"{before}不好吃{after}" for before, after in frames]
    targets = np.array([1] * len(positive) + [0] * len(negative))
    answers = baseline.predict_baseline(
        positive + negative, targets, ["汤很好吃", "汤不好吃"], ClassificationProblem(LABELS)
    )
    assert answers.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "MPNet", "DebertaV2"])
def test_encoders_of_other_kinds_predict_the_same_after_export(tmp_path: Path, kind: str) -> None:
    tiny.base(tmp_path / "base")
    replace_encoder(tmp_path / "base", kind)
    recipe = tiny.recipe("text", tmp_path, precision="fp32")
    trainer = build_trainer(recipe, tiny.WORDS)
    rows = [" ".join(tiny.WORDS[: count + 1]) for count in (0, 3, 9)]
    expected = predict_by_network(trainer, rows)
    assert (np.ptp(expected, axis=0) > 1e-4).all()
    assert predict_exported(trainer, tmp_path, rows) == pytest.approx(expected, abs=1e-5)


def replace_encoder(folder: Path, kind: str) -> None:
    """Put an encoder of another kind and the same size into the folder of a base."""
    import transformers

    config = json.loads((folder / "config.json").read_text())
    sizes = {key: config[key] for key in SIZE_KEYS}
    if kind == "DebertaV2":
        sizes["relative_attention"] = True
    config_class = getattr(transformers, f"{kind}Config")
    model_class = getattr(transformers, f"{kind}Model")
    model_class(config_class(**sizes)).save_pretrained(folder)
