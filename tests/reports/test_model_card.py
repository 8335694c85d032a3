"""The model card and the bill of materials: that the hub and CycloneDX can read them, that they say what the files say, and the same again."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard

from tasks import gate
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.gate_verdict import GateVerdict
from tasks.contracts.manifest import Manifest
from tasks.contracts.run_record import StageEntry, StageMeasurements
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.reports import bill_of_materials, model_card
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe through all its steps, with its folder."""
    with pytest.MonkeyPatch.context() as patch:
        here = tmp_path_factory.mktemp("letters")
        patch.chdir(here)
        draw = random.Random(0)
        rows = [
            f"{n},{draw.random():.6f},{draw.random():.6f},{draw.choice(['bills', 'orders|returns', 'rest'])}"
            for n in range(300)
        ]
        (here / "source.csv").write_text(
            "\n".join(["id,a,b,label", *rows, "300," + rows[0].partition(",")[2]]) + "\n"
        )
        (here / "recipes").mkdir()
        (here / "recipes" / "letters.yaml").write_text(RECIPE)
        recipe, folder = read_recipe(here / "recipes" / "letters.yaml"), here / "data" / "letters"
        tiny.through(recipe, folder, here / "checkpoints")
        gate.run(recipe, StagePaths(folder))
    return recipe, folder


def text(
    made: tuple[Recipe, Path], stages: Sequence[StageEntry] = (), override: Override | None = None
) -> str:
    recipe, folder = made
    gate = GateVerdict.read(folder / "gate.json")
    evidence = Evidence(champion=None, gate=gate, override=override)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent.parent)
        return model_card.render_model_card(recipe, folder, "0123456789abcdef", evidence, stages)


def bill(made: tuple[Recipe, Path], **changed: Any) -> tuple[dict[str, Any], Manifest]:
    recipe, folder = made
    manifest = examples.manifest_of("letters", folder / "model", runtime={"python": "3.11"})
    return bill_of_materials.build_bill_of_materials(
        recipe.model_copy(update=changed), folder, manifest
    ), manifest


def test_the_hub_reads_the_card_and_finds_every_metric(made: tuple[Recipe, Path]) -> None:
    data: Any = ModelCard(text(made)).data
    metrics = Evaluation.read(made[1] / "evaluation" / "metrics.json").numbers()
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "onnx",
        "tabular-classification",
    )
    assert {"accuracy", "f1", "log_loss"} <= set(data.metrics)
    assert {one.metric_name: one.metric_value for one in data.eval_results} == {
        name: one["value"] for name, one in model_card.select_intervals(metrics).items()
    }
    assert {(one.dataset_type, one.dataset_split, one.task_type) for one in data.eval_results} == {
        ("letters", "test", "tabular-classification")
    }


def test_the_card_says_what_the_files_say(made: tuple[Recipe, Path]) -> None:
    said, verdict = text(made), files.read_json(made[1] / "gate.json")
    assert "Sorts letters into three trays, by two numbers. Licence: Apache-2.0." in said
    assert "| clean | 301 | 300 | 1 | exact_duplicates 1 |" in said
    accuracy = Evaluation.read(made[1] / "evaluation" / "metrics.json").numbers()["accuracy"]
    assert (
        f"| accuracy | {accuracy['value']:.4f} | {accuracy['low']:.4f} to {accuracy['high']:.4f} |"
        in said
    )
    assert f"**reject**: {verdict['reason']}" in said
    assert "orders\\|returns" in said
    assert "membership_auc" in said
    assert "were taken for" in said
    assert "Its time and energy are in the record of the run that trained it." in said
    assert said == text(made)


def test_every_table_of_the_card_has_as_many_cells_as_its_head(made: tuple[Recipe, Path]) -> None:
    widths: list[int] = []
    for line in text(made).splitlines():
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        assert not (cells and widths and widths[-1]) or cells == widths[-1], line
        widths.append(cells)
    assert len([width for width in widths if width]) > 20


