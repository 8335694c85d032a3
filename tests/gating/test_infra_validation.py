"""A version is loaded from its files alone and asked; each fault has a sentence of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.contracts.manifest import GOLDEN
from tasks.contracts.validation_result import ValidationResult
from tasks.evaluation import golden
from tasks.gating import infra_validation
from tasks.recipe.promote import Promote
from tasks.storage import files
from tests import tiny

NO_LIMITS = Promote()
MODALITIES = ("tabular", "image", "text", "causal_lm")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A version's folder for each modality, as it is fetched from the store."""
    folders = {}
    for modality in MODALITIES:
        root = tmp_path_factory.mktemp(modality)
        if modality == "causal_lm":
            tiny.decoder(root / "base")
        context = tiny.case(modality, root)
        folder = root / "version"
        shutil.copytree(context.model.path, folder)
        golden.write_golden_requests(folder / GOLDEN, context)
        folders[modality] = folder
    return folders


@pytest.fixture
def broken(versions: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a version, to be broken."""

    def copy(modality: str) -> Path:
        return Path(shutil.copytree(versions[modality], tmp_path / "version"))

    return copy


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_good_version_of_each_modality_passes(versions: dict[str, Path], modality: str) -> None:
    result = infra_validation.validate_folder(versions[modality], NO_LIMITS)
    assert (result.verdict, result.max_deviation is not None) == ("pass", True), result.reason
    assert result.requests
    assert 2 <= result.requests <= 32
    assert result.latency_ms
    assert result.memory_mib


def validate(folder: Path, limits: Promote = NO_LIMITS) -> ValidationResult:
    result = infra_validation.validate_folder(folder, limits)
    assert result.verdict == "fail"
    return result


def edit_onnx(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    (folder / "model.onnx").chmod(0o644)
    onnx.save(model, folder / "model.onnx")


def edit_info(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    info = json.loads((folder / "model.json").read_text())
    change(info)
    files.write_json(folder / "model.json", info)


def spoil_weights(model: Any) -> None:
    """Make every weight NaN."""
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = np.full(tuple(weight.dims), np.nan, np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def use_unknown_operator(model: Any) -> None:
    model.graph.node[0].op_type = "OperatorOfTomorrow"


def take_integers(model: Any) -> None:
    """Have the input be of another type, which a cast makes right inside."""
    [first, *_] = model.graph.input
    name = first.name
    first.name = f"{name}_double"
    first.type.tensor_type.elem_type = TensorProto.DOUBLE
    cast = helper.make_node("Cast", [first.name], [name], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)


def add_label(info: dict[str, Any]) -> None:
    info["labels"] = [*info["labels"], "one too many"]


def reverse_labels(info: dict[str, Any]) -> None:
    info["labels"] = info["labels"][::-1]


def test_a_missing_tokenizer_is_named(broken: Callable[[str], Path]) -> None:
    folder = broken("text")
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer tokenizer.json" in validate(folder).reason


def test_nan_weights_are_named(broken: Callable[[str], Path]) -> None:
    folder = broken("tabular")
    edit_onnx(folder, spoil_weights)
    assert "NaN or infinite answers" in validate(folder).reason


def test_an_operator_that_the_runtime_lacks_is_named(broken: Callable[[str], Path]) -> None:
    folder = broken("tabular")
    edit_onnx(folder, use_unknown_operator)
    assert "The runtime lacks an operator" in validate(folder).reason


def test_an_input_of_another_type_is_named(broken: Callable[[str], Path]) -> None:
    folder = broken("tabular")
    edit_onnx(folder, take_integers)
    assert "inputs of another type, name or shape" in validate(folder).reason


@pytest.mark.parametrize("change", [add_label, reverse_labels])
def test_other_labels_in_the_description_are_a_wrong_label_map(
    broken: Callable[[str], Path], change: Callable[[dict[str, Any]], None]
) -> None:
    folder = broken("tabular")
    edit_info(folder, change)
    assert "The label map is wrong: model.json names" in validate(folder).reason


def test_answers_in_another_order_are_a_wrong_label_map(broken: Callable[[str], Path]) -> None:
    folder = broken("tabular")
    table = files.read_table(folder / GOLDEN)
    turned = [row[::-1] for row in table["answers"].to_pylist()]
    index = table.column_names.index("answers")
    files.write_table(folder / GOLDEN, table.set_column(index, "answers", pa.array(turned)))
    assert "in another order of the labels" in validate(folder).reason


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Promote(latency_ms=1e-6), "The model is too slow"),
        (Promote(memory_mib=1), "The model is too big"),
    ],
)
def test_a_version_beyond_its_budget_is_refused(
    versions: dict[str, Path], limits: Promote, sentence: str
) -> None:
    assert sentence in validate(versions["tabular"], limits).reason


def test_damaged_golden_requests_are_refused(broken: Callable[[str], Path]) -> None:
    path = broken("tabular") / GOLDEN
    path.write_bytes(b"PAR1 half a file")
    assert "holds no golden requests" in validate(path.parent).reason


def test_a_version_from_before_golden_requests_has_to_load(broken: Callable[[str], Path]) -> None:
    path = broken("tabular") / GOLDEN
    path.unlink()
    assert infra_validation.validate_folder(path.parent, NO_LIMITS).verdict == "pass"
    (path.parent / "model.onnx").write_bytes(b"no model")
    assert "cannot be loaded" in validate(path.parent).reason


def test_golden_requests_of_another_model_are_refused(
    broken: Callable[[str], Path], versions: dict[str, Path]
) -> None:
    folder = broken("tabular")
    shutil.copyfile(versions["text"] / GOLDEN, folder / GOLDEN)
    assert validate(folder).reason


def test_no_golden_requests_at_all_are_refused(broken: Callable[[str], Path]) -> None:
    folder = broken("tabular")
    files.write_table(folder / GOLDEN, files.read_table(folder / GOLDEN).slice(0, 0))
    assert "no golden request" in validate(folder).reason


def test_writing_golden_requests_again_gives_the_same_bytes(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    root = versions["tabular"].parent
    context = tiny.judged(tiny.recipe("tabular", root), root)
    golden.write_golden_requests(tmp_path / GOLDEN, context)
    assert (tmp_path / GOLDEN).read_bytes() == (versions["tabular"] / GOLDEN).read_bytes()
