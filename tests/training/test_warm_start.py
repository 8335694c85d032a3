"""Starting from the champion: only if it fits, from its own bytes, and no run for it alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from tasks import modalities, problems, resolve, train
from tasks.contracts.model_info import TrainingStart
from tasks.core.errors import StageError
from tasks.modalities import lora
from tasks.modalities.base import ModelTrainer
from tasks.recipe import resolved
from tasks.recipe.export import Distil, Export
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion, manifests
from tasks.registry.local_champion import LocalChampion
from tasks.registry.registry import Registry
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.training import checkpoint, warm_start
from tasks.training.checkpoint import Tensors
from tests import tiny
from tests.registry import examples

LABELS = ["no", "yes"]
RECIPE = """
name: tiny
modality: tabular
ingest: {kind: files, path: data/sources/tiny.csv}
train: {warm_start: true, epochs: EPOCHS}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""


def build_trainer(
    modality: str, seed: int, labels: list[str] = LABELS, **train: Any
) -> tuple[Recipe, ModelTrainer]:
    recipe = tiny.recipe(modality, Path(), seed=seed, warm_start=True, **train)
    rows = modalities.extract_inputs(recipe, tiny.table(modality, 0, 64))
    problem = problems.problem_class(recipe.problem)(labels)
    return recipe, modalities.build_trainer(recipe, rows, problem)


def write_champion(
    modality: str, written_modality: str = "", **changes: Any
) -> tuple[LocalChampion, Tensors]:
    """Write a model in production; return what names it, and its weights."""
    if modality == "text":
        tiny.base(Path("base"))
    if modality == "causal_lm":
        tiny.decoder(Path("base"))
    recipe, trainer = build_trainer(modality, seed=1)
    folder = champion_folder("v1")
    folder.path.mkdir(parents=True)
    lora.merge_lora_layers(trainer.network)
    with torch.no_grad():
        for parameter in trainer.network.parameters():  # what it learnt
            parameter.add_(0.01)
    trainer.save_weights(folder.path)
    weights = checkpoint.to_cpu(trainer.network.state_dict())
    values = {
        "problem": recipe.problem,
        "labels": LABELS,
        "input_signature": trainer.input_signature(),
    }
    tiny.model_info(written_modality or modality, **{**values, **changes}).write(folder.info)
    folder.trained_on.write_bytes(b"")
    local_champion.record_champion("tiny", "v1", hashing.hash_folder(folder.path))
    return LocalChampion.model_validate(read_production()), weights


def champion_folder(version: str) -> ModelFolder:
    return ModelFolder(local_champion.version_folder("tiny", version))


def read_production() -> Any:
    return files.read_json(local_champion.record_path("tiny"))


def name_merged(weights: Tensors) -> Tensors:
    """Name the weights of layers beside narrow ones as if these were merged."""
    return {name.replace(lora.BASE_LAYER, "."): value for name, value in weights.items()}


@pytest.mark.parametrize("modality", sorted(tiny.TRAIN))
def test_training_starts_from_the_champions_weights(here: Path, modality: str) -> None:
    champion, weights = write_champion(modality)
    recipe, trainer = build_trainer(modality, seed=2)
    before = name_merged(trainer.network.state_dict())
    assert any((before[name] != tensor).any() for name, tensor in weights.items())
    start = warm_start.find_warm_start(recipe, champion, trainer)
    assert start.origin == TrainingStart(champion="v1")
    assert start.init
    start.init([], np.zeros(0))
    after = name_merged(trainer.network.state_dict())
    assert all((after[name] == tensor).all() for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("changes", "labels", "train", "reason"),
    [
        ({}, ["no", "so", "yes"], {}, "its classes are others"),
        ({"written_modality": "image"}, LABELS, {}, "it is another kind of model"),
        (
            {"input_signature": [["a", "number", None]]},
            LABELS,
            {},
            "what goes into it is encoded in another way",
        ),
        ({}, LABELS, {"hidden_sizes": [8]}, "its weights have other names or shapes"),
    ],
)
def test_a_champion_that_does_not_fit_is_left_aside_with_the_reason(
    here: Path, changes: Any, labels: Any, train: Any, reason: str
) -> None:
    champion, _ = write_champion("tabular", **changes)
    recipe, trainer = build_trainer("tabular", seed=2, labels=labels, **train)
    start = warm_start.find_warm_start(recipe, champion, trainer)
    assert start.init is None
    assert start.origin == TrainingStart(reason=f"the champion v1 does not fit: {reason}")


def swap_labels(path: Path) -> None:
    """Write a table anew with each of its two labels in the place of the other."""
    table = files.read_table(path)
    swapped = ["no" if label == "yes" else "yes" for label in table["label"].to_pylist()]
    column = table.column_names.index("label")
    files.write_table(path, table.set_column(column, "label", pa.array(swapped)))


