"""Options of `train`: rates, frozen layers, class weights, memory, and contradictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks import modalities
from tasks.contracts.epoch_record import History
from tasks.contracts.model_info import NumberColumn
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.modalities.image import ImageTrainer
from tasks.modalities.tabular import TabularTrainer
from tasks.modalities.text.classifier import TextTrainer
from tasks.problems import classification
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.train import Train
from tasks.training import distributed, loop, optimizer
from tasks.training.state import TrainingState
from tasks.training.training_data import TrainingData
from tests import tiny

N_ROWS = 64


def build_trainer(modality: str, folder: Path, **options: Any) -> tuple[Any, TrainingData]:
    """An adapter, and 64 examples to train and to measure on."""
    if modality == "text":
        tiny.base(folder / "base")
    recipe = tiny.recipe(modality, folder, **options)
    table = tiny.table(modality, 0, N_ROWS)
    rows = modalities.extract_inputs(recipe, table)
    problem = ClassificationProblem(["no", "yes"], recipe.train)
    adapter = modalities.build_trainer(recipe, rows, problem)
    targets = np.array([label == "yes" for label in table["label"].to_pylist()], np.int64)
    ids = [f"r{number:02d}" for number in range(N_ROWS)]
    examples = adapter.encode(rows)
    return adapter, TrainingData(examples, targets, examples, targets, ids)


def fit(modality: str, folder: Path, **options: Any) -> tuple[Any, History]:
    adapter, data = build_trainer(modality, folder, **options)
    return adapter, loop.fit(adapter, adapter.config, data, folder / "checkpoints")


def compute_rates(schedule: Any) -> list[float]:
    config = Train(learning_rate=0.1, warmup=0.2, schedule=schedule)
    return [round(optimizer.compute_learning_rate(config, step, 10, 0.5), 4) for step in range(10)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.05, 0.1, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125]),
        ("cosine", [0.05, 0.1, 0.1, 0.0962, 0.0854, 0.0691, 0.05, 0.0309, 0.0146, 0.0038]),
        ("plateau", [0.05, 0.1, *[0.05] * 8]),
        ("constant", [0.05, *[0.1] * 9]),
    ],
)
def test_a_schedule_warms_up_and_then_does_what_its_name_says(
    schedule: str, expected: list[float]
) -> None:
    assert compute_rates(schedule) == expected


def test_plateau_halves_the_rate_after_each_epoch_that_was_no_better(tmp_path: Path) -> None:
    adapter, data = build_trainer(
        "tabular", tmp_path, schedule="plateau", patience=9, metric="macro_f1"
    )
    state = TrainingState(adapter, adapter.config, data, tmp_path)
    factors = []
    for metric in (0.5, 0.6, 0.6, 0.4, 0.7):
        state.counters.weight_sum = 1.0
        state.finish_epoch({"macro_f1": metric})
        factors.append(state.counters.plateau_factor)
    assert factors == [1.0, 1.0, 0.5, 0.25, 0.25]


def test_the_average_follows_the_weights_and_is_what_is_measured_and_kept(tmp_path: Path) -> None:
    adapter, data = build_trainer("tabular", tmp_path, ema_decay=0.75)
    state = TrainingState(adapter, adapter.config, data, tmp_path)
    expected = None
    for number, batches in enumerate(state.steps(0)):
        state.update(batches, 0.05)
        weights = state.network.state_dict()["0.weight"].clone()
        kept = min(0.75, (1 + number) / (10 + number))
        expected = weights if expected is None else kept * expected + (1 - kept) * weights
    state.finish_epoch({"macro_f1": 0.5, "log_loss": 0.5})
    assert expected is not None
    assert kept > 0.1
    torch.testing.assert_close(state.best_weights["0.weight"], expected)
    assert not torch.allclose(state.network.state_dict()["0.weight"], expected, atol=1e-3)


def test_each_layer_nearer_to_the_input_learns_more_slowly(tmp_path: Path) -> None:
    adapter, _ = build_trainer("text", tmp_path, layerwise_lr_decay=0.5)
    names = {}
    for name, parameter in adapter.network.named_parameters():
        if parameter.requires_grad:
            names[id(parameter)] = name
    scales = {}
    for group in optimizer.build_optimizer(adapter.network, adapter.config).param_groups:
        for parameter in group["params"]:
            scales[names[id(parameter)]] = group["scale"]
    assert scales["head.weight"] == 1.0
    assert scales["encoder.encoder.layer.1.output.dense.weight"] == 0.5
    assert scales["encoder.encoder.layer.0.output.dense.weight"] == 0.25
    assert scales["encoder.embeddings.word_embeddings.weight"] == 0.125
    assert len(scales) == len(names)


@pytest.mark.parametrize(
    ("freeze", "learning"),
    [
        ("embeddings", {"layer.0", "layer.1", "head"}),
        (1, {"layer.1", "head"}),
        (2, {"head"}),
        ("all", {"head"}),
    ],
)
def test_what_is_frozen_stays_and_the_rest_learns(
    tmp_path: Path, freeze: Any, learning: set[str]
) -> None:
    before, _ = build_trainer("text", tmp_path / "a")
    after, _ = fit("text", tmp_path / "b", freeze=freeze)
    start = before.network.state_dict()
    changed = [
        name
        for name, value in after.network.state_dict().items()
        if not torch.equal(value, start[name])
    ]
    assert changed
    parts = set()
    for part in ("embeddings", "layer.0", "layer.1", "head"):
        if any(part in name for name in changed):
            parts.add(part)
    assert parts == learning


def test_more_layers_than_there_are_cannot_be_frozen(tmp_path: Path) -> None:
    message = (
        "train.freeze: 3 layers are to be frozen, but the base has 2: write 2 or fewer, or all"
    )
    with pytest.raises(ConfigError, match=message):
        fit("text", tmp_path, freeze=3)


def test_accumulated_batches_learn_what_one_large_batch_learns(tmp_path: Path) -> None:
    large, expected = fit("tabular", tmp_path / "a", batch_size=32, dropout=0.0)
    small, same = fit(
        "tabular", tmp_path / "b", batch_size=8, gradient_accumulation_steps=4, dropout=0.0
    )
    assert [record.step for record in same] == [2, 4, 6]
    assert [record.loss for record in same] == pytest.approx(
        [record.loss for record in expected], abs=1e-5
    )
    for name, value in large.network.state_dict().items():
        torch.testing.assert_close(small.network.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_recomputed_activations_give_the_same_weights(tmp_path: Path) -> None:
    stored, _ = fit("text", tmp_path / "a", precision="fp32")
    again, _ = fit("text", tmp_path / "b", precision="fp32", activation_checkpointing=True)
    assert again.network.encoder.is_activation_checkpointing
    for name, value in stored.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_sgd_learns(tmp_path: Path) -> None:
    _, history = fit("tabular", tmp_path, optimizer="sgd", learning_rate=0.1, epochs=10)
    assert history[-1].loss < history[0].loss - 0.05


def test_balanced_classes_have_the_same_total_and_the_average_row_counts_1() -> None:
    targets = np.array([0] * 30 + [1] * 10)
    labels = ["ham", "spam"]
    balanced = Train(class_weights="balanced")
    weights = classification.compute_class_weights(balanced, targets, labels)
    assert weights is not None
    assert weights.tolist() == pytest.approx([40 / 60, 2.0])
    named = Train(class_weights={"spam": 3.0})
    weights = classification.compute_class_weights(named, targets, labels)
    assert weights is not None
    assert weights.tolist() == pytest.approx([40 / 60, 2.0])
    assert classification.compute_class_weights(Train(), targets, labels) is None


def test_a_rare_class_is_found_more_often_if_it_weighs_more(tmp_path: Path) -> None:
    def mean_probability(folder: Path, class_weights: Any) -> float:
        adapter, data = build_trainer("tabular", folder, epochs=10, patience=10, learning_rate=2e-2)
        kept = [row for row in range(N_ROWS) if data.targets[row] == 0 or row % 4 == 0]
        examples = [data.examples[row] for row in kept]
        targets = data.targets[kept]
        adapter.problem.class_weights = classification.compute_class_weights(
            Train(class_weights=class_weights), targets, ["no", "yes"]
        )
        rare = TrainingData(examples, targets, examples, targets)
        loop.fit(adapter, adapter.config, rare, folder)
        with torch.no_grad():
            probabilities = adapter.network.eval()(torch.stack(examples)).softmax(1)
        return float(probabilities[:, 1].mean())

    weighted = mean_probability(tmp_path / "a", "balanced")
    assert weighted > mean_probability(tmp_path / "b", "none") + 0.1


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (
            {"freeze": 2, "layerwise_lr_decay": 0.9},
            ["freeze and layerwise_lr_decay are about the layers of a base, and there is none"],
        ),
        (
            {
                "base": "b",
                "freeze": "all",
                "layerwise_lr_decay": 0.9,
                "schedule": "plateau",
                "patience": 1,
                "processes": 4,
                "batch_size": 2,
            },
            [
                "freeze: all leaves no layer to train, but layerwise_lr_decay needs one",
                "schedule: plateau lowers the rate after an epoch without improvement, but "
                "patience: 1 ends the training there",
                "processes: 4 cannot share a batch of batch_size: 2 rows",
            ],
        ),
        (
            {"base": "b", "freeze": 0},
            ["0 is not allowed: write embeddings, all, or how many layers"],
        ),
        (
            {"base": "b", "freeze": "heads"},
            ["'heads' is not allowed: write embeddings, all, or how many layers"],
        ),
        (
            {"class_weights": {"spam": -1}},
            [
                "{'spam': -1} is not allowed: write none, balanced, or a weight above 0 for "
                "classes by name"
            ],
        ),
        ({"class_weights": "auto"}, ["'auto' is not allowed: write none, balanced, or"]),
    ],
)
def test_options_that_contradict_each_other_are_named_together(
    options: dict[str, Any], sentences: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Train(**options)
    assert caught.value.error_count() == 1
    assert [sentence for sentence in sentences if sentence not in str(caught.value)] == []


class LimitedNetwork(torch.nn.Module):
    """A network that runs out of memory, as torch does, with more than `max_rows` rows."""

    def __init__(self, network: torch.nn.Module, max_rows: int, error: Exception) -> None:
        super().__init__()
        self.network = network
        self.max_rows = max_rows
        self.error = error

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training and len(features) > self.max_rows:
            raise self.error
        outputs: torch.Tensor = self.network(features)
        return outputs


GPU_ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 8 bytes."
)


def fit_limited(folder: Path, max_rows: int, error: Exception) -> History:
    adapter, data = build_trainer("tabular", folder, dropout=0.0)
    adapter.network = LimitedNetwork(adapter.network, max_rows, error)
    return loop.fit(adapter, adapter.config, data, folder / "checkpoints")


@pytest.mark.parametrize("error", [GPU_ERROR, CPU_ERROR])
def test_a_batch_that_does_not_fit_is_computed_in_parts_with_the_same_result(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fit_limited(tmp_path / "a", 16, error)
    parts = fit_limited(tmp_path / "b", 5, error)
    expected = [record.loss for record in whole]
    assert [record.loss for record in parts] == pytest.approx(expected, abs=1e-5)
    output = capsys.readouterr().out
    first = "16 rows at once do not fit into memory: from step 0 on a batch is computed in 2 parts"
    second = "8 rows at once do not fit into memory: from step 0 on a batch is computed in 4 parts"
    assert f"{first}, which add up to the same batch" in output
    assert second in output
    assert "in 8 parts" not in output


def test_one_row_that_does_not_fit_ends_with_a_sentence(tmp_path: Path) -> None:
    message = (
        r"one row alone does not fit into the memory of the cpu \(step 0\): lower train.max_length"
    )
    with pytest.raises(StageError, match=message) as caught:
        fit_limited(tmp_path, 0, GPU_ERROR)
    assert not isinstance(caught.value, RetryableError)


def test_a_gpu_that_disappears_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    error = RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")
    message = r"the GPU failed or is gone \(CUDA error: unspecified launch failure\)"
    with pytest.raises(RetryableError, match=message):
        fit_limited(tmp_path, 0, error)


def test_a_gpu_that_does_not_answer_is_waited_for_and_nothing_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(distributed, "DEVICE_FOLDER", tmp_path)
    assert distributed.compute_device().type == "cpu"
    (tmp_path / "nvidia0").touch()
    with pytest.raises(RetryableError, match="this machine's GPU does not answer"):
        distributed.compute_device()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert distributed.compute_device().type == "cpu"


def test_an_error_that_is_none_of_these_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit_limited(tmp_path, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_loss_that_is_not_a_number_names_the_rows_to_blame(tmp_path: Path) -> None:
    adapter, data = build_trainer("tabular", tmp_path)
    data.examples[5] = data.examples[5] * float("nan")
    data.examples[40] = data.examples[40] * float("inf")
    message = r"the loss of step \d \(epoch 1\) is nan, in the rows? r\d\d(, r\d\d)?: lower"
    with pytest.raises(StageError, match=message) as caught:
        loop.fit(adapter, adapter.config, data, tmp_path / "c")
    assert "r05" in str(caught.value) or "r40" in str(caught.value)


def test_a_cell_that_becomes_no_number_is_named_before_training() -> None:
    rows = [{"a": float(n), "b": 1e308 * (n % 2 + 0.5)} for n in range(8)]
    message = (
        r"column 'b' of row number 2 is 1.5e\+308, which is too large to learn from: clean it with "
        "a range rule"
    )
    with pytest.raises(StageError, match=message):
        TabularTrainer(Train(), rows, tiny.TWO)


def test_an_infinity_is_a_gap_and_a_column_of_numbers_and_words_holds_categories(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = []
    for n in range(70):
        is_special = n % 7 == 0
        rows.append(
            {"a": "inf" if is_special else str(n / 3), "b": "ten" if is_special else str(n)}
        )
    a, b = TabularTrainer(Train(), rows, tiny.TWO).columns
    assert isinstance(a, NumberColumn)
    assert a.has_missing
    assert b.kind == "category"
    warning = (
        "warning: column 'b' is taken for categories, as 10 of its 70 cells are no numbers, such "
        "as 'ten'"
    )
    assert warning in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", False), ("bf16", True)])
def test_precision_is_what_the_recipe_says(precision: Any, enabled: bool) -> None:
    cpu = torch.device("cpu")
    assert optimizer.build_autocast(Train(precision=precision), True, cpu)._enabled is enabled
    assert optimizer.build_autocast(Train(), True, cpu)._enabled is distributed.has_bf16(cpu)
    for_tables = TabularTrainer.SUPPORTS_MIXED_PRECISION
    assert optimizer.build_autocast(Train(), for_tables, cpu)._enabled is False
    assert TextTrainer.SUPPORTS_MIXED_PRECISION
    assert ImageTrainer.SUPPORTS_MIXED_PRECISION
