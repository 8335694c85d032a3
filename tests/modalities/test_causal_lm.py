"""Causal language models: what is learnt of a row, packing, and the exported model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import evaluate, modalities
from tasks import train as train_stage
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.gating import verdict
from tasks.gating.champion import Champion
from tasks.modalities.causal_lm import packing
from tasks.modalities.causal_lm.predictor import CUT_MARK, CausalLmPredictor
from tasks.modalities.causal_lm.trainer import CausalLmTrainer
from tasks.problems.batch import CausalBatch
from tasks.problems.language import IGNORED_TARGET, LanguageProblem, TokenizedText
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tasks.training import compression
from tests import tiny

LONG_ROW = {"prompt": "no: ", "text": " ".join(tiny.WORDS * 5)}  # longer than max_length


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the decoder `base` and a split."""
    folder = tmp_path_factory.mktemp("causal")
    tiny.decoder(folder / "base")
    tiny.split("causal_lm", folder / "split")
    files.write_table(StagePaths(folder).split.test, tiny.table("causal_lm", 800, 24))
    return folder


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> StagePaths:
    """A trained model with its evaluation."""
    recipe = tiny.recipe("causal_lm", folder)
    paths = StagePaths(folder)
    train_stage.run(recipe, paths, folder / "checkpoints")
    evaluate.run(recipe, paths)
    return paths


@pytest.fixture
def trainer(folder: Path) -> CausalLmTrainer:
    """A trainer with the weights of the base."""
    config = tiny.recipe("causal_lm", folder, lora=None).train
    return CausalLmTrainer(config, [], LanguageProblem([], config))


def load_predictor(model: Path) -> CausalLmPredictor:
    predictor = modalities.load_predictor(model)
    assert isinstance(predictor, CausalLmPredictor)
    return predictor


def build_rows(count: int) -> list[dict[str, str]]:
    """Build rows of one to five words."""
    texts = [" ".join(tiny.WORDS[: number % 5 + 1]) for number in range(count)]
    return [{"prompt": "yes: ", "text": text} for text in texts]


def score(trainer: CausalLmTrainer, batch: CausalBatch) -> torch.Tensor:
    """Score a batch by the network that is not exported, `[examples, 4]`."""
    with torch.no_grad():
        outputs = trainer.network.eval()(*batch.inputs)
    return trainer.problem.predict_batch(outputs, batch)


def predicted_tokens(batch: CausalBatch, example: int) -> list[int]:
    """Return the tokens of an example that are to be predicted, in their order."""
    tokens: list[int] = []
    for window in (batch.example_of_window == example).nonzero().flatten():
        tokens += batch.targets[batch.windows == window].tolist()
    return [token for token in tokens if token != IGNORED_TARGET]


def test_the_text_and_its_end_are_learnt_and_the_prompt_is_not(trainer: CausalLmTrainer) -> None:
    [example] = trainer.encode([{"prompt": "yes: ", "text": "amber basil"}])
    learnt = predicted_tokens(trainer.collate([example], None), 0)
    assert trainer.tokenizer.decode(learnt[:-1]) == "amber basil"
    assert learnt[-1] == trainer.boundaries.eos_id


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_packing_loses_no_token_and_learns_none_twice(
    trainer: CausalLmTrainer, generator: torch.Generator | None
) -> None:
    examples = trainer.encode([*build_rows(30), LONG_ROW])
    batch = trainer.collate(examples, generator)
    assert batch.tokens.shape[1] == trainer.max_length < len(examples[-1].tokens)
    for number, example in enumerate(examples):
        assert predicted_tokens(batch, number) == example.tokens[example.text_start :].tolist()
    assert (batch.windows >= 0).float().mean() > 0.8


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_positions_count_from_0_in_each_window(
    trainer: CausalLmTrainer, generator: torch.Generator | None
) -> None:
    batch = trainer.collate(trainer.encode([*build_rows(30), LONG_ROW]), generator)
    for window in range(len(batch.example_of_window)):
        is_in_window = batch.windows == window
        [row] = set(is_in_window.nonzero()[:, 0].tolist())
        positions = batch.positions[row][is_in_window[row]]
        assert positions.tolist() == list(range(int(is_in_window.sum())))


def test_the_score_of_a_text_does_not_depend_on_its_neighbours(trainer: CausalLmTrainer) -> None:
    examples = trainer.encode(build_rows(12))
    batch = trainer.collate(examples, None)
    assert len(batch.tokens) < len(examples)
    together = score(trainer, batch)
    for number, example in enumerate(examples):
        alone = score(trainer, trainer.collate([example], None))[0]
        assert torch.allclose(alone, together[number], atol=1e-4)


@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (8, 4), (9, 4), (31, 15)])
@pytest.mark.parametrize(
    ("size", "start"), [(5, 2), (8, 1), (9, 1), (10, 3), (40, 1), (40, 20), (41, 39)]
)
def test_windows_predict_each_token_once_even_after_a_long_prompt(
    length: int, overlap: int, size: int, start: int
) -> None:
    ids = np.arange(100, 100 + size, dtype=np.int32)
    windows = list(packing.cut_windows(TokenizedText(ids, start, 0), length, overlap))
    targets = np.concatenate([window.targets for window in windows])
    assert targets[targets != IGNORED_TARGET].tolist() == ids[start:].tolist()
    for window in windows:
        assert len(window.tokens) == len(window.targets) <= length
        is_next = window.targets == window.tokens + 1
        assert (is_next | (window.targets == IGNORED_TARGET)).all()