def test_the_champion_is_the_teacher_if_it_knows_the_same_classes(here: Path) -> None:
    """What is learnt from rows whose labels are wrong can only come from the teacher."""
    paths = StagePaths(Path())
    tiny.split("tabular", paths.split.path, 200)
    train.run(tiny.recipe("tabular", Path(), epochs=12), paths, Path("checkpoints"))
    folder = champion_folder("v1")
    shutil.copytree(paths.model.path, folder.path)
    hashes = hashing.hash_folder(folder.path)
    recipe = tiny.recipe("tabular", Path(), epochs=12)
    distil = Export(distil=Distil(teacher="champion", weight=1.0))
    recipe = recipe.model_copy(update={"export": distil})
    assert local_champion.is_champion_needed(recipe)
    swap_labels(paths.split.train)

    def train_student(champion: LocalChampion | None) -> tuple[Any, float]:
        """What model.json says about the teacher, and the accuracy of the last epoch."""
        train.run(recipe, paths, Path("checkpoints"), champion)
        last_epoch = json.loads(paths.model.history.read_text().splitlines()[-1])
        return files.read_json(paths.model.info).get("teacher"), last_epoch["val_accuracy"]

    teacher, accuracy = train_student(LocalChampion(version="v1", files=hashes))
    assert teacher == {"champion": "v1"}
    assert accuracy > 0.55
    teacher, accuracy = train_student(None)
    assert teacher == {"reason": "nothing is in production yet"}
    assert accuracy < 0.45
    info = files.read_json(folder.info)
    files.write_json(folder.info, {**info, "labels": ["no", "so"]})
    other_hashes = hashing.hash_folder(folder.path)
    teacher, _ = train_student(LocalChampion(version="v1", files=other_hashes))
    assert teacher == {"reason": "the champion v1 does not fit: its classes are others"}
    message = (
        "export.distil: .*v1/model.json is missing or does not have the bytes that were promoted"
    )
    with pytest.raises(StageError, match=message):
        train_student(LocalChampion(version="v1", files=hashes))


def test_without_a_champion_training_starts_from_the_base(here: Path) -> None:
    tiny.base(Path("base"))
    recipe, trainer = build_trainer("text", seed=2)
    start = warm_start.find_warm_start(recipe, None, trainer)
    reason = "nothing is in production yet"
    assert start.origin == TrainingStart(base="base", reason=reason)


def test_a_champion_whose_bytes_are_not_those_that_were_promoted_is_refused(here: Path) -> None:
    champion, weights = write_champion("tabular")
    changed = {name: tensor + 1 for name, tensor in weights.items()}
    save_file(changed, champion_folder("v1").weights)
    recipe, trainer = build_trainer("tabular", seed=2)
    message = (
        "train.warm_start: .*v1/model.safetensors is missing or does not have the bytes that were "
        "promoted: `millrace run tiny` fetches it"
    )
    with pytest.raises(StageError, match=message):
        warm_start.find_warm_start(recipe, champion, trainer)


def test_another_champion_alone_changes_nothing_and_comes_with_the_next_change(here: Path) -> None:
    for name in ("recipes", "data/sources"):
        Path(name).mkdir(parents=True)
    Path("params.yaml").write_text("recipes: [tiny]\n")
    Path("recipes/tiny.yaml").write_text(RECIPE.replace("EPOCHS", "3"))
    Path("data/sources/tiny.csv").write_text("id,a,label\n1,2,no\n")

    def recorded() -> Any:
        resolve.resolve("tiny")
        return resolved.read_fingerprints("tiny").train

    assert recorded() is None
    local_champion.record_champion("tiny", "v1", {"model.json": "00"})
    assert not resolve.is_outdated("tiny")
    assert recorded() is None
    Path("data/sources/tiny.csv").write_text("id,a,label\n1,2,no\n2,3,yes\n")
    assert resolve.is_outdated("tiny")
    assert recorded() == {"version": "v1", "files": {"model.json": "00"}}
    local_champion.record_champion("tiny", "v2", {})
    assert recorded()["version"] == "v1"
    Path("recipes/tiny.yaml").write_text(RECIPE.replace("EPOCHS", "4"))
    assert recorded()["version"] == "v2"


def test_the_flow_puts_what_is_in_production_where_the_stages_find_it(
    here: Path, registry: Registry
) -> None:
    from flows import promotion

    promotion.fetch_champion.fn(registry, "tiny", "production")
    assert read_production() is None
    files.write_json(Path("model/model.json"), {"labels": LABELS})
    manifest = examples.manifest_of("tiny", Path("model"))
    version = manifests.publish_version(
        registry,
        Path("model"),
        manifest,
        examples.provenance(manifest),
    )
    assert examples.promote(registry, "tiny", version, None).won
    promotion.fetch_champion.fn(registry, "tiny", "production")
    known = read_production()
    assert known == {"version": version, "files": hashing.hash_folder(Path("model"))}
    assert hashing.hash_folder(local_champion.CHAMPIONS_FOLDER / "tiny" / version) == known["files"]
