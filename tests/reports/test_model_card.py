"""The model card and the bill of materials: readable for the hub and CycloneDX, and true."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard, ModelCardData

from tasks import gate
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.evidence import Override
from tasks.contracts.gate_verdict import GateVerdict
from tasks.contracts.manifest import Manifest
from tasks.contracts.run_record import StageEntry, StageMeasurements
from tasks.problems.multilabel import NO_LABEL, MultilabelProblem
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.reports import bill_of_materials, hub_metadata, model_card
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tests import tiny
from tests.registry import examples

RECIPE = """# Sorts letters into three trays, by two numbers.    millrace run letters
name: letters
modality: tabular
license: Apache-2.0
ingest: {kind: files, path: source.csv}
columns: {id: id}
train: {epochs: 2, hidden_sizes: [8]}
evaluate: {resamples: 100}
gate: [{rule: floor, metric: accuracy, bound: 0.99}, {rule: champion}]
"""
TRAYS = ["bills", "orders|returns", "rest"]


@dataclass(frozen=True)
class Letters:
    """A recipe whose stages have run."""

    recipe: Recipe
    paths: StagePaths

    @property
    def evaluation(self) -> Evaluation:
        return Evaluation.read(self.paths.evaluation.metrics)

    def manifest(self, python: str = "3.11") -> Manifest:
        return examples.manifest_of("letters", self.paths.model.path, runtime={"python": python})

    def bill(self, **changes: Any) -> dict[str, Any]:
        recipe = self.recipe.model_copy(update=changes)
        return bill_of_materials.build_bill_of_materials(recipe, self.paths, self.manifest())

    def card(self, stages: Sequence[StageEntry] = (), override: Override | None = None) -> str:
        verdict = GateVerdict.read(self.paths.gate)
        evidence = examples.evidence("letters", "0123456789abcdef", override=override)
        evidence = evidence.model_copy(update={"gate": verdict})
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.paths.root.parent.parent)
            return model_card.render_model_card(
                self.recipe, self.paths, "0123456789abcdef", evidence, stages
            )


def write_letters(path: Path) -> None:
    """Write 300 rows, and one of them again."""
    draw = random.Random(0)
    rows = []
    for number in range(300):
        a = draw.random()
        b = draw.random()
        rows.append(f"{number},{a:.6f},{b:.6f},{draw.choice(TRAYS)}")
    _, _, first = rows[0].partition(",")
    path.write_text("\n".join(["id,a,b,label", *rows, f"300,{first}"]) + "\n")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Letters:
    here = tmp_path_factory.mktemp("letters")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        write_letters(here / "source.csv")
        recipe_file = here / "recipes" / "letters.yaml"
        recipe_file.parent.mkdir()
        recipe_file.write_text(RECIPE)
        recipe = read_recipe(recipe_file)
        paths = StagePaths(here / "data" / "letters")
        tiny.through(recipe, paths.root, here / "checkpoints")
        gate.run(recipe, paths)
    return Letters(recipe, paths)


def is_valid_bill(bill: dict[str, Any]) -> bool:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def header_of(recipe: Recipe) -> dict[str, Any]:
    metadata = hub_metadata.build_hub_metadata(recipe, {}, "onnx")
    return dict(metadata.to_dict())  # type: ignore[no-untyped-call]


def test_the_hub_reads_the_card_and_finds_every_metric(letters: Letters) -> None:
    data = ModelCard(letters.card()).data
    assert isinstance(data, ModelCardData)
    assert data.license == "apache-2.0"
    assert data.library_name == "onnx"
    assert data.pipeline_tag == "tabular-classification"
    assert {"accuracy", "f1", "log_loss"} <= set(data.metrics or [])
    results = data.eval_results or []
    assert {result.metric_name: result.metric_value for result in results} == {
        name: interval.value for name, interval in letters.evaluation.metrics.items()
    }
    assert {
        (result.dataset_type, result.dataset_split, result.task_type) for result in results
    } == {("letters", "test", "tabular-classification")}


def test_the_card_says_what_the_files_say(letters: Letters) -> None:
    card = letters.card()
    accuracy = letters.evaluation.metrics["accuracy"]
    interval = f"{accuracy.low:.4f} to {accuracy.high:.4f}"
    assert "Sorts letters into three trays, by two numbers. Licence: Apache-2.0." in card
    assert "| clean | 301 | 300 | 1 | exact_duplicates 1 |" in card
    assert f"| accuracy | {accuracy.value:.4f} | {interval} |" in card
    assert f"**reject**: {GateVerdict.read(letters.paths.gate).reason}" in card
    assert "orders\\|returns" in card
    assert "membership_auc" in card
    assert "were predicted as" in card
    assert "Its time and energy are in the record of the run that trained it." in card
    assert card == letters.card()


def test_every_table_of_the_card_has_as_many_cells_as_its_head(letters: Letters) -> None:
    n_rows = 0
    width_before = 0
    for line in letters.card().splitlines():
        width = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        if width and width_before:
            assert width == width_before, line
        n_rows += width > 0
        width_before = width
    assert n_rows > 20


def test_the_card_shows_an_override_and_what_training_took(letters: Letters) -> None:
    measurements = StageMeasurements(energy_wh=0.5, co2_g=0.2, country="FRA")
    entry = StageEntry(
        stage="train@letters", state="ran", reasons=[], seconds=12.3, measurements=measurements
    )
    override = Override(actor="ann", reason="the test rows of May are mislabelled")
    card = letters.card([entry], override)
    assert (
        "It took 12 s, 0.500 Wh and 0.200 g of CO₂ "
        "(estimated by codecarbon with the mix of FRA)." in card
    )
    assert (
        "**ann** promoted it although the verdict was reject: "
        "the test rows of May are mislabelled" in card
    )


def test_the_bill_is_valid_and_names_what_the_model_was_made_from(letters: Letters) -> None:
    bill = letters.bill()
    model = bill["metadata"]["component"]
    materials = {material["bom-ref"]: material for material in bill["components"]}
    names = {material["name"] for material in bill["components"]}
    assert is_valid_bill(bill)
    assert {
        file["name"]: file["hashes"][0]["content"] for file in model["components"]
    } == hashing.hash_folder(letters.paths.model.path)
    assert model["version"] == letters.manifest().version
    assert materials["data/test"]["hashes"][0]["content"] == letters.evaluation.test_sha256
    assert {"torch", "onnxruntime", "transformers", "pyarrow", "python"} <= names
    assert bill["dependencies"] == [{"ref": "model", "dependsOn": list(materials)}]
    assert "data/raw" in materials


def test_equal_versions_have_equal_bills_and_others_another_number(letters: Letters) -> None:
    bill = letters.bill()
    assert letters.bill() == bill
    other = bill_of_materials.build_bill_of_materials(
        letters.recipe, letters.paths, letters.manifest(python="3.12")
    )
    assert other["serialNumber"] != bill["serialNumber"]


@pytest.mark.parametrize(
    ("license_name", "hub", "spdx"),
    [
        ("MIT", {"license": "mit"}, {"id": "MIT"}),
        ("ours alone", {"license": "other", "license_name": "ours alone"}, {"name": "ours alone"}),
    ],
)
def test_a_licence_that_has_no_spdx_id_goes_by_its_name(
    letters: Letters, license_name: str, hub: dict[str, str], spdx: dict[str, str]
) -> None:
    header = header_of(letters.recipe.model_copy(update={"license": license_name}))
    assert {key: value for key, value in header.items() if key.startswith("license")} == hub
    bill = letters.bill(license=license_name)
    assert bill["metadata"]["component"]["licenses"] == [{"license": spdx}]
    assert is_valid_bill(bill)


def test_what_is_unknown_is_called_so_or_left_out(letters: Letters) -> None:
    silent = letters.recipe.model_copy(update={"license": None, "name": "another"})
    header = header_of(silent)
    assert header["license"] == "unknown"
    assert not {"language", "base_model", "datasets"} & set(header)
    assert model_card.describe_purpose(silent) == "Not stated."
    assert "licenses" not in letters.bill(license=None)["metadata"]["component"]


def test_a_base_comes_with_its_hash_and_to_the_hub_by_its_name(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    local = tiny.recipe("text", tmp_path)
    [component] = bill_of_materials.list_base_models(local)
    weights = hashing.sha256(tmp_path / "base" / "model.safetensors")
    assert component["hashes"] == [{"alg": "SHA-256", "content": weights}]
    assert "base_model" not in header_of(local)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    named = tiny.recipe("text", tmp_path, base=name, sha256="0" * 64)
    assert header_of(named)["base_model"] == name
    assert bill_of_materials.list_base_models(named)[0]["hashes"][0]["content"] == "0" * 64


def test_missed_and_added_labels_are_counted(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    problem = MultilabelProblem(["late", "lost"])
    tiny.model_info("tabular", problem="multilabel", labels=problem.labels).write(paths.model.info)
    targets = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    answers = np.array([[0.1, 0.2], [0.3, 0.9], [0.2, 0.8], [0.9, 0.7]])
    columns = problem.prediction_columns(targets, {"model": answers, "baseline": answers})
    table = pa.table({"id": ["r1", "r2", "r3", "r4"], **columns})
    files.write_table(paths.evaluation.predictions, table)
    confusions = model_card.count_confusions(paths)
    assert confusions == {("late", NO_LABEL): 2, (NO_LABEL, "lost"): 1}


@pytest.mark.parametrize(
    ("actual", "predicted", "sentence"),
    [
        ("late", "lost", "2 of the 3 test rows of late were predicted as lost."),
        ("late", NO_LABEL, "2 of the 3 test rows of late were not predicted as late."),
        (NO_LABEL, "lost", "2 test rows were predicted as lost, which they are not."),
    ],
)
def test_a_confusion_is_a_sentence(actual: str, predicted: str, sentence: str) -> None:
    supports = {"late": 3, "lost": 2}
    assert model_card.describe_confusion(actual, predicted, 2, supports) == sentence
