"""Pre-training: which rows it reads, what it writes, and that a killed run ends the same."""

import json
import math
import shutil
import signal
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks import modalities, pretrain
from tasks.contracts.pretrain_report import PretrainReport
from tasks.core.errors import ConfigError, StageError
from tasks.modalities import pretrained
from tasks.modalities.causal_lm.trainer import CausalLmTrainer
from tasks.modalities.text import new_encoder
from tasks.modalities.text.masked_lm import MaskedLmPretrainer
from tasks.problems.language import LanguageProblem
from tasks.recipe import resolved
from tasks.recipe.loading import read_recipe
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.recipe import Recipe
from tasks.recipe.resolved import ResolvedRecipe
from tasks.recipe.train import Train
from tasks.rows import rejected_rows
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tasks.training import corpus
from tests import tiny
from tests.training.test_resume import PLACES, Job, die

VOCAB_SIZE = 300
NETWORK = {"layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": VOCAB_SIZE}
SECTION: dict[str, Any] = {
    "network": NETWORK,
    "epochs": 3,
    "batch_size": 32,
    "batch_tokens": 512,
    "learning_rate": 3e-3,
    "max_length": 32,
    "checkpoint_seconds": 0.0,
}
CHINESE_TEXTS = ["很快，好吃，味道足，量大", "没有送水没有送水", "非常快，态度好。"]


def text_recipe(**changes: Any) -> Recipe:
    return tiny.recipe("text", Path(), pretrain={**SECTION, **changes})


def write_rows(folder: Path) -> StagePaths:
    """Write a split and the rows of label.

    These are the rows of the split, 40 without a label, and two that are like the first of val.
    """
    paths = StagePaths(folder)
    tiny.split("text", paths.split.path)
    files.write_table(paths.split.test, tiny.table("text", 700, 20))
    tables = [files.read_table(path) for path in paths.split.tables()]
    files.write_table(paths.labelled.rows, pa.concat_tables(tables))
    text = files.read_table(paths.split.val)["text"][0].as_py()
    copies = pa.table({"id": ["x1", "x2"], "text": [text.upper(), f"  {text}"]})
    unlabelled = tiny.table("text", 900, 40).select(["id", "text"])
    rejects = pa.concat_tables([unlabelled, copies])
    files.write_table(
        paths.labelled.rejects, rejected_rows.build_rejects(rejects, "label", "no label")
    )
    return paths


def run_elsewhere(recipe: Recipe, source: Path, work: Path) -> StagePaths:
    """Pretrain in the folder `work` on the rows in `source`."""
    for name in ("split", "labelled"):
        shutil.copytree(source / name, work / name, dirs_exist_ok=True)
    paths = StagePaths(work)
    pretrain.run(recipe, paths, work / "checkpoints")
    return paths


class Pretraining(Job):
    """As Job, for the stage `pretrain`."""

    def work_through(self, place: str | None, call: int) -> None:
        torch.set_num_threads(1)
        if place:
            die(*PLACES[place], call)
        self.work.mkdir(parents=True, exist_ok=True)
        run_elsewhere(text_recipe(**self.options), self.folder, self.work)

    def model(self) -> dict[str, str]:
        return hashing.hash_folder(self.work / "pretrained")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A pre-training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("pretrain")
    write_rows(folder)
    job = Pretraining("text", folder, folder / "whole", {})
    assert job() == 0
    return job


def base_of(job: Job) -> str:
    return str(job.work / "pretrained")


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


def test_it_learns_from_all_texts_that_are_not_held_out_or_like_one(job: Job) -> None:
    report = PretrainReport.read(StagePaths(job.work).pretrained.report)
    assert (report.rows_in, report.rows) == (150, 104)
    assert (report.held_out, report.like_held_out) == (44, 2)
    rows = corpus.load_corpus(StagePaths(job.folder), "text").train
    expected = pa.concat_arrays(
        [tiny.table("text", start, count)["id"].chunk(0) for start, count in ((0, 64), (900, 40))]
    )
    assert set(rows["id"].to_pylist()) == set(expected.to_pylist())


def test_the_report_has_the_loss_on_val_and_its_perplexity(job: Job) -> None:
    paths = StagePaths(job.work)
    val = PretrainReport.read(paths.pretrained.report).val
    assert len(paths.pretrained.history.read_text().splitlines()) == 3
    assert val is not None
    assert val.perplexity == pytest.approx(math.exp(val.log_loss), rel=1e-3)
    assert val.log_loss < math.log(VOCAB_SIZE)


