"""Other libraries load what training writes, and answer as the exported network does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors import safe_open

from tasks import modalities, problems
from tasks.contracts.model_info import TextInput
from tasks.modalities import lora, onnx, pretrained
from tasks.modalities.causal_lm.predictor import CausalLmPredictor
from tasks.modalities.causal_lm.trainer import CausalLmTrainer
from tasks.modalities.text import new_encoder
from tasks.modalities.text.classifier import TextTrainer
from tasks.recipe.pretrain import Network
from tasks.storage import hashing
from tasks.storage.layout import ModelFolder
from tasks.training.export import ModelExport
from tests import tiny
from tests.tiny_encoders import (
    ENCODERS,
    SIZE,
    TEXTS,
    build_trainer,
    compute_logits,
    load_and_predict,
    write_base,
)

# Types whose class for classification can pool as sentence-transformers does by default.
POOL_MEANS = ("eurobert", "modernbert")
# Its class lets the first token see all others, which the encoder alone does not.
NO_CLASS = ("longformer",)
CASES = [(kind, pooling) for kind in ENCODERS for pooling in ("cls", "mean")]


def assert_equal(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kind", "pooling"), CASES)
def test_each_kind_of_encoder_gives_the_same_logits_elsewhere(
    tmp_path: Path, kind: str, pooling: str
) -> None:
    write_base(tmp_path / "base", kind, pooling)
    trainer = build_trainer(tmp_path)
    expected = compute_logits(trainer)
    folder = tmp_path / "model"
    folder.mkdir()
    trainer.write_tokenizer(folder)
    loaded_by = trainer.save_weights(folder)
    has_class = kind not in NO_CLASS and (pooling == "cls" or kind in POOL_MEANS)
    assert loaded_by == (
        "AutoModelForSequenceClassification" if has_class else "SentenceTransformer"
    )
    assert np.abs(expected).max() > 0.5
    assert_equal(load_and_predict(folder, loaded_by), expected)
    assert_equal(load_and_predict(folder, "SentenceTransformer"), expected)
    assert_loads_as_saved(trainer, folder)
    assert_nothing_foreign(folder, tmp_path)


def assert_loads_as_saved(trainer: TextTrainer, folder: Path) -> None:
    """Check that Millrace reads the very weights, and writes the same bytes again."""
    weights = trainer.load_weights(folder)
    expected = trainer.network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    again = folder.with_name("again")
    again.mkdir()
    trainer.write_tokenizer(again)
    trainer.save_weights(again)
    assert hashing.hash_folder(again) == hashing.hash_folder(folder)


def assert_nothing_foreign(folder: Path, root: Path) -> None:
    """Check that the folder names no path of this machine and no code, and has no pickles."""
    assert not pretrained.list_pickles(folder)
    for path in folder.rglob("*.json"):
        text = path.read_text()
        assert str(root) not in text
        assert "auto_map" not in text


@pytest.mark.parametrize(
    ("problem", "problem_type"),
    [
        ("multilabel", "multi_label_classification"),
        ("regression", "regression"),
        ("classification", "single_label_classification"),
    ],
)
def test_the_configuration_names_the_labels_and_the_problem(
    tmp_path: Path, problem: str, problem_type: str
) -> None:
    write_base(tmp_path / "base", "bert", "cls")
    trainer = build_trainer(tmp_path, problem)
    expected = compute_logits(trainer)
    trainer.write_tokenizer(tmp_path)
    loaded_by = trainer.save_weights(tmp_path)
    assert_equal(load_and_predict(tmp_path, loaded_by), expected)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == problem_type
    assert list(config["id2label"].values()) == trainer.labels
    assert config["label2id"] == {label: index for index, label in enumerate(trainer.labels)}
    weights = trainer.load_weights(tmp_path)
    for name, value in trainer.network.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-5)


def build_new_encoder(folder: Path) -> TextTrainer:
    """Build a trainer of the encoder that pre-training makes."""
    size = Network(layers=2, hidden_size=32, num_heads=2, vocab_size=300)
    base = new_encoder.build_modernbert(size, TEXTS, 32, seed=0)
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    (folder / "base/1_Pooling").mkdir()
    (folder / "base/1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return build_trainer(folder)


@pytest.mark.parametrize("kind", ["bert", "new"])
def test_the_onnx_file_gives_the_logits_of_the_other_libraries(tmp_path: Path, kind: str) -> None:
    if kind == "bert":
        write_base(tmp_path / "base", "bert", "mean")
        trainer = build_trainer(tmp_path)
    else:
        trainer = build_new_encoder(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    model = ModelExport(tiny.recipe("text", tmp_path), trainer, ModelFolder(folder))
    model.write()
    assert isinstance(model.info.input, TextInput)
    predictor: Any = model.open(threads=1)
    predicted = predictor.run_network(TEXTS, 512)
    assert_equal(load_and_predict(folder, model.info.loaded_by), predicted)
    session = onnx.open_session(folder / "model.onnx", 1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np"))
    assert_equal(session.run(None, inputs)[0], predicted)
    assert [list(ids) for ids in trainer.encode(TEXTS)] == tokenizer(TEXTS, truncation=True)[
        "input_ids"
    ]


def write_decoder(folder: Path, kind: str) -> Path:
    """Write a random decoder of a kind with a tokenizer of bytes."""
    tiny.decoder(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    size: dict[str, Any] = {**SIZE, "vocab_size": len(tokenizer), "num_key_value_heads": 2}
    if kind == "gpt2":
        size = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 2}
    config = transformers.AutoConfig.for_model(kind, **size, tie_word_embeddings=kind != "qwen2")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def build_decoder_trainer(folder: Path, kind: str) -> CausalLmTrainer:
    """Build the trainer of the base in folder/base, its LoRA layers merged."""
    write_decoder(folder / "base", kind)
    rows = [{"prompt": text, "text": "and so on"} for text in TEXTS]
    recipe = tiny.recipe("causal_lm", folder)
    trainer = modalities.build_trainer(recipe, rows, problems.problem_class("language")([]))
    assert isinstance(trainer, CausalLmTrainer)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    lora.merge_lora_layers(trainer.network)
    return trainer


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_each_kind_of_decoder_gives_the_same_logits_elsewhere(tmp_path: Path, kind: str) -> None:
    trainer = build_decoder_trainer(tmp_path, kind)
    folder = tmp_path / "model"
    folder.mkdir()
    trainer.write_tokenizer(folder)
    assert trainer.save_weights(folder) == "AutoModelForCausalLM"
    decoder, tokenizer = load_decoder(folder)
    for text in TEXTS:
        ids = torch.tensor(tokenizer([text])["input_ids"])
        inputs = (ids, torch.arange(ids.shape[1])[None], torch.zeros_like(ids))
        with torch.no_grad():
            expected = trainer.network.eval()(*inputs).numpy()
            assert_equal(decoder(ids).logits.numpy(), expected)
    weights = trainer.load_weights(folder)
    own = trainer.network.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in weights)
    assert_nothing_foreign(folder, tmp_path)


def load_decoder(folder: Path) -> tuple[Any, Any]:
    """Load the decoder and its tokenizer with transformers."""
    decoder, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    return decoder, transformers.AutoTokenizer.from_pretrained(folder)


def test_a_prompt_is_continued_elsewhere_as_here(tmp_path: Path) -> None:
    trainer = build_decoder_trainer(tmp_path, "llama")
    folder = tmp_path / "model"
    folder.mkdir()
    model = ModelExport(tiny.recipe("causal_lm", tmp_path), trainer, ModelFolder(folder))
    model.write()
    decoder, tokenizer = load_decoder(folder)
    predictor = model.open(threads=1)
    assert isinstance(predictor, CausalLmPredictor)
    prompt = "amber "
    inputs = tokenizer(prompt, return_tensors="pt")
    logits, _ = predictor.run_step(inputs["input_ids"].numpy(), predictor.empty_cache(1))
    with torch.no_grad():
        assert_equal(decoder(**inputs).logits.numpy(), logits)
    tokens = decoder.generate(**inputs, do_sample=False, max_new_tokens=8)[0]
    continued = tokenizer.decode(tokens[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert predictor.complete_prompt(prompt, max_tokens=8).rstrip("…") == continued


def test_weights_are_stored_once(tmp_path: Path) -> None:
    write_base(tmp_path / "base", "bert", "mean")
    trainer = build_trainer(tmp_path)
    trainer.save_weights(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    encoder = {name for name in trainer.encoder.state_dict() if "pooler" not in name}
    assert names - encoder == {"pooler.dense.weight", "pooler.dense.bias"}
