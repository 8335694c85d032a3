"""Causal language models: what is learnt of a row and what is not, packing, LoRA, and that the exported model says what was trained."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from tasks import evaluate, modalities, pretrain
from tasks import train as tasks_train
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.gating import verdict
from tasks.gating.champion import Champion
from tasks.modalities import lora
from tasks.modalities.causal_lm import packing
from tasks.modalities.causal_lm.ngram_baseline import TrigramModel
from tasks.problems.batch import CausalBatch
from tasks.problems.language import IGNORED_TARGET, LanguageProblem, TokenizedText
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Lora, Train
from tasks.rows import rejected_rows
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.training import compression
from tests import tiny

Row = dict[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("causal")
    tiny.decoder(made / "base")
    tiny.split("causal_lm", made / "split")
    files.write_table(made / "split" / "test.parquet", tiny.table("causal_lm", 800, 24))
    return made


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, Path]:
    """A model that was trained, with its evaluation."""
    made = tiny.recipe("causal_lm", folder)
    tasks_train.run(made, StagePaths(folder), folder / "checkpoints")
    evaluate.run(made, StagePaths(folder))
    return made, folder


@pytest.fixture
def trainer(folder: Path) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        made = tiny.recipe("causal_lm", folder, **{"lora": None, **options})
        return modalities.build_trainer(
            made,
            modalities.extract_inputs(made, tiny.table("causal_lm", 0, 4)),
            LanguageProblem([], made.train),
        )

    return make


def rows(count: int) -> list[Row]:
    return [
        {"prompt": "yes: ", "text": " ".join(tiny.WORDS[: number % 5 + 1])}
        for number in range(count)
    ]


def test_of_a_row_its_text_and_its_end_are_learnt_and_nothing_of_its_prompt(trainer: Any) -> None:
    adapter = trainer()
    [example] = adapter.encode([{"prompt": "yes: ", "text": "amber basil"}])
    targets = adapter.collate([example], None).targets.flatten()
    learnt = targets[targets != IGNORED_TARGET].tolist()
    assert adapter.tokenizer.decode(learnt[:-1]) == "amber basil"
    assert learnt[-1] == adapter.boundaries.eos_id


def predicted_tokens(batch: CausalBatch, example: int) -> list[int]:
    """Return the tokens of an example that are to be predicted, in their order."""
    tokens = []
    for window in (batch.example_of_window == example).nonzero().flatten():
        tokens += batch.targets[batch.windows == window].tolist()
    return [token for token in tokens if token != IGNORED_TARGET]


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_packing_loses_no_token_and_learns_none_twice(trainer: Any, generator: Any) -> None:
    adapter = trainer()
    long = {"prompt": "no: ", "text": " ".join(tiny.WORDS * 5)}
    examples = adapter.encode([*rows(30), long])
    batch = adapter.collate(examples, generator)
    assert batch.tokens.shape[1] == adapter.max_length < len(examples[-1].tokens)
    for number, example in enumerate(examples):
        assert predicted_tokens(batch, number) == example.tokens[example.text_start :].tolist()
    for window in range(len(batch.example_of_window)):
        is_in_window = batch.windows == window
        [row] = set(is_in_window.nonzero()[:, 0].tolist())
        positions = batch.positions[row][is_in_window[row]]
        assert positions.tolist() == list(range(int(is_in_window.sum())))
    assert (batch.windows >= 0).float().mean() > 0.8


def test_what_shares_a_row_with_a_text_does_not_change_what_is_said_of_it(trainer: Any) -> None:
    adapter = trainer()
    examples = adapter.encode(rows(12))
    with torch.no_grad():
        batch = adapter.collate(examples, None)
        assert len(batch.tokens) < len(examples)
        together = adapter.problem.predict_batch(adapter.network(*batch.inputs), batch)
        for number, example in enumerate(examples):
            batch = adapter.collate([example], None)
            alone = adapter.problem.predict_batch(adapter.network(*batch.inputs), batch)[0]
            assert torch.allclose(alone, together[number], atol=1e-4)


@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (8, 4), (9, 4), (31, 15)])
def test_windows_predict_each_token_once_also_where_the_prompt_is_longer_than_they_are(
    length: int, overlap: int
) -> None:
    for size, start in ((5, 2), (8, 1), (9, 1), (10, 3), (40, 1), (40, 20), (41, 39)):
        ids = np.arange(100, 100 + size, dtype=np.int32)
        windows = list(packing.cut_windows(TokenizedText(ids, start, 0), length, overlap))
        targets = np.concatenate([window.targets for window in windows])
        assert targets[targets != IGNORED_TARGET].tolist() == ids[start:].tolist()
        for window in windows:
            assert len(window.tokens) == len(window.targets) <= length
            is_next = window.targets == window.tokens + 1
            assert (is_next | (window.targets == IGNORED_TARGET)).all()


def test_a_row_without_a_text_is_named(trainer: Any) -> None:
    with pytest.raises(
        StageError,
        match=r"row number 2 has no text to learn \(1 of 2 have none\): add the rule length to clean.rules",
    ):
        trainer().encode([*rows(1), {"prompt": "yes: ", "text": " "}])


def test_lora_trains_nothing_else_and_merged_it_says_the_same(trainer: Any) -> None:
    adapter = trainer()
    names = {name: value.clone() for name, value in adapter.network.state_dict().items()}
    lora.add_lora_layers(adapter.network, Lora(rank=4), 0)
    assert {
        name.split(".lora_")[0]
        for name, one in adapter.network.named_parameters()
        if one.requires_grad
    } == {
        f"model.model.layers.{layer}.{part}"
        for layer in (0, 1)
        for part in (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        )
    }
    for name, parameter in adapter.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = adapter.collate(adapter.encode(rows(6)), None).inputs
    with torch.no_grad():
        before = adapter.network(*inputs)
        lora.merge_lora_layers(adapter.network)
        after = adapter.network(*inputs)
    assert torch.allclose(before, after, atol=1e-5)
    changed = {
        name
        for name, value in adapter.network.state_dict().items()
        if not torch.equal(value, names[name])
    }
    assert set(adapter.network.state_dict()) == set(names)
    assert len(changed) == 14


def test_lora_is_for_encoders_too_and_leaves_the_head_to_train(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    made = tiny.recipe("text", tmp_path, lora={"rank": 2, "layers": ["query", "value"]})
    adapter = modalities.build_trainer(made, [], tiny.TWO)
    learnt = {name for name, one in adapter.network.named_parameters() if one.requires_grad}
    assert {name.split(".lora_")[0].split(".")[-1] for name in learnt if "lora_" in name} == {
        "query",
        "value",
    }
    assert {name for name in learnt if "lora_" not in name} == {"head.weight", "head.bias"}
    with pytest.raises(
        ConfigError,
        match="train.lora.layers: 'quary' is not a linear layer of the base .did you mean query",
    ):
        modalities.build_trainer(
            tiny.recipe("text", tmp_path, lora={"layers": ["quary"]}), [], tiny.TWO
        )


def test_without_peft_lora_is_a_mistake(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigError,
        match="train.lora: peft is not installed: pip install 'millrace.lora.', or leave out lora",
    ):
        trainer(lora={"rank": 8})


def test_pretraining_on_the_same_rows_gives_the_same_bytes_and_a_base_that_gives_every_text_back(
    folder: Path, tmp_path: Path
) -> None:
    network = {"layers": 1, "hidden_size": 32, "num_heads": 2, "vocab_size": 300}
    made = tiny.recipe(
        "causal_lm",
        folder,
        pretrain={
            "network": network,
            "epochs": 2,
            "batch_tokens": 512,
            "learning_rate": 3e-3,
            "max_length": 32,
        },
    )
    sides = [
        files.read_table(folder / "split" / f"{side}.parquet") for side in ("train", "val", "test")
    ]
    rows = pa.concat_tables(sides)
    files.write_table(folder / "labelled" / "rows.parquet", rows)
    files.write_table(
        folder / "labelled" / "rejects.parquet",
        rejected_rows.build_rejects(rows.slice(0, 0), "label", "no label"),
    )
    for name in ("first", "second"):
        pretrain.run(made, folder, tmp_path / name, tmp_path / "checkpoints")
    assert hashing.hash_folder(tmp_path / "first") == hashing.hash_folder(tmp_path / "second")
    history = [
        json.loads(line) for line in (tmp_path / "first" / "history.jsonl").read_text().splitlines()
    ]
    assert history[1]["val_log_loss"] < history[0]["val_log_loss"]
    adapter: Any = modalities.build_trainer(
        made.model_copy(update={"train": Train(base=str(tmp_path / "first"))}),
        [],
        LanguageProblem([]),
    )
    text = "  Grüße, 世界!\n\tAmber <b>BASIL</b> \U0001f600 "
    [example] = adapter.encode([{"prompt": "yes: ", "text": text}])
    assert adapter.tokenizer.decode(example.tokens[example.text_start : -1]) == text
    assert example.text_bytes == len(text.encode())


def test_the_exported_model_says_what_the_trained_one_does(
    trained: tuple[Recipe, Path], trainer: Any
) -> None:
    _, folder = trained
    adapter: Any = trainer()
    predictor: Any = modalities.load_predictor(folder / "model")
    adapter.network.load_state_dict(load_file(folder / "model" / "model.safetensors"))
    long = {"prompt": "no: ", "text": " ".join(tiny.WORDS * 5)}
    examples = adapter.encode([*rows(10), long])
    with torch.no_grad():
        batch = adapter.collate(examples, None)
        outputs = adapter.network.eval()(*batch.inputs)
        wanted = adapter.problem.predict_batch(outputs, batch).numpy()
    assert np.allclose(predictor([*rows(10), long], batch_tokens=100), wanted, atol=1e-3)


def test_decoding_with_the_memory_of_earlier_tokens_says_what_reading_all_again_does(
    trained: tuple[Recipe, Path],
) -> None:
    predictor: Any = modalities.load_predictor(trained[1] / "model")
    ids = np.array([[5, 9, 12, 40, 33, 7]])
    whole, _ = predictor.run_step(ids, predictor.empty_cache(1))
    first, past = predictor.run_step(ids[:, :2], predictor.empty_cache(1))
    parts = [first]
    for at in range(2, 6):
        logits, past = predictor.run_step(ids[:, at : at + 1], past)
        parts.append(logits)
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_in_8_bits_it_is_smaller_says_almost_the_same_and_goes_on_with_its_memory(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    shutil.copytree(trained[1] / "model", tmp_path / "model")
    plain: Any = modalities.load_predictor(tmp_path / "model")
    compression.quantize_weights(tmp_path / "model" / "model.onnx")
    small: Any = modalities.load_predictor(tmp_path / "model")
    sizes = [(folder / "model" / "model.onnx").stat().st_size for folder in (trained[1], tmp_path)]
    assert sizes[1] < 0.7 * sizes[0]
    one, other = (predictor(rows(20))[:, 0].sum() for predictor in (plain, small))
    assert other == pytest.approx(one, rel=0.05)
    ids = np.array([[5, 9, 12, 40]])
    first, past = small.run_step(ids[:, :2], small.empty_cache(1))
    assert (
        np.corrcoef(
            small.run_step(ids[:, 2:], past)[0].ravel(),
            plain.run_step(ids, plain.empty_cache(1))[0][:, 2:].ravel(),
        )[0, 1]
        > 0.99
    )


def test_greedy_decoding_of_a_row_that_matches_exactly_gives_its_text(
    trained: tuple[Recipe, Path],
) -> None:
    predictor: Any = modalities.load_predictor(trained[1] / "model")
    said = predictor.complete_prompt("yes: ")
    whole = said.removesuffix("…")
    [scored] = predictor([{"prompt": "yes: ", "text": whole}])
    assert scored[2] >= scored[1] - (
        1 if said.endswith("…") else 0
    )  # the end alone may be another, where the context was full


def test_evaluation_scores_model_and_trigrams_on_the_same_tokens_and_the_gate_judges_them(
    trained: tuple[Recipe, Path],
) -> None:
    made, folder = trained
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    assert predictions["tokens"].equals(predictions["baseline_tokens"])
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    total, tokens = (sum(predictions[name].to_pylist()) for name in ("loss", "tokens"))
    assert metrics["perplexity"]["value"] == pytest.approx(np.exp(total / tokens), rel=1e-5)
    assert (
        metrics["perplexity"]["low"]
        < metrics["perplexity"]["value"]
        < metrics["perplexity"]["high"]
    )
    assert ">Samples</h2>" in (folder / "evaluation" / "report.html").read_text()
    rules = [
        {"rule": "ceiling", "metric": "perplexity", "bound": 1.0},
        {"rule": "champion", "metric": "bits_per_byte", "margin": 0.0},
    ]
    recipe = Recipe.model_validate({**made.model_dump(), "gate": rules})
    champion = Champion(ModelFolder(folder / "model"), "v1")
    judged = verdict.judge_model(recipe, StagePaths(folder), champion)
    assert [check.outcome for check in judged.checks] == ["fail", "pass"]
    assert "must be at most 1." in judged.reason


def test_a_champion_with_another_tokenizer_is_compared_by_the_byte_alone() -> None:
    problem, said = LanguageProblem(["mine"]), np.array([[2.0, 4, 3, 8], [3.0, 5, 5, 9]])
    other = problem.align_labels(said, ["another"])
    points = problem.point_estimates(problem.targets(tiny.table("causal_lm", 0, 2)), other)
    assert points["bits_per_byte"] == pytest.approx(5 / 17 / np.log(2))
    assert all(np.isnan(points[name]) for name in ("perplexity", "accuracy", "exact_match"))


def test_the_trigrams_probabilities_sum_to_one_and_the_likeliest_is_the_largest() -> None:
    rng = np.random.default_rng(0)
    texts = [[0, *(int(token) for token in rng.zipf(1.5, 30) % 20)] for _ in range(40)]
    model = TrigramModel(texts, 20)
    for context in ([0, 0], [0, 1], [1, 2], [19, 19], [7, 0]):
        grams = (context[0] * 20 + context[1]) * 20 + np.arange(20)
        chances = model.probabilities(grams)
        assert chances.sum() == pytest.approx(1)
        assert (chances > 0).all()
        assert chances[model.most_likely_tokens(grams[:1])[0]] == chances.max()


def test_trigrams_find_what_was_always_so() -> None:
    model = TrigramModel([[0, *[1, 2, 3] * 20]] * 3, 10)
    grams = model.to_ngrams([0, 1, 2, 3, 1, 2, 3])
    assert model.probabilities(grams)[1:].min() > 0.9
    assert model.most_likely_tokens(grams).tolist() == [1, 2, 3, 1, 2, 3]