def test_an_override_and_what_training_took_are_told(made: tuple[Recipe, Path]) -> None:
    stage = StageEntry(
        stage="train@letters",
        state="ran",
        reasons=["it has not run yet"],
        seconds=12.3,
        measurements=StageMeasurements(energy_wh=0.5, co2_g=0.2, country="FRA"),
    )
    override = Override(actor="ann", reason="the test rows of May are mislabelled")
    said = text(made, stages=[stage], override=override)
    assert (
        "It took 12 s, 0.500 Wh and 0.200 g of CO₂ (estimated by codecarbon with the mix of FRA)."
        in said
    )
    assert (
        "**ann** promoted it although the verdict was reject: the test rows of May are mislabelled"
        in said
    )


def test_the_bill_of_materials_is_valid_and_names_what_the_model_was_made_from(
    made: tuple[Recipe, Path],
) -> None:
    recipe, folder = made
    found, manifest = bill(made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)) is None
    assert {
        one["name"]: one["hashes"][0]["content"]
        for one in found["metadata"]["component"]["components"]
    } == hashing.hash_folder(folder / "model")
    assert found["metadata"]["component"]["version"] == manifest.version
    parts = {one["bom-ref"]: one for one in found["components"]}
    assert (
        parts["data/test"]["hashes"][0]["content"]
        == Evaluation.read(folder / "evaluation" / "metrics.json").test_sha256
    )
    assert {"torch", "onnxruntime", "transformers", "pyarrow", "python"} <= {
        one["name"] for one in found["components"]
    }
    assert found["dependencies"] == [{"ref": "model", "dependsOn": list(parts)}]
    assert "data/raw" in parts


def test_equal_versions_have_equal_bills_and_others_another_number(
    made: tuple[Recipe, Path],
) -> None:
    recipe, folder = made
    found, manifest = bill(made)
    assert bill(made)[0] == found
    other = bill_of_materials.build_bill_of_materials(
        recipe,
        folder,
        examples.manifest_of("letters", folder / "model", runtime={"python": "3.12"}),
    )
    assert other["serialNumber"] != found["serialNumber"]


@pytest.mark.parametrize(
    ("licence", "hub", "spdx"),
    [
        ("MIT", {"license": "mit"}, {"id": "MIT"}),
        ("ours alone", {"license": "other", "license_name": "ours alone"}, {"name": "ours alone"}),
    ],
)
def test_a_licence_that_has_no_spdx_id_goes_by_its_name(
    made: tuple[Recipe, Path], licence: str, hub: dict[str, str], spdx: dict[str, str]
) -> None:
    recipe, folder = made
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    header = model_card.build_hub_metadata(recipe.model_copy(update={"license": licence}), metrics)
    assert {key: value for key, value in header.items() if key.startswith("license")} == hub
    found, _ = bill(made, license=licence)
    assert found["metadata"]["component"]["licenses"] == [{"license": spdx}]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)) is None


def test_what_is_not_stated_is_said_or_left_out(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, folder = made
    silent = recipe.model_copy(update={"license": None, "name": "another"})
    header = model_card.build_hub_metadata(
        silent, Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    )
    assert header["license"] == "unknown"
    assert not {"language", "base_model", "datasets"} & set(header)
    assert model_card.describe_purpose(silent) == "Not stated."
    assert "licenses" not in bill(made, license=None)[0]["metadata"]["component"]


def test_a_base_comes_with_its_hash_and_to_the_hub_by_its_name(tmp_path: Path) -> None:
    tiny.base(tmp_path / "base")
    local = tiny.recipe("text", tmp_path)
    [found] = bill_of_materials.list_base_models(local)
    assert found["hashes"] == [
        {"alg": "SHA-256", "content": hashing.sha256(tmp_path / "base" / "model.safetensors")}
    ]
    named = tiny.recipe(
        "text", tmp_path, base="sentence-transformers/all-MiniLM-L6-v2", sha256="0" * 64
    )
    assert (
        model_card.build_hub_metadata(named, {})["base_model"]
        == "sentence-transformers/all-MiniLM-L6-v2"
    )
    assert "base_model" not in model_card.build_hub_metadata(local, {})
    assert bill_of_materials.list_base_models(named)[0]["hashes"][0]["content"] == "0" * 64
