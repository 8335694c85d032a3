"""Versions against a real S3 server: what they hold, and that they can be trusted."""

import json
from pathlib import Path

import pytest

from tasks.contracts.manifest import Manifest
from tasks.core.errors import StageError
from tasks.recipe.resolved import ResolvedRecipe, SourceFingerprints
from tasks.registry import manifests, object_keys
from tasks.registry.registry import Registry
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tasks.training import export
from tests import tiny
from tests.registry import examples


def test_publishing_twice_is_publishing_once(registry: Registry, tmp_path: Path) -> None:
    first = examples.publish(registry, "twice", tmp_path, "same")
    objects = list(registry.store.list_names("twice/"))
    assert examples.publish(registry, "twice", tmp_path, "same") == first
    assert list(registry.store.list_names("twice/")) == objects


def test_the_first_provenance_of_a_version_stays(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("model")
    manifest = examples.manifest_of("origin", tmp_path)
    first = examples.provenance(manifest, commit="aaa", run="run 1")
    version = manifests.publish_version(registry, tmp_path, manifest, first)
    second = examples.provenance(manifest, commit="bbb", run="run 2")
    assert manifests.publish_version(registry, tmp_path, manifest, second) == version
    recorded = manifests.read_provenance(registry, "origin", version)
    assert recorded
    assert recorded.to_payload() == first.to_payload()


def test_a_version_is_named_by_its_files_recipe_data_metrics_and_runtime(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("model")
    manifest = examples.manifest_of("named", tmp_path)
    assert examples.manifest_of("named", tmp_path).version == manifest.version
    for changed in (
        {"recipe_sha256": "0"},
        {"data": {"raw": "0"}},
        {"metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}},
        {"runtime": {"python": "3.12"}},
    ):
        assert examples.manifest_of("named", tmp_path, **changed).version != manifest.version
    (tmp_path / "model.txt").write_text("another model")
    assert examples.manifest_of("named", tmp_path).version != manifest.version


def test_the_hash_of_a_recipe_ignores_the_fingerprints_of_its_sources(tmp_path: Path) -> None:
    def hash_of(epochs: int, source_version: str) -> str:
        recipe = tiny.recipe("tabular", tmp_path, epochs=epochs)
        fingerprints = SourceFingerprints(ingest={"a.csv": source_version})
        paths = StagePaths(tmp_path)
        ResolvedRecipe(recipe=recipe, sources=fingerprints).write(paths.recipe)
        return manifests.hash_recipe(paths)

    assert hash_of(2, "1") == hash_of(2, "2")
    assert hash_of(2, "1") != hash_of(3, "1")


def test_it_is_known_which_versions_were_trained_on_a_row(
    registry: Registry, tmp_path: Path
) -> None:
    """Also if the source wrote blanks around the row's id."""
    silent = examples.publish(registry, "known", tmp_path / "silent", "says nothing")
    export.write_trained_on(tmp_path / "trained" / "trained_on.parquet", ["ann", " bob ", "carl"])
    trained = examples.publish(registry, "known", tmp_path / "trained", "model")
    counts = manifests.count_known_rows(registry, "known", ["bob", "carl", "dora"])
    assert counts == {trained: 2, silent: None}
    assert b"carl" not in (tmp_path / "trained" / "trained_on.parquet").read_bytes()


def test_what_serving_does_not_need_can_be_left_out(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("model.json", "model.onnx", "model.onnx.data", "model.safetensors", "x/a.json"):
        files.write_text(folder / name, name)
    manifest = examples.manifest_of("lean", folder, info=tiny.model_info("image"))
    assert sorted(manifest.serving_files) == ["model.json", "model.onnx", "model.onnx.data"]
    version = manifests.publish_version(registry, folder, manifest, examples.provenance(manifest))
    fetched = manifests.fetch_version(
        registry, "lean", version, tmp_path / "cache", serving_only=True
    )
    assert sorted(path.name for path in fetched.iterdir()) == sorted(manifest.serving_files)
    manifests.fetch_version(registry, "lean", version, tmp_path / "cache")
    assert (fetched / "x" / "a.json").is_file()


def test_a_manifest_that_marks_no_file_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("model")
    data = examples.manifest_of("old", tmp_path).to_bytes()
    assert b"serving" not in data
    manifest = Manifest.parse(json.loads(data), "old")
    assert manifest.to_bytes() == data
    assert manifest.serving_files == manifest.files


def test_a_damaged_blob_is_never_handed_out(registry: Registry, tmp_path: Path) -> None:
    version = examples.publish(registry, "damaged", tmp_path / "model", "good")
    file = manifests.read_manifest(registry, "damaged", version).files["model.txt"]
    blob = object_keys.blob_key(file.sha256)
    registry.store.client.put_object(
        Bucket=registry.store.settings.bucket, Key=registry.store.key(blob), Body=b"evil"
    )
    with pytest.raises(StageError, match="damaged or tampered with"):
        manifests.fetch_version(registry, "damaged", version, tmp_path / "cache")
    assert not (tmp_path / "cache" / version / "model.txt").exists()


def test_a_manifest_that_is_not_the_one_of_its_name_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    version = examples.publish(registry, "forged", tmp_path / "model", "good")
    key = object_keys.manifest_key("forged", version)
    stored = registry.store.get(key)
    assert stored
    forged = json.dumps({**json.loads(stored[0]), "runtime": {"python": "2.7"}}).encode()
    registry.store.client.put_object(
        Bucket=registry.store.settings.bucket, Key=registry.store.key(key), Body=forged
    )
    with pytest.raises(StageError, match="is not the one that its name says"):
        manifests.read_manifest(registry, "forged", version)
    with pytest.raises(StageError, match="the manifest of forged 0123 is missing"):
        manifests.read_manifest(registry, "forged", "0123")
