"""Training on texts without labels: what it reads, what it writes, and that it is the same each time, killed or not."""

import json
import math
import signal
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import pretrain
from tasks.core.errors import ConfigError, StageError
from tasks.modalities import pretrained
from tasks.modalities.text import new_encoder
from tasks.modalities.text.masked_lm import MaskedLmPretrainer
from tasks.recipe import resolved
from tasks.recipe.loading import read_recipe
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.recipe import Recipe
from tasks.rows import rejected_rows
from tasks.storage import files, hashing
from tasks.training import corpus
from tests import tiny
from tests.training.test_resume import PLACES, Job, die

NETWORK = {"layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 300}
SECTION: dict[str, Any] = {
    "network": NETWORK,
    "epochs": 3,
    "batch_size": 32,
    "batch_tokens": 512,
    "learning_rate": 3e-3,
    "max_length": 32,
    "checkpoint_seconds": 0.0,
}


def recipe(**changes: Any) -> Recipe:
    return tiny.recipe("text", Path(), pretrain={**SECTION, **changes})


def source(folder: Path) -> Path:
    """A split and the rows of its own, 40 without a label, and two that are like the first of val."""
    tiny.split("text", folder / "split")
    files.write_table(folder / "split" / "test.parquet", tiny.table("text", 700, 20))
    tables = {
        side: files.read_table(folder / "split" / f"{side}.parquet")
        for side in ("train", "val", "test")
    }
    text = tables["val"]["text"][0].as_py()
    copies = pa.table({"id": ["x1", "x2"], "text": [text.upper(), f"  {text}"]})
    files.write_table(folder / "labelled" / "rows.parquet", pa.concat_tables(tables.values()))
    more = pa.concat_tables([tiny.table("text", 900, 40).select(["id", "text"]), copies])
    files.write_table(
        folder / "labelled" / "rejects.parquet",
        rejected_rows.build_rejects(more, "label", "no label"),
    )
    return folder


class Pretraining(Job):
    """As Job, for the stage that comes before."""

    def work_through(self, place: str | None, call: int) -> None:
        import torch

        torch.set_num_threads(1)
        if place:
            die(*PLACES[place], call)
        pretrain.run(
            recipe(**self.options), self.folder, self.work / "model", self.work / "checkpoints"
        )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A pre-training that nobody disturbed."""
    folder = source(tmp_path_factory.mktemp("pretrain"))
    job = Pretraining("text", folder, folder / "whole", {})
    assert job() == 0
    return job


@pytest.mark.parametrize(
    ("place", "call"),
    [("before forward", 3), ("between backward and optimizer", 7), ("after a checkpoint", 9)],
)
def test_a_killed_run_ends_with_the_same_bytes(
    job: Job, tmp_path: Path, place: str, call: int
) -> None:
    killed = Pretraining("text", job.folder, tmp_path, {})
    assert killed(place, call) == -signal.SIGKILL
    assert list(tmp_path.glob("checkpoints/*/0*"))
    assert killed() == 0
    assert killed.model() == job.model()
    assert not list(tmp_path.glob("checkpoints/*"))


def test_it_learns_from_all_texts_but_those_that_are_held_out_or_like_one(job: Job) -> None:
    told = files.read_json(job.work / "model" / "report.json")
    assert (told["rows_in"], told["rows"], told["held_out"], told["like_held_out"]) == (
        150,
        104,
        44,
        2,
    )
    table, _, _ = corpus.load_corpus(job.folder, "text")
    assert set(table["id"].to_pylist()) == {
        *tiny.table("text", 0, 64)["id"].to_pylist(),
        *tiny.table("text", 900, 40)["id"].to_pylist(),
    }


def test_the_report_has_the_loss_on_val_and_its_perplexity(job: Job) -> None:
    told = files.read_json(job.work / "model" / "report.json")["val"]
    history = [
        line for line in (job.work / "model" / "history.jsonl").read_text().splitlines() if line
    ]
    assert len(history) == 3
    assert told["perplexity"] == pytest.approx(math.exp(told["log_loss"]), rel=1e-3)
    assert told["log_loss"] < math.log(NETWORK["vocab_size"])


def test_train_starts_from_what_it_wrote(job: Job) -> None:
    import torch

    base = pretrained.load_base(recipe().train.model_copy(update={"base": str(job.work / "model")}))
    assert base.pooling == "mean"
    tokenizer = base.tokenizer
    text = "Amber basil, 你好 größe!"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == "[CLS] amber basil, 你 好 große![SEP]"
    assert isinstance(base.model.get_input_embeddings().weight, torch.Tensor)
    assert base.model.config.num_hidden_layers == 2


def test_without_epochs_there_is_a_tokenizer_and_a_random_network(job: Job, tmp_path: Path) -> None:
    pretrain.run(recipe(epochs=0), job.folder, tmp_path / "model", tmp_path / "checkpoints")
    random, whole = hashing.hash_folder(tmp_path / "model"), job.model()
    assert random["tokenizer.json"] == whole["tokenizer.json"]
    assert random["config.json"] == whole["config.json"]
    assert random["model.safetensors"] != whole["model.safetensors"]
    assert files.read_json(tmp_path / "model" / "report.json")["val"] is None


def test_a_base_is_continued_with_its_own_tokenizer(job: Job, tmp_path: Path) -> None:
    base = tiny.base(tmp_path / "base")
    pretrain.run(
        recipe(network=None, base=str(base), epochs=1),
        job.folder,
        tmp_path / "model",
        tmp_path / "checkpoints",
    )
    before, after = (
        pretrained.load_base(Pretrain(base=str(folder))) for folder in (base, tmp_path / "model")
    )
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    assert before.pooling == after.pooling == "cls"
    assert (
        before.model.get_input_embeddings().weight != after.model.get_input_embeddings().weight
    ).any()


def test_a_recipe_without_the_section_gets_an_empty_report(here: Path) -> None:
    recipe = tiny.recipe("tabular", here)
    resolved.ResolvedRecipe(recipe=recipe).write(resolved.resolved_path("tiny"))
    pretrain.pretrain("tiny")
    assert files.read_json(Path("data/tiny/pretrained/report.json")) == {}


def test_15_of_100_tokens_are_guessed_and_8_of_10_of_these_hidden(job: Job) -> None:
    import torch

    adapter = MaskedLmPretrainer(
        Pretrain.model_validate(SECTION), tiny.table("text", 0, 64)["text"].to_pylist()
    )
    examples = [np.array([2, *range(10, 38), 3], np.int32)] * 400
    batch = adapter.collate(examples, torch.Generator().manual_seed(7))
    ids, places, tokens = batch.token_ids, batch.positions, batch.targets
    original = torch.from_numpy(np.stack(examples))
    assert (original.flatten()[places] == tokens).all()
    assert len(places) / (28 * 400) == pytest.approx(0.15, abs=0.015)
    assert (
        ids.flatten()[places] == adapter.base_tokenizer.mask_token_id
    ).double().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (ids.flatten()[places] == tokens).double().mean().item() == pytest.approx(0.1, abs=0.03)
    assert (ids[:, [0, -1]] == original[:, [0, -1]]).all()
    assert all(
        (one == other).all()
        for one, other in zip(
            astuple(adapter.collate(examples, None)),
            astuple(adapter.collate(examples, None)),
            strict=True,
        )
    )
    assert (adapter.collate(examples, torch.Generator().manual_seed(8)).token_ids != ids).any()


def test_each_chinese_character_is_a_token_and_none_is_unknown() -> None:
    texts = ["很快，好吃，味道足，量大", "没有送水没有送水", "非常快，态度好。"] * 20
    made = new_encoder.train_tokenizer(texts, 400)
    assert len(made.encode("好吃").ids) == 4  # with what marks the text's ends
    assert made.decode(made.encode("味道好").ids).strip() == "味 道 好"
    assert made.decode(made.encode("鱻").ids).strip() == "鱻"  # not in any of the texts


def test_texts_that_are_all_held_out_are_refused(tmp_path: Path) -> None:
    folder = source(tmp_path)
    files.write_table(
        folder / "labelled" / "rows.parquet", files.read_table(folder / "split" / "test.parquet")
    )
    files.write_table(
        folder / "labelled" / "rejects.parquet",
        files.read_table(folder / "split" / "test.parquet").slice(0, 0),
    )
    with pytest.raises(
        StageError,
        match="none of the 20 rows is left that is not in val or test or like one there: lower split.val and split.test",
    ):
        corpus.load_corpus(folder, "text")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pretrain": {"epochs": 1}},
            "pretrain: needs either base, a model to go on from, or network, the size of a new one",
        ),
        ({"pretrain": {"base": "x", "network": {}}}, "pretrain: needs either base"),
        (
            {"pretrain": {"network": {"hidden_size": 10, "num_heads": 4}}},
            "pretrain.network: hidden_size is 10, which cannot be divided by num_heads, 4: write a multiple of 4",
        ),
        (
            {"pretrain": {"base": "x", "dropout": 0.5, "hidden_sizes": [3]}},
            "pretrain: hidden_sizes and dropout are for training with labels: move to train, or leave out",
        ),
        (
            {"pretrain": {"base": "x"}, "train": {"base": "y"}},
            "train.base: pretrain makes the base from which train starts: move base and sha256 to pretrain",
        ),
        (
            {"pretrain": {"base": "x"}, "modality": "tabular"},
            "only models of modality text or causal_lm learn from rows without labels, and this is tabular",
        ),
    ],
)
def test_mistakes_of_the_section_are_sentences(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    about = {
        "name": "tiny",
        "modality": "text",
        "ingest": {"kind": "files", "path": "x.csv"},
        "gate": [{"rule": "floor", "metric": "macro_f1", "bound": 0.5}],
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps({**about, **changes}))
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "tiny.yaml")
    assert sentence in str(caught.value)


def test_the_base_of_train_is_what_pretrain_writes() -> None:
    assert recipe().train.base == "data/tiny/pretrained"
