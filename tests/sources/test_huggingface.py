"""Local folders of the `datasets` package, offline: data files and what `save_to_disk` wrote."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HuggingFaceSource
from tasks.sources import list_partition_versions
from tests.conftest import read_batches

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(here: Path) -> Path:
    return here


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), level).save(buffer, "PNG")
    return buffer.getvalue()


def build_dataset() -> Any:
    """A `datasets.Dataset` with a column of each kind."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "image": datasets.Image(),
            "tags": datasets.List(datasets.Value("string")),
            "score": datasets.Value("float64"),
        }
    )
    columns = {
        "text": ["a", "b", None],
        "label": [1, 0, None],
        "image": [{"bytes": png(level), "path": None} for level in range(3)],
        "tags": [["x"], [], None],
        "score": [0.5, float("nan"), 2.0],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def read(**settings: str) -> list[dict[str, object]]:
    [batch] = read_batches(HuggingFaceSource.model_validate({"kind": "huggingface", **settings}))
    rows: list[dict[str, object]] = batch.table.to_pylist()
    return rows


EXPECTED = [
    {"text": "a", "label": "yes", "image": png(0), "tags": '["x"]', "score": "0.5"},
    {"text": "b", "label": "no", "image": png(1), "tags": "[]", "score": None},
    {"text": None, "label": None, "image": png(2), "tags": None, "score": "2"},
]


def test_a_saved_data_set_gives_class_names_image_bytes_and_json() -> None:
    build_dataset().save_to_disk("saved")
    assert read(name="saved") == EXPECTED


def test_the_split_is_chosen_and_one_that_is_not_there_names_those_that_are() -> None:
    datasets.DatasetDict(
        {"train": build_dataset(), "test": build_dataset().select([2, 0])}
    ).save_to_disk("saved")
    assert read(name="saved", split="test") == [EXPECTED[2], EXPECTED[0]]
    with pytest.raises(
        StageError, match=r"saved has no split 'dev'. It has train, test: correct ingest.split."
    ):
        read(name="saved", split="dev")


def test_a_saved_data_set_that_lacks_a_key_ends_with_a_sentence(here: Path) -> None:
    """The package raises KeyError, as a split that is not there once did."""
    build_dataset().save_to_disk("saved")
    (here / "saved" / "state.json").write_text("{}")
    with pytest.raises(StageError, match=r"saved cannot be read as a data set \(KeyError: '_"):
        read(name="saved")


def test_a_folder_whose_loading_raises_a_key_error_ends_with_a_sentence(here: Path) -> None:
    (here / "files").mkdir()
    column_without_name = "---\ndataset_info:\n  features:\n  - dtype: string\n---\n"
    (here / "files" / "README.md").write_text(column_without_name)
    (here / "files" / "x.csv").write_text("text\na\n")
    with pytest.raises(
        StageError, match=r"files cannot be read as a data set \(KeyError: 'name'\)"
    ):
        read(name="files")


def test_a_folder_of_data_files_is_read_and_its_fingerprint_is_that_of_the_files(
    here: Path,
) -> None:
    (here / "files").mkdir()
    (here / "files" / "train.csv").write_text("text,label\na,1\n")
    (here / "files" / "test.csv").write_text("text,label\nb,2\n")
    source = HuggingFaceSource(kind="huggingface", name="files", split="test")
    before = list_partition_versions(source)
    assert read(name="files", split="test") == [{"text": "b", "label": "2"}]
    assert list_partition_versions(source) == before
    (here / "files" / "test.csv").write_text("text,label\nc,3\n")
    assert list_partition_versions(source) != before
    assert read(name="files", split="test") == [{"text": "c", "label": "3"}]


def test_code_that_a_folder_brings_is_never_run(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "folder.py").write_text(
        "from pathlib import Path\nPath('was_run').touch()\nraise SystemExit\n"
    )
    with pytest.raises(StageError, match="folder cannot be read as a data set"):
        read(name="folder")
    assert not (here / "was_run").exists()


def test_the_hub_out_of_reach_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        RetryableError,
        match=r"nobody/nothing is no folder here, and the Hub cannot be reached \(ConnectError\)",
    ):
        list_partition_versions(HuggingFaceSource(kind="huggingface", name="nobody/nothing"))


def test_a_name_that_is_neither_a_folder_nor_one_of_the_hub_is_refused() -> None:
    with pytest.raises(
        StageError, match="no such/folder/here is neither a folder here nor a name on the Hub"
    ):
        list_partition_versions(HuggingFaceSource(kind="huggingface", name="no such/folder/here"))


def test_without_the_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_dataset().save_to_disk("saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ConfigError, match=r"needs the package datasets: pip install 'millrace\[huggingface\]'"
    ):
        read(name="saved")


def test_a_list_of_splits_is_the_predefined_split() -> None:
    parts = {"train": build_dataset(), "validation": build_dataset().select([0])}
    datasets.DatasetDict(parts).save_to_disk("saved")
    source = HuggingFaceSource(kind="huggingface", name="saved", split=["train", "validation"])
    batches = list(read_batches(source))
    assert [(batch.name, batch.split) for batch in batches] == [
        ("saved train", "train"),
        ("saved validation", "val"),
    ]
    assert [batch.table.num_rows for batch in batches] == [3, 1]