def test_train_starts_from_what_it_wrote(job: Job) -> None:
    base = pretrained.load_base(text_recipe().train.model_copy(update={"base": base_of(job)}))
    assert base.pooling == "mean"
    tokens = base.tokenizer("Amber basil, 你好 größe!")["input_ids"]
    assert base.tokenizer.decode(tokens) == "[CLS] amber basil, 你 好 große![SEP]"
    assert isinstance(base.model.get_input_embeddings().weight, torch.Tensor)
    assert base.model.config.num_hidden_layers == 2


def test_without_epochs_there_is_a_tokenizer_and_a_random_network(job: Job, tmp_path: Path) -> None:
    paths = run_elsewhere(text_recipe(epochs=0), job.folder, tmp_path)
    random = hashing.hash_folder(paths.pretrained.path)
    trained = job.model()
    assert random["tokenizer.json"] == trained["tokenizer.json"]
    assert random["config.json"] == trained["config.json"]
    assert random["model.safetensors"] != trained["model.safetensors"]
    assert PretrainReport.read(paths.pretrained.report).val is None


def test_a_base_is_continued_with_its_own_tokenizer(job: Job, tmp_path: Path) -> None:
    folder = tiny.base(tmp_path / "base")
    recipe = text_recipe(network=None, base=str(folder), epochs=1)
    paths = run_elsewhere(recipe, job.folder, tmp_path)
    before = pretrained.load_base(Pretrain(base=str(folder)))
    after = pretrained.load_base(Pretrain(base=str(paths.pretrained.path)))
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    assert before.pooling == after.pooling == "cls"
    embeddings = [base.model.get_input_embeddings().weight for base in (before, after)]
    assert not torch.equal(*embeddings)


def test_a_recipe_without_the_section_gets_an_empty_report(here: Path) -> None:
    recipe = tiny.recipe("tabular", here)
    ResolvedRecipe(recipe=recipe).write(resolved.resolved_path("tiny"))
    pretrain.pretrain("tiny")
    assert files.read_json(StagePaths.of_recipe("tiny").pretrained.report) == {}


@pytest.fixture(scope="module")
def masked_lm() -> MaskedLmPretrainer:
    """A trainer that hides tokens of texts."""
    rows = tiny.table("text", 0, 64)["text"].to_pylist()
    return MaskedLmPretrainer(Pretrain.model_validate(SECTION), rows)


def test_15_of_100_tokens_are_guessed_and_8_of_10_of_these_hidden(
    masked_lm: MaskedLmPretrainer,
) -> None:
    examples = [np.array([2, *range(10, 38), 3], np.int32)] * 400
    batch = masked_lm.collate(examples, torch.Generator().manual_seed(7))
    original = torch.from_numpy(np.stack(examples))
    assert torch.equal(original.flatten()[batch.positions].long(), batch.targets)
    assert len(batch.positions) / (28 * 400) == pytest.approx(0.15, abs=0.015)
    seen = batch.token_ids.flatten()[batch.positions]
    hidden = (seen == masked_lm.base_tokenizer.mask_token_id).double().mean().item()
    kept = (seen == batch.targets).double().mean().item()
    assert hidden == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1, abs=0.03)
    assert (batch.token_ids[:, [0, -1]] == original[:, [0, -1]]).all()


def test_measuring_hides_the_same_tokens_and_training_others(
    masked_lm: MaskedLmPretrainer,
) -> None:
    examples = [np.array([2, *range(10, 38), 3], np.int32)] * 40
    first, second = (astuple(masked_lm.collate(examples, None)) for _ in range(2))
    assert all(torch.equal(*tensors) for tensors in zip(first, second, strict=True))
    drawn = [
        masked_lm.collate(examples, torch.Generator().manual_seed(seed)).token_ids
        for seed in (7, 8)
    ]
    assert not torch.equal(*drawn)


def test_each_chinese_character_is_a_token_and_none_is_unknown() -> None:
    tokenizer = new_encoder.train_tokenizer(CHINESE_TEXTS * 20, 400)
    assert len(tokenizer.encode("好吃").ids) == 4  # with the two that mark the text's ends
    assert tokenizer.decode(tokenizer.encode("味道好").ids).strip() == "味 道 好"
    unseen = tokenizer.encode("鱻").ids
    assert tokenizer.decode(unseen).strip() == "鱻"


