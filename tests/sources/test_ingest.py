"""Ingest keeps an earlier output only if this code and these settings wrote it."""

import shutil
from pathlib import Path

import pytest

from tasks import ingest
from tasks.contracts.snapshot import IdColumn, Snapshot
from tasks.core.errors import StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import code_closure, files, hashing
from tasks.storage.layout import StagePaths

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: in/*.csv}
columns: {id: id, text: COLUMN}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""


@pytest.fixture
def paths(here: Path) -> StagePaths:
    """A source of two parts, and a folder for the outputs."""
    (here / "in").mkdir()
    for number in (1, 2):
        text = f"id,title,body,label\n{number},title {number},body {number},x\n"
        (here / "in" / f"{number}.csv").write_text(text)
    return StagePaths(here / "data")


def make_recipe(column: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE.replace("COLUMN", column))
    return read_recipe(Path("recipe.yaml"))


def read_times(paths: StagePaths) -> dict[str, int]:
    """When each partition was written."""
    return {path.name: path.stat().st_mtime_ns for path in paths.raw.path.glob("*-*.parquet")}


def test_no_output_holds_the_hash_of_the_code(paths: StagePaths) -> None:
    ingest.run(make_recipe("title"), paths)
    snapshot = paths.raw.snapshot.read_text()
    assert code_closure.hash_stage_code("ingest")[:12] not in snapshot
    assert "cache_key" not in snapshot


def test_without_its_cache_key_everything_is_read_anew_to_the_same_bytes(paths: StagePaths) -> None:
    recipe = make_recipe("title")
    ingest.run(recipe, paths)
    first = hashing.hash_folder(paths.raw.path)
    times = read_times(paths)
    ingest.run(recipe, paths)
    assert read_times(paths) == times
    shutil.rmtree(paths.cache_keys)
    ingest.run(recipe, paths)
    assert not read_times(paths).items() & times.items()
    assert hashing.hash_folder(paths.raw.path) == first


def test_an_output_of_other_settings_that_was_restored_is_not_kept(paths: StagePaths) -> None:
    ingest.run(make_recipe("title"), paths)
    earlier = paths.root / "earlier"
    shutil.copytree(paths.raw.path, earlier)
    ingest.run(make_recipe("body"), paths)
    expected = hashing.hash_folder(paths.raw.path)
    shutil.rmtree(paths.raw.path)
    shutil.copytree(earlier, paths.raw.path)
    ingest.run(make_recipe("body"), paths)
    assert hashing.hash_folder(paths.raw.path) == expected


def test_an_output_that_was_restored_is_kept_by_its_own_settings(paths: StagePaths) -> None:
    ingest.run(make_recipe("title"), paths)
    earlier = paths.root / "earlier"
    shutil.copytree(paths.raw.path, earlier)
    ingest.run(make_recipe("body"), paths)
    shutil.rmtree(paths.raw.path)
    shutil.copytree(earlier, paths.raw.path)
    times = read_times(paths)
    ingest.run(make_recipe("title"), paths)
    assert read_times(paths) == times


def test_the_snapshot_records_the_source_and_its_parts(paths: StagePaths) -> None:
    ingest.run(make_recipe("title"), paths)
    snapshot = Snapshot.read(paths.raw.snapshot)
    assert snapshot.id_column == IdColumn.NAMED
    assert snapshot.source["path"] == "in/*.csv"
    assert [part.source_part for part in snapshot.partitions] == ["in/1.csv", "in/2.csv"]
    assert [part.version for part in snapshot.partitions] == [
        hashing.sha256(Path("in/1.csv")),
        hashing.sha256(Path("in/2.csv")),
    ]


def test_a_snapshot_of_another_version_is_refused(paths: StagePaths) -> None:
    ingest.run(make_recipe("title"), paths)
    content = files.read_json(paths.raw.snapshot)
    files.write_json(paths.raw.snapshot, content | {"schema_version": 0})
    with pytest.raises(StageError, match="run the stage `ingest` again, which writes it anew"):
        Snapshot.read(paths.raw.snapshot)
