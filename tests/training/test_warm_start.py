"""Starting from the model in production: only where it fits, only from its own bytes, and no run for its sake alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.torch import save_file

from tasks import modalities, problems, resolve, train
from tasks.contracts.model_info import TrainingStart
from tasks.core.errors import StageError
from tasks.modalities.base import ModelTrainer
from tasks.recipe import resolved
from tasks.recipe.export import Distil, Export
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion, manifests
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.storage.object_store import ObjectStore
from tasks.training import warm_start
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


def adapter(
    modality: str, seed: int, labels: list[str] = LABELS, **train: Any
) -> tuple[Recipe, ModelTrainer]:
    recipe = tiny.recipe(modality, Path(), seed=seed, warm_start=True, **train)
    return recipe, modalities.build_trainer(
        recipe,
        modalities.extract_inputs(recipe, tiny.table(modality, 0, 64)),
        problems.problem_class(recipe.problem)(labels),
    )


def promoted(kind: str, **about: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model in production, and its weights."""
    if kind in ("text", "causal_lm"):
        (tiny.base if kind == "text" else tiny.decoder)(Path("base"))
    recipe, made = adapter(kind, seed=1)
    folder = local_champion.CHAMPIONS_FOLDER / "tiny" / "v1"
    folder.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in made.network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    known = {"problem": recipe.problem, "labels": LABELS}
    signature = made.input_signature()
    info = tiny.model_info(kind, **{**known, "input_signature": signature, **about})
    info.write(ModelFolder(folder).info)
    (folder / "trained_on.parquet").write_bytes(b"")
    local_champion.record_champion("tiny", "v1", hashing.hash_folder(folder))
    return files.read_json(local_champion.CHAMPIONS_FOLDER / "tiny" / "production.json"), weights


@pytest.mark.parametrize("modality", sorted(tiny.TRAIN))
def test_training_starts_from_the_champions_weights(here: Path, modality: str) -> None:
    known, weights = promoted(modality)
    recipe, made = adapter(modality, seed=2)
    assert any(
        (made.network.state_dict()[name] != tensor).any() for name, tensor in weights.items()
    )
    assert warm_start.apply_warm_start(recipe, known, made) == TrainingStart(champion="v1")
    made.prepare([], None)  # type: ignore[arg-type]
    assert all(
        (made.network.state_dict()[name] == tensor).all() for name, tensor in weights.items()
    )


@pytest.mark.parametrize(
    ("about", "labels", "train", "why"),
    [
        ({}, ["no", "so", "yes"], {}, "its classes are others"),
        ({"modality": "image"}, LABELS, {}, "it is another kind of model"),
        (
            {"inputs": [["a", "number", None]]},
            LABELS,
            {},
            "what goes into it is encoded in another way",
        ),
        ({}, LABELS, {"hidden_sizes": [8]}, "its weights have other names or shapes"),
    ],
)
def test_a_champion_that_does_not_fit_is_left_aside_with_the_reason(
    here: Path, about: Any, labels: Any, train: Any, why: str
) -> None:
    known, _ = promoted("tabular", **about)
    recipe, made = adapter("tabular", seed=2, labels=labels, **train)
    assert warm_start.apply_warm_start(recipe, known, made) == {
        "base": None,
        "why": f"the champion v1 does not fit: {why}",
    }


def test_the_champion_is_the_teacher_where_it_knows_the_same_classes(here: Path) -> None:
    """Learnt from rows whose labels are wrong, it can only come from the teacher."""
    tiny.split("tabular", Path("split"), 200)
    train.run(tiny.recipe("tabular", Path(), epochs=12), StagePaths(Path()), Path("checkpoints"))
    shutil.copytree("model", local_champion.CHAMPIONS_FOLDER / "tiny" / "v1")
    hashes = hashing.hash_folder(local_champion.CHAMPIONS_FOLDER / "tiny" / "v1")
    taught = tiny.recipe("tabular", Path(), epochs=12)
    taught = taught.model_copy(
        update={"export": Export(distil=Distil(teacher="champion", weight=1.0))}
    )
    assert local_champion.is_champion_needed(taught)
    known = files.read_table(Path("split/train.parquet"))
    wrong = ["no" if label == "yes" else "yes" for label in known["label"].to_pylist()]
    files.write_table(
        Path("split/train.parquet"),
        known.set_column(known.column_names.index("label"), "label", pa.array(wrong)),
    )

    def trained(champion: Any) -> tuple[Any, float]:
        train.run(taught, StagePaths(Path()), Path("checkpoints"), champion=champion)
        right = json.loads(Path("model/history.jsonl").read_text().splitlines()[-1])["val_accuracy"]
        return files.read_json(Path("model/model.json")).get("teacher"), right

    about, right = trained({"version": "v1", "files": hashes})
    assert about == {"champion": "v1"}
    assert right > 0.55
    about, right = trained(None)
    assert about == {"reason": "nothing is in production yet"}
    assert right < 0.45
    other = files.read_json(local_champion.CHAMPIONS_FOLDER / "tiny" / "v1" / "model.json")
    files.write_json(
        local_champion.CHAMPIONS_FOLDER / "tiny" / "v1" / "model.json",
        {**other, "labels": ["no", "so"]},
    )
    about, right = trained(
        {
            "version": "v1",
            "files": hashing.hash_folder(local_champion.CHAMPIONS_FOLDER / "tiny" / "v1"),
        }
    )
    assert about == {"reason": "the champion v1 does not fit: its classes are others"}
    with pytest.raises(
        StageError,
        match="export.distil: .*v1/model.json is not there with the bytes that were promoted",
    ):
        trained({"version": "v1", "files": hashes})


def test_without_a_champion_training_starts_from_the_base(here: Path) -> None:
    tiny.base(Path("base"))
    recipe, made = adapter("text", seed=2)
    assert warm_start.apply_warm_start(recipe, None, made) == TrainingStart(
        base="base", reason="nothing is in production yet"
    )


def test_a_champion_whose_bytes_are_not_those_that_were_promoted_is_refused(here: Path) -> None:
    known, weights = promoted("tabular")
    save_file(
        {name: tensor + 1 for name, tensor in weights.items()},
        local_champion.CHAMPIONS_FOLDER / "tiny" / "v1" / "model.safetensors",
    )
    recipe, made = adapter("tabular", seed=2)
    with pytest.raises(
        StageError,
        match=r"train.warm_start: .*v1/model.safetensors is not there with the bytes that were promoted: `millrace run tiny` fetches it",
    ):
        warm_start.apply_warm_start(recipe, known, made)


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
    here: Path, store: ObjectStore
) -> None:
    from flows import promotion

    promotion.fetch_champion.fn(store, "tiny", "production")
    assert files.read_json(local_champion.CHAMPIONS_FOLDER / "tiny" / "production.json") is None
    files.write_json(Path("model/model.json"), {"labels": LABELS})
    version = manifests.publish_version(
        store,
        Path("model"),
        examples.manifest_of("tiny", Path("model")),
        examples.provenance(),
    )
    assert examples.promote(store, "tiny", version, None).won
    promotion.fetch_champion.fn(store, "tiny", "production")
    known = files.read_json(local_champion.CHAMPIONS_FOLDER / "tiny" / "production.json")
    assert known == {"version": version, "files": hashing.hash_folder(Path("model"))}
    assert hashing.hash_folder(local_champion.CHAMPIONS_FOLDER / "tiny" / version) == known["files"]
