"""Data sets of the `datasets` package: a local folder, or a name on the Hub, which is read at one commit. Code that a data set brings is never run."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HuggingFaceSource
from tasks.rows import table_columns
from tasks.sources.base import RowBatch, SourcePartition
from tasks.storage import hashing

CACHE_FOLDER = Path(".millrace/huggingface")
HUB_TIMEOUT = 10.0  # seconds for the Hub to answer


def iter_partitions(source: HuggingFaceSource) -> Iterator[SourcePartition]:
    """One, whose version is the hash of the folder's files, or the commit on the Hub."""
    name = " ".join(part for part in (source.name, source.config, source.split) if part)
    version = (
        hashing.hash_json(hashing.hash_folder(Path(source.name)))
        if Path(source.name).is_dir()
        else resolve_commit(source)
    )
    yield SourcePartition(
        name, version, lambda: [RowBatch(name, convert_dataset(load_split(source, version)))]
    )


def import_datasets() -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            "ingest.kind: huggingface needs the package datasets: pip install 'millrace[huggingface]'."
        ) from None
    datasets.disable_progress_bars()
    return datasets  # type: ignore[no-any-return]


def resolve_commit(source: HuggingFaceSource) -> str:
    """The commit that the revision, or the newest one, is now."""
    import_datasets()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return str(
            HfApi().dataset_info(source.name, revision=source.revision, timeout=HUB_TIMEOUT).sha
        )
    except (HFValidationError, OfflineModeIsEnabled):
        what = "neither a folder here nor a name on the Hub such as owner/name, or HF_HUB_OFFLINE forbids to ask it"
        raise StageError(f"ingest.name: {source.name} is {what}: correct it.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if 400 <= status < 500 and status not in (408, 429):
            told = f"The Hub has no data set {source.name}, or not for you (status {status})"
            raise StageError(f"{told}: correct ingest.name or revision, or set HF_TOKEN.") from None
        raise RetryableError(f"The Hub answers with status {status} for {source.name}.") from None
    except Exception as error:  # whatever the transport below raises
        raise RetryableError(
            f"ingest.name: {source.name} is no folder here, and the Hub cannot be reached ({type(error).__name__})."
        ) from None


def load_split(source: HuggingFaceSource, version: str) -> Any:
    datasets = import_datasets()
    folder = Path(source.name)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            found = datasets.load_from_disk(str(folder))
            return select_split(found, source) if isinstance(found, datasets.DatasetDict) else found
        where = (
            {"path": str(folder.absolute())}
            if folder.is_dir()
            else {"path": source.name, "revision": version}
        )
        return datasets.load_dataset(
            **where, name=source.config, split=source.split, cache_dir=str(CACHE_FOLDER.absolute())
        )
    except StageError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise RetryableError(
            f"{source.name} cannot be read from the Hub ({type(error).__name__})."
        ) from None
    except (
        Exception
    ) as error:  # the package raises errors of every kind for data that it cannot read
        told = errors.first_line(error)
        if isinstance(error, KeyError):  # whose words are the key alone
            told = f"KeyError: {told}"
        raise StageError(
            f"{source.name} cannot be read as a data set ({told}): check ingest.name, config and split."
        ) from None


def select_split(found: Mapping[str, Any], source: HuggingFaceSource) -> Any:
    if source.split not in found:
        raise StageError(
            f"{source.name} has no split {source.split!r}. It has {', '.join(found)}: correct ingest.split."
        )
    return found[source.split]


def convert_dataset(dataset: Any) -> pa.Table:
    """Classes by name, images as the bytes of their files, all else as text."""
    datasets = import_datasets()
    columns = {}
    raw: pa.Table = dataset.with_format("arrow")[:]  # in which images are not decoded
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            columns[column] = pa.array(map(read_image, raw[column].to_pylist()), pa.binary())
        elif isinstance(feature, datasets.ClassLabel):
            columns[column] = pa.array(
                [
                    None if cell is None or cell < 0 else feature.names[cell]
                    for cell in raw[column].to_pylist()
                ],
                pa.string(),
            )
        else:
            columns[column] = table_columns.convert_to_text(raw[column])
    return pa.table(columns)


def read_image(cell: dict[str, Any] | None) -> bytes | None:
    with contextlib.suppress(OSError):
        if cell is not None:
            return (
                Path(cell["path"]).read_bytes() if cell["bytes"] is None else bytes(cell["bytes"])
            )
    return None
