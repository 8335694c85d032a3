"""Compression: what it may change, what it must state, and that the small model is evaluated."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from tasks import evaluate, modalities, resolve, train
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing
from tasks.storage.layout import SPLITS, SplitFolder, StagePaths
from tasks.training.state import Batches, TrainingState

IMAGE = """name: digits
modality: image
ingest: {kind: package, name: sklearn.digits}
train: {epochs: 4, learning_rate: 0.005, batch_size: 32, metric: accuracy}
evaluate: {resamples: 100}
gate: [{rule: floor, metric: accuracy, bound: 0.5}]
"""
TABLE = IMAGE.replace("image", "tabular").replace("epochs: 4", "epochs: 12, hidden_sizes: [64, 32]")
TEXT = (
    IMAGE.replace("image", "text")
    .replace("epochs: 4", "epochs: 1, max_length: 16")
    .replace("0.005", "0.0003")
)


FRUIT = ("zero apples", "one pear", "two plums", "three figs")


def recipe(here: Path, text: str, export: str) -> Recipe:
    (here / "recipe.yaml").write_text(f"{text}export: {export}\n")
    return read_recipe(here / "recipe.yaml")


def write_split(folder: SplitFolder, modality: str) -> None:
    """Write scikit-learn's digits as images or tables; for text their names in words."""
    digits = load_digits(n_class=4)
    order = np.random.default_rng(0).permutation(len(digits.target))
    sizes = (96, 40, 40) if modality == "text" else (240, 120, 120)
    start = 0
    for name, size in zip(SPLITS, sizes, strict=True):
        rows = order[start : start + size]
        start += size
        columns: dict[str, Any] = {
            "id": [f"d{row:04d}" for row in rows],
            "label": [str(label) for label in digits.target[rows]],
        }
        if modality == "image":
            columns["image"] = [png(digits.images[row]) for row in rows]
        elif modality == "tabular":
            columns |= {f"p{pixel:02d}": digits.data[rows, pixel] for pixel in range(64)}
        else:
            columns["text"] = [f"{FRUIT[digits.target[row]]} in box {row}" for row in rows]
        files.write_table(folder.table(name), pa.table(columns))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((pixels * 15).astype("uint8")).save(buffer, "PNG")
    return buffer.getvalue()


def trained(here: Path, text: str, export: str, to: str = "run") -> Path:
    loaded = recipe(here, text, export)
    paths = StagePaths(here / to)
    write_split(paths.split, loaded.modality)
    train.run(loaded, paths, here / "checkpoints")
    return paths.model.path


@pytest.mark.parametrize(
    ("text", "prune"), [(IMAGE, 0.0), (TABLE, 0.0), (TEXT, 0.3)], ids=["image", "tabular", "text"]
)
def test_int8_is_smaller_and_states_what_it_costs_and_is_what_is_evaluated(
    here: Path, text: str, prune: float
) -> None:
    model = trained(here, text, f"{{int8: true, prune: {prune}}}")
    steps = files.read_json(model / "model.json")["export"]
    assert [step["model"] for step in steps] == [
        "as trained",
        *(["30% of the weights zero"] if prune else []),
        "weights in 8 bits",
    ]
    steps = [steps[0], steps[-1]]
    assert steps[1]["bytes"] == (model / "model.onnx").stat().st_size < steps[0]["bytes"] / 2
    assert steps[0]["metrics"]["accuracy"] > 0.9
    assert abs(steps[0]["metrics"]["accuracy"] - steps[1]["metrics"]["accuracy"]) < 0.05
    assert steps[0]["metrics"]["log_loss"] != steps[1]["metrics"]["log_loss"]
    kinds = {node.op_type for node in onnx.load(model / "model.onnx").graph.node}
    assert kinds & {"MatMulInteger", "ConvInteger"}
    paths = StagePaths(model.parent)
    evaluate.run(read_recipe(here / "recipe.yaml"), paths)
    evaluation = Evaluation.read(paths.evaluation.metrics)
    assert evaluation.model_sha256["model.onnx"] == hashing.sha256(model / "model.onnx")
    assert evaluation.metrics["accuracy"].value > 0.9
    page = paths.evaluation.page.read_text()
    assert page.count("weights in 8 bits") == 1
    history = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    accuracy, epoch = max((record["val_accuracy"], record["epoch"]) for record in history)
    assert f"the weights of epoch {epoch} were kept" in page
    assert page.count(f"epoch {epoch}: {accuracy:.4f}") == 1
    assert page.count('circle class="best"') == 2  # of its loss and of its accuracy
    assert f"{steps[1]['metrics']['accuracy'] - steps[0]['metrics']['accuracy']:+.4f}" in page