def test_a_row_without_a_text_is_named(trainer: CausalLmTrainer) -> None:
    sentence = (
        r"row number 2 has no text to learn \(1 of 2 have none\): add the rule length to "
        "clean.rules"
    )
    with pytest.raises(StageError, match=sentence):
        trainer.encode([*build_rows(1), {"prompt": "yes: ", "text": " "}])


def test_the_exported_model_scores_as_the_trained_network(
    evaluated: StagePaths, trainer: CausalLmTrainer
) -> None:
    predictor = load_predictor(evaluated.model.path)
    trainer.network.load_state_dict(trainer.load_weights(evaluated.model.path))
    rows = [*build_rows(10), LONG_ROW]
    expected = score(trainer, trainer.collate(trainer.encode(rows), None)).numpy()
    assert np.allclose(predictor(rows, batch_tokens=100), expected, atol=1e-3)


def test_decoding_with_a_cache_gives_the_logits_of_reading_all_tokens(
    evaluated: StagePaths,
) -> None:
    predictor = load_predictor(evaluated.model.path)
    ids = np.array([[5, 9, 12, 40, 33, 7]])
    expected, _ = predictor.run_step(ids, predictor.empty_cache(1))
    first, past = predictor.run_step(ids[:, :2], predictor.empty_cache(1))
    parts = [first]
    for position in range(2, 6):
        logits, past = predictor.run_step(ids[:, position : position + 1], past)
        parts.append(logits)
    assert np.allclose(np.concatenate(parts, axis=1), expected, atol=1e-5)


def test_in_8_bits_it_is_smaller_and_scores_almost_the_same(
    evaluated: StagePaths, tmp_path: Path
) -> None:
    small_paths = StagePaths(tmp_path)
    shutil.copytree(evaluated.model.path, small_paths.model.path)
    compression.quantize_weights(small_paths.model.onnx)
    plain = load_predictor(evaluated.model.path)
    small = load_predictor(small_paths.model.path)
    plain_size = evaluated.model.onnx.stat().st_size
    assert small_paths.model.onnx.stat().st_size < 0.7 * plain_size
    plain_loss, small_loss = (predictor(build_rows(20))[:, 0].sum() for predictor in (plain, small))
    assert small_loss == pytest.approx(plain_loss, rel=0.05)
    ids = np.array([[5, 9, 12, 40]])
    _, past = small.run_step(ids[:, :2], small.empty_cache(1))
    small_logits, _ = small.run_step(ids[:, 2:], past)
    plain_logits, _ = plain.run_step(ids, plain.empty_cache(1))
    correlation = np.corrcoef(small_logits.ravel(), plain_logits[:, 2:].ravel())[0, 1]
    assert correlation > 0.99


def test_greedy_decoding_gives_a_text_that_matches_exactly(evaluated: StagePaths) -> None:
    predictor = load_predictor(evaluated.model.path)
    continuation = predictor.complete_prompt("yes: ")
    text = continuation.removesuffix(CUT_MARK)
    [[_, n_tokens, n_hits, _]] = predictor([{"prompt": "yes: ", "text": text}])
    # The end of the text is a miss if decoding stopped because the context was full.
    n_misses = 1 if continuation.endswith(CUT_MARK) else 0
    assert n_hits >= n_tokens - n_misses


def test_model_and_trigrams_are_evaluated_on_the_same_tokens(evaluated: StagePaths) -> None:
    predictions = files.read_table(evaluated.evaluation.predictions)
    assert predictions["tokens"].equals(predictions["baseline_tokens"])
    loss = sum(predictions["loss"].to_pylist())
    n_tokens = sum(predictions["tokens"].to_pylist())
    metrics = Evaluation.read(evaluated.evaluation.metrics)
    perplexity = metrics.numbers()["perplexity"]
    assert perplexity["value"] == pytest.approx(np.exp(loss / n_tokens), rel=1e-5)
    assert perplexity["low"] < perplexity["value"] < perplexity["high"]
    assert ">Samples</h2>" in evaluated.evaluation.page.read_text()


def test_the_gate_judges_a_language_model(evaluated: StagePaths) -> None:
    rules = [
        {"rule": "ceiling", "metric": "perplexity", "bound": 1.0},
        {"rule": "champion", "metric": "bits_per_byte", "margin": 0.0},
    ]
    recipe = tiny.recipe("causal_lm", evaluated.root)
    recipe = Recipe.model_validate({**recipe.model_dump(), "gate": rules})
    champion = Champion(evaluated.model, "v1")
    judged = verdict.judge_model(recipe, evaluated, champion)
    assert [check.outcome for check in judged.checks] == ["fail", "pass"]
    assert "must be at most 1." in judged.reason


def test_a_champion_with_another_tokenizer_is_compared_by_bytes_alone() -> None:
    problem = LanguageProblem(["mine"])
    scores = np.array([[2.0, 4, 3, 8], [3.0, 5, 5, 9]])
    aligned = problem.align_labels(scores, ["another"])
    targets = problem.targets(tiny.table("causal_lm", 0, 2))
    metrics = problem.point_estimates(targets, aligned)
    assert metrics["bits_per_byte"] == pytest.approx(5 / 17 / np.log(2))
    assert all(np.isnan(metrics[name]) for name in ("perplexity", "accuracy", "exact_match"))
