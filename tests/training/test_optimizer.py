"""What the recipe says about training: rates, frozen layers, weights of classes, batches that add up, and what contradicts itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks import modalities
from tasks.contracts.epoch_record import History
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.modalities.image import ImageTrainer
from tasks.modalities.tabular import TabularTrainer
from tasks.modalities.text.classifier import TextTrainer
from tasks.problems import classification
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.train import Train
from tasks.training import distributed, loop, optimizer
from tasks.training.state import TrainingState
from tests import tiny


def trainer(modality: str, folder: Path, **options: Any) -> tuple[Any, list[Any], np.ndarray]:
    """An adapter with 64 examples and their targets."""
    if modality == "text":
        tiny.base(folder / "base")
    made = tiny.recipe(modality, folder, **options)
    table = tiny.table(modality, 0, 64)
    rows = modalities.extract_inputs(made, table)
    adapter = modalities.build_trainer(made, rows, ClassificationProblem(["no", "yes"], made.train))
    return (
        adapter,
        adapter.encode(rows),
        np.array([label == "yes" for label in table["label"].to_pylist()], np.int64),
    )


def fitted(modality: str, folder: Path, **options: Any) -> tuple[Any, History]:
    adapter, examples, targets = trainer(modality, folder, **options)
    return adapter, loop.fit(
        adapter,
        adapter.config,
        examples,
        targets,
        examples,
        targets,
        folder / "checkpoints",
        [f"r{n:02d}" for n in range(64)],
    )


def rates(**options: Any) -> list[float]:
    section = Train(learning_rate=0.1, warmup=0.2, **options)
    return [round(optimizer.compute_learning_rate(section, step, 10, 0.5), 4) for step in range(10)]


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
    assert rates(schedule=schedule) == expected


def test_plateau_halves_the_rate_after_each_epoch_that_was_no_better(tmp_path: Path) -> None:
    adapter, examples, targets = trainer(
        "tabular", tmp_path, schedule="plateau", patience=9, metric="macro_f1"
    )
    run = TrainingState(adapter, adapter.config, examples, targets, [], tmp_path)
    factors = []
    for metric in (0.5, 0.6, 0.6, 0.4, 0.7):
        run.weight_sum = 1.0
        run.finish_epoch({"macro_f1": metric})
        factors.append(run.factor)
    assert factors == [1.0, 1.0, 0.5, 0.25, 0.25]


def test_the_average_follows_the_weights_and_is_what_is_measured_and_kept(tmp_path: Path) -> None:
    adapter, examples, targets = trainer("tabular", tmp_path, ema_decay=0.75)
    run = TrainingState(adapter, adapter.config, examples, targets, [], tmp_path)
    expected = None
    for number, batches in enumerate(run.steps(0)):
        run.update(batches, 0.05)
        weights = run.network.state_dict()["0.weight"].clone()
        kept = min(0.75, (1 + number) / (10 + number))
        expected = weights if expected is None else kept * expected + (1 - kept) * weights
    run.finish_epoch({"macro_f1": 0.5, "log_loss": 0.5})
    assert expected is not None and kept > 0.1
    torch.testing.assert_close(run.best_weights["0.weight"], expected)
    assert not torch.allclose(run.network.state_dict()["0.weight"], expected, atol=1e-3)


def test_each_layer_nearer_to_the_input_learns_more_slowly(tmp_path: Path) -> None:
    adapter, _, _ = trainer("text", tmp_path, layerwise_lr_decay=0.5)
    names = {
        id(parameter): name
        for name, parameter in adapter.network.named_parameters()
        if parameter.requires_grad
    }
    made = optimizer.build_optimizer(adapter.network, adapter.config)
    scales = {
        names[id(parameter)]: group["scale"]
        for group in made.param_groups
        for parameter in group["params"]
    }
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
    before, _, _ = trainer("text", tmp_path / "a")
    after, _ = fitted("text", tmp_path / "b", freeze=freeze)
    start = before.network.state_dict()
    changed = {
        name
        for name, value in after.network.state_dict().items()
        if not torch.equal(value, start[name])
    }
    assert changed
    assert {
        part
        for part in ("embeddings", "layer.0", "layer.1", "head")
        if any(part in name for name in changed)
    } == learning


def test_more_layers_than_there_are_cannot_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"train.freeze: 3 layers are to be frozen, but the base has 2: write 2 or fewer, or all",
    ):
        fitted("text", tmp_path, freeze=3)


def test_accumulated_batches_learn_what_one_large_batch_learns(tmp_path: Path) -> None:
    large, told = fitted("tabular", tmp_path / "a", batch_size=32, dropout=0.0)
    small, same = fitted(
        "tabular", tmp_path / "b", batch_size=8, gradient_accumulation_steps=4, dropout=0.0
    )
    assert [record.step for record in same] == [2, 4, 6]
    assert [record.loss for record in same] == pytest.approx(
        [record.loss for record in told], abs=1e-5
    )
    for name, value in large.network.state_dict().items():
        torch.testing.assert_close(small.network.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_recomputed_activations_give_the_same_weights(tmp_path: Path) -> None:
    stored, _ = fitted("text", tmp_path / "a", precision="fp32")
    again, _ = fitted("text", tmp_path / "b", precision="fp32", activation_checkpointing=True)
    assert again.network.encoder.is_activation_checkpointing
    for name, value in stored.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_sgd_learns(tmp_path: Path) -> None:
    _, history = fitted("tabular", tmp_path, optimizer="sgd", learning_rate=0.1, epochs=10)
    assert history[-1].loss < history[0].loss - 0.05


def test_balanced_classes_have_the_same_total_and_the_average_row_counts_1() -> None:
    targets = np.array([0] * 30 + [1] * 10)
    weights = classification.compute_class_weights(
        Train(class_weights="balanced"), targets, ["ham", "spam"]
    )
    assert weights is not None
    assert weights.tolist() == pytest.approx([40 / 60, 2.0])
    given = classification.compute_class_weights(
        Train(class_weights={"spam": 3.0}), targets, ["ham", "spam"]
    )
    assert given is not None
    assert given.tolist() == pytest.approx([40 / 60, 2.0])
    assert classification.compute_class_weights(Train(), targets, ["ham", "spam"]) is None


def test_a_rare_class_is_found_more_often_where_it_weighs_more(tmp_path: Path) -> None:
    def found(folder: Path, weigh: bool) -> float:
        adapter, examples, targets = trainer(
            "tabular", folder, epochs=10, patience=10, learning_rate=2e-2
        )
        kept = [index for index in range(64) if targets[index] == 0 or index % 4 == 0]
        examples, targets = [examples[index] for index in kept], targets[kept]
        adapter.problem.weights = classification.compute_class_weights(
            Train(class_weights="balanced" if weigh else "none"), targets, ["no", "yes"]
        )
        loop.fit(adapter, adapter.config, examples, targets, examples, targets, folder)
        with torch.no_grad():
            return float(adapter.network.eval()(torch.stack(examples)).softmax(1)[:, 1].mean())

    assert found(tmp_path / "a", True) > found(tmp_path / "b", False) + 0.1


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
                "schedule: plateau lowers the rate after an epoch without improvement, but patience: 1 ends the training there",
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
                "{'spam': -1} is not allowed: write none, balanced, or a weight above 0 for classes by name"
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


class Small(torch.nn.Module):
    """A network that runs out of memory, as torch does, with more than `most` rows."""

    def __init__(self, network: torch.nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.network, self.most, self.error = network, most, error

    def forward(self, features: torch.Tensor) -> Any:
        if self.training and len(features) > self.most:
            raise self.error
        return self.network(features)


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
)


def limited(folder: Path, most: int, error: Exception) -> History:
    adapter, examples, targets = trainer("tabular", folder, dropout=0.0)
    adapter.network = Small(adapter.network, most, error)
    return loop.fit(
        adapter, adapter.config, examples, targets, examples, targets, folder / "checkpoints"
    )


@pytest.mark.parametrize("error", [GPU, CPU])
def test_a_batch_that_does_not_fit_is_computed_in_parts_with_the_same_result(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = limited(tmp_path / "a", 16, error), limited(tmp_path / "b", 5, error)
    assert [record.loss for record in parts] == pytest.approx(
        [record.loss for record in whole], abs=1e-5
    )
    told = capsys.readouterr().out
    assert (
        "16 rows at once do not fit into memory: from step 0 on a batch is computed in 2 parts, which add up to the same batch"
        in told
    )
    assert (
        "8 rows at once do not fit into memory: from step 0 on a batch is computed in 4 parts"
        in told
    )
    assert "in 8 parts" not in told


def test_one_row_that_does_not_fit_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        StageError,
        match=r"one row alone does not fit into the memory of the cpu \(step 0\): lower train.max_length",
    ) as caught:
        limited(tmp_path, 0, GPU)
    assert not isinstance(caught.value, RetryableError)


def test_a_gpu_that_disappears_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    with pytest.raises(
        RetryableError,
        match=r"the GPU failed or is gone \(CUDA error: unspecified launch failure\)",
    ):
        limited(
            tmp_path, 0, RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")
        )


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
        limited(tmp_path, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_loss_that_is_not_a_number_names_the_rows_to_blame(tmp_path: Path) -> None:
    adapter, examples, targets = trainer("tabular", tmp_path)
    examples[5], examples[40] = examples[5] * float("nan"), examples[40] * float("inf")
    with pytest.raises(
        StageError,
        match=r"the loss of step \d \(epoch 1\) is nan, in the rows? r\d\d(, r\d\d)?: lower",
    ) as caught:
        loop.fit(
            adapter,
            adapter.config,
            examples,
            targets,
            examples,
            targets,
            tmp_path / "c",
            [f"r{n:02d}" for n in range(64)],
        )
    assert "r05" in str(caught.value) or "r40" in str(caught.value)


def test_a_cell_that_becomes_no_number_is_named_before_training() -> None:
    rows = [{"a": float(n), "b": 1e308 * (n % 2 + 0.5)} for n in range(8)]
    with pytest.raises(
        StageError,
        match=r"column 'b' of row number 2 is 1.5e\+308, which is too large to learn from: clean it with a range rule",
    ):
        TabularTrainer(Train(), rows, tiny.TWO)


def test_an_infinity_is_a_gap_and_a_column_of_numbers_and_words_says_that_it_is_taken_for_categories(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"a": "inf" if n % 7 == 0 else str(n / 3), "b": "ten" if n % 7 == 0 else str(n)}
        for n in range(70)
    ]
    a, b = TabularTrainer(Train(), rows, tiny.TWO).columns
    assert (a.kind, a.has_missing, b.kind) == ("number", True, "category")
    assert (
        "warning: column 'b' is taken for categories, as 10 of its 70 cells are no numbers, such as 'ten'"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", False), ("bf16", True)])
def test_precision_is_what_the_recipe_says(precision: Any, enabled: bool) -> None:
    cpu = torch.device("cpu")
    assert optimizer.build_autocast(Train(precision=precision), True, cpu)._enabled is enabled
    assert optimizer.build_autocast(Train(), True, cpu)._enabled is distributed.has_bf16(cpu)
    assert (
        optimizer.build_autocast(Train(), TabularTrainer.SUPPORTS_MIXED_PRECISION, cpu)._enabled
        is False
    )
    assert TextTrainer.SUPPORTS_MIXED_PRECISION
    assert ImageTrainer.SUPPORTS_MIXED_PRECISION