def test_equal_input_gives_equal_bytes_and_the_float_weights_stay(here: Path) -> None:
    export = "{int8: true, prune: 0.5}"
    first = hashing.hash_folder(trained(here, TABLE, export, "first"))
    assert hashing.hash_folder(trained(here, TABLE, export, "second")) == first
    plain = hashing.hash_folder(trained(here, TABLE, "{int8: false}", "plain"))
    assert (
        hashing.hash_folder(trained(here, TABLE, "{int8: true}", "small"))["model.safetensors"]
        == plain["model.safetensors"]
    )
    assert "export" not in files.read_json(here / "plain" / "model" / "model.json")


AVERAGED = TABLE.replace("epochs: 12", "epochs: 12, ema_decay: 0.9")


@pytest.mark.parametrize(
    "text", [IMAGE, TABLE, AVERAGED], ids=["image", "tabular", "averaged weights"]
)
def test_pruned_weights_are_zero_in_the_exported_file_and_in_the_one_beside_it(
    here: Path, text: str
) -> None:
    model = trained(here, text, "{prune: 0.6}")
    steps = files.read_json(model / "model.json")["export"]
    assert [step["model"] for step in steps] == ["as trained", "60% of the weights zero"]
    assert steps[1]["metrics"]["accuracy"] > steps[0]["metrics"]["accuracy"] - 0.05
    exported = map(numpy_helper.to_array, onnx.load(model / "model.onnx").graph.initializer)
    for arrays in (load_file(model / "model.safetensors").values(), exported):
        weights = [array for array in arrays if array.ndim > 1 and array.dtype == np.float32]
        assert len(weights) >= 3
        assert all((array == 0).mean() == pytest.approx(0.6, abs=0.01) for array in weights)
    assert len(modalities.load_predictor(model).labels) == 4


def test_pruning_goes_on_where_a_kill_cut_it_off(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TABLE.replace("epochs: 12", "epochs: 12, checkpoint_seconds: 0.0")
    whole = hashing.hash_folder(trained(here, text, "{prune: 0.5}", "whole"))
    original = TrainingState.update

    def dying(state: TrainingState, batches: Batches, learning_rate: float) -> float:
        if state.config.epochs == 1 and state.counters.step == 4:
            raise KeyboardInterrupt
        return original(state, batches, learning_rate)

    monkeypatch.setattr(TrainingState, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(here, text, "{prune: 0.5}", "resumed")
    monkeypatch.setattr(TrainingState, "update", original)
    assert list((here / "checkpoints").glob("*/pruned/0*"))
    assert hashing.hash_folder(trained(here, text, "{prune: 0.5}", "resumed")) == whole
    assert not list((here / "checkpoints").glob("*/*"))


def test_a_share_that_leaves_nothing_is_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"export\.prune: 1\.0: input should be less than 1"):
        recipe(here, TABLE, "{prune: 1.0}")
    with pytest.raises(ConfigError, match=r"export\.int4: is not a known key .did you mean int8"):
        recipe(here, TABLE, "{int4: true}")


def test_a_student_learns_from_its_teacher_what_its_own_labels_do_not_tell(here: Path) -> None:
    teacher = trained(here, TABLE, "{int8: false}", "teacher")
    paths = StagePaths(here / "student")
    write_split(paths.split, "tabular")
    table = files.read_table(paths.split.train)
    shuffled = pa.array(np.random.default_rng(1).permutation(table["label"].to_pylist()))
    column = table.column_names.index("label")
    files.write_table(paths.split.train, table.set_column(column, "label", shuffled))

    def train_student(export: str) -> float:
        """The best accuracy on the validation rows."""
        small = recipe(here, TABLE.replace("[64, 32]", "[16]"), export)
        train.run(small, paths, here / "checkpoints")
        lines = paths.model.history.read_text().splitlines()
        return float(max(json.loads(line)["val_accuracy"] for line in lines))

    assert train_student("{int8: false}") < 0.7
    assert train_student(f"{{distil: {{teacher: {teacher}, weight: 0.9}}}}") > 0.9
    parameters = files.read_json(paths.model.info)["parameters"]
    assert parameters < files.read_json(teacher / "model.json")["parameters"] / 3


def test_a_teacher_must_be_a_model_of_the_same_classes(here: Path) -> None:
    teacher = trained(here, TABLE.replace("epochs: 12", "epochs: 1"), "{int8: false}", "teacher")
    info = files.read_json(teacher / "model.json")
    files.write_json(teacher / "model.json", {**info, "labels": ["0", "1", "2", "nine"]})
    message = (
        "knows the classes 0, 1, 2, nine, but the training rows have 0, 1, 2, 3: name a model of "
        "the same classes"
    )
    with pytest.raises(ConfigError, match=message):
        trained(here, TABLE, f"{{distil: {{teacher: {teacher}}}}}")
    message = (
        "export.distil.teacher: nowhere holds no model.json: name the folder of an exported model"
    )
    with pytest.raises(StageError, match=message):
        resolve.resolve_recipe(recipe(here, TABLE, "{distil: {teacher: nowhere}}"))
