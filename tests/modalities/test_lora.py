"""LoRA: which weights are trained, and what is left after the layers are merged."""

import sys
from pathlib import Path

import pytest
import torch

from tasks import modalities
from tasks.core.errors import ConfigError
from tasks.modalities import lora
from tasks.modalities.base import ModelTrainer
from tasks.problems.language import LanguageProblem
from tasks.recipe.train import Lora
from tests import tiny

DECODER_LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
ROWS = [{"prompt": "yes: ", "text": " ".join(tiny.WORDS[: number % 5 + 1])} for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the decoder `base`."""
    folder = tmp_path_factory.mktemp("lora")
    tiny.decoder(folder / "base")
    return folder


def build_decoder_trainer(folder: Path, lora_config: dict[str, int] | None) -> ModelTrainer:
    recipe = tiny.recipe("causal_lm", folder, lora=lora_config)
    return modalities.build_trainer(recipe, ROWS, LanguageProblem([], recipe.train))


def list_trained(network: torch.nn.Module) -> set[str]:
    """Return the names of the parameters that are trained."""
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_only_the_narrow_layers_are_trained_in_a_decoder(folder: Path) -> None:
    network = build_decoder_trainer(folder, None).network
    lora.add_lora_layers(network, Lora(rank=4), 0)
    expected = set()
    for layer in (0, 1):
        expected |= {f"model.model.layers.{layer}.{name}" for name in DECODER_LAYERS}
    assert {name.split(".lora_")[0] for name in list_trained(network)} == expected


def test_merged_layers_give_the_same_outputs(folder: Path) -> None:
    trainer = build_decoder_trainer(folder, None)
    network = trainer.network
    original = {name: weight.clone() for name, weight in network.state_dict().items()}
    lora.add_lora_layers(network, Lora(rank=4), 0)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = trainer.collate(trainer.encode(ROWS), None).inputs
    with torch.no_grad():
        before = network(*inputs)
        lora.merge_lora_layers(network)
        after = network(*inputs)
    assert torch.allclose(before, after, atol=1e-5)
    merged = network.state_dict()
    assert set(merged) == set(original)
    changed = [name for name in merged if not torch.equal(merged[name], original[name])]
    assert len(changed) == 2 * len(DECODER_LAYERS)


def test_an_encoder_keeps_its_head_trained(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    recipe = tiny.recipe("text", tmp_path, lora={"rank": 2, "layers": ["query", "value"]})
    trained = list_trained(modalities.build_trainer(recipe, [], tiny.TWO).network)
    narrow = {name for name in trained if "lora_" in name}
    assert {name.split(".lora_")[0].split(".")[-1] for name in narrow} == {"query", "value"}
    assert trained - narrow == {"head.weight", "head.bias"}


def test_an_unknown_layer_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    recipe = tiny.recipe("text", tmp_path, lora={"layers": ["quary"]})
    sentence = "train.lora.layers: 'quary' is not a linear layer of the base .did you mean query"
    with pytest.raises(ConfigError, match=sentence):
        modalities.build_trainer(recipe, [], tiny.TWO)


def test_without_peft_the_recipe_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    sentence = "train.lora: peft is not installed: pip install 'millrace.lora.', or leave out lora"
    with pytest.raises(ConfigError, match=sentence):
        build_decoder_trainer(folder, {"rank": 8})