def test_a_new_decoder_is_the_same_each_time_and_learns(tmp_path: Path) -> None:
    recipe = causal_recipe(tmp_path)
    write_causal_rows(StagePaths(tmp_path))
    runs = [run_elsewhere(recipe, tmp_path, tmp_path / name) for name in ("first", "second")]
    first, second = (hashing.hash_folder(paths.pretrained.path) for paths in runs)
    assert first == second
    history = [json.loads(line) for line in runs[0].pretrained.history.read_text().splitlines()]
    assert history[1]["val_log_loss"] < history[0]["val_log_loss"]


def test_a_new_decoders_tokenizer_gives_every_text_back(tmp_path: Path) -> None:
    recipe = causal_recipe(tmp_path)
    write_causal_rows(StagePaths(tmp_path))
    base = run_elsewhere(recipe, tmp_path, tmp_path / "work").pretrained.path
    config = Train(base=str(base))
    trainer = modalities.build_trainer(
        recipe.model_copy(update={"train": config}), [], LanguageProblem([])
    )
    assert isinstance(trainer, CausalLmTrainer)
    text = "  Grüße, 世界!\n\tAmber <b>BASIL</b> \U0001f600 "
    [example] = trainer.encode([{"prompt": "yes: ", "text": text}])
    assert trainer.tokenizer.decode(example.tokens[example.text_start : -1].tolist()) == text
    assert example.text_bytes == len(text.encode())


def causal_recipe(folder: Path) -> Recipe:
    """A recipe that pretrains a small decoder."""
    section = {
        "network": {**NETWORK, "layers": 1},
        "epochs": 2,
        "batch_tokens": 512,
        "learning_rate": 3e-3,
        "max_length": 32,
    }
    return tiny.recipe("causal_lm", folder, pretrain=section)


def write_causal_rows(paths: StagePaths) -> None:
    """Write a split and the rows of label, all of which are in the split."""
    tiny.split("causal_lm", paths.split.path)
    files.write_table(paths.split.test, tiny.table("causal_lm", 800, 24))
    rows = pa.concat_tables([files.read_table(path) for path in paths.split.tables()])
    files.write_table(paths.labelled.rows, rows)
    rejects = rejected_rows.build_rejects(rows.slice(0, 0), "label", "no label")
    files.write_table(paths.labelled.rejects, rejects)


def test_texts_that_are_all_held_out_are_refused(tmp_path: Path) -> None:
    paths = write_rows(tmp_path)
    test = files.read_table(paths.split.test)
    files.write_table(paths.labelled.rows, test)
    files.write_table(paths.labelled.rejects, test.slice(0, 0))
    sentence = (
        "none of the 20 rows is left that is not in val or test or like one there: lower "
        "split.val and split.test"
    )
    with pytest.raises(StageError, match=sentence):
        corpus.load_corpus(paths, "text")


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
            "pretrain.network: hidden_size is 10, which cannot be divided by num_heads, 4: write a "
            "multiple of 4",
        ),
        (
            {"pretrain": {"base": "x", "dropout": 0.5, "hidden_sizes": [3]}},
            "pretrain: hidden_sizes and dropout are for training with labels: move to train, or "
            "leave out",
        ),
        (
            {"pretrain": {"base": "x"}, "train": {"base": "y"}},
            "train.base: pretrain makes the base from which train starts: move base and sha256 to "
            "pretrain",
        ),
        (
            {"pretrain": {"base": "x"}, "modality": "tabular"},
            "only models of modality text or causal_lm learn from rows without labels, and this is "
            "tabular",
        ),
    ],
)
def test_mistakes_of_the_section_are_sentences(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    recipe = {
        "name": "tiny",
        "modality": "text",
        "ingest": {"kind": "files", "path": "x.csv"},
        "gate": [{"rule": "floor", "metric": "macro_f1", "bound": 0.5}],
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps({**recipe, **changes}))
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "tiny.yaml")
    assert sentence in str(caught.value)


def test_the_base_of_train_is_what_pretrain_writes() -> None:
    assert text_recipe().train.base == "data/tiny/pretrained"
