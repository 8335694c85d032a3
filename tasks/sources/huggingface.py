"""Data sets of the `datasets` package: a local folder, or a name on the Hub.

One on the Hub is read at one commit. Code that a data set brings is never run.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HuggingFaceSource
from tasks.rows import split_names, table_columns
from tasks.sources.base import RowBatch, SourcePartition
from tasks.storage import hashing

CACHE_FOLDER = Path(".millrace/huggingface")
HUB_TIMEOUT = 10.0  # seconds for the Hub to answer
RETRYABLE_STATUSES = (408, 429)  # of those from 400 to 499
SAVED_BY_DATASETS = ("dataset_dict.json", "dataset_info.json")  # written by save_to_disk


def iter_partitions(source: HuggingFaceSource) -> Iterator[SourcePartition]:
    """Yield each split; its version is the hash of the folder's files, or the commit.

    Several splits are the parts of a predefined split.
    """
    is_predefined = isinstance(source.split, list)
    folder = Path(source.name)
    if folder.is_dir():
        version = hashing.hash_json(hashing.hash_folder(folder))
    else:
        version = resolve_commit(source)
    for split in list_splits(source):
        name = " ".join(part for part in (source.name, source.config, split) if part)
        one_split = source.model_copy(update={"split": split})
        part = (split_names.parse_split_name(split) or split) if is_predefined else None
        yield SourcePartition(name, version, partial(read_split, name, one_split, version, part))


def list_splits(source: HuggingFaceSource) -> list[str]:
    """Return the splits that the recipe names."""
    return [source.split] if isinstance(source.split, str) else source.split


def read_split(
    name: str, source: HuggingFaceSource, version: str, part: str | None
) -> list[RowBatch]:
    """Read one split, whose rows are a part of a predefined split if `part` names it."""
    return [RowBatch(name, convert_dataset(load_split(source, version)), split=part)]


def import_datasets() -> ModuleType:
    """Import the package `datasets`, which is optional."""
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            "ingest.kind: huggingface needs the package datasets: pip install "
            "'millrace[huggingface]'."
        ) from None
    datasets.disable_progress_bars()
    return datasets  # type: ignore[no-any-return]


def resolve_commit(source: HuggingFaceSource) -> str:
    """Ask the Hub for the commit of the revision, or of the newest one.

    Raises:
        StageError: There is no such data set, or it may not be read.
        RetryableError: The Hub fails or cannot be reached.
    """
    import_datasets()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        info = HfApi().dataset_info(source.name, revision=source.revision, timeout=HUB_TIMEOUT)
    except (HFValidationError, OfflineModeIsEnabled):
        raise StageError(
            f"ingest.name: {source.name} is neither a folder here nor a name on the Hub such as "
            "owner/name, or HF_HUB_OFFLINE forbids asking it: correct it."
        ) from None
    except HfHubHTTPError as error:
        raise build_status_error(source.name, error.response.status_code) from None
    except Exception as error:  # whatever the transport below raises
        raise RetryableError(
            f"ingest.name: {source.name} is no folder here, and the Hub cannot be reached "
            f"({type(error).__name__})."
        ) from None
    return str(info.sha)


def build_status_error(name: str, status: int) -> StageError:
    """Return the error for a status with which the Hub refuses or fails."""
    if 400 <= status < 500 and status not in RETRYABLE_STATUSES:
        return StageError(
            f"The Hub has no data set {name}, or not for you (status {status}): correct "
            "ingest.name or revision, or set HF_TOKEN."
        )
    return RetryableError(f"The Hub answers with status {status} for {name}.")


def load_split(source: HuggingFaceSource, version: str) -> Any:
    """Load the split that the recipe names, as a `datasets.Dataset`.

    Raises:
        StageError: It cannot be read as a data set, or has no such split.
        RetryableError: The connection to the Hub is lost.
    """
    try:
        return load_dataset(source, version)
    except StageError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise RetryableError(
            f"{source.name} cannot be read from the Hub ({type(error).__name__})."
        ) from None
    except Exception as error:  # the package raises every kind of error for data it cannot read
        reason = errors.first_line(error)
        if isinstance(error, KeyError):  # its message is the key alone
            reason = f"KeyError: {reason}"
        raise StageError(
            f"{source.name} cannot be read as a data set ({reason}): check ingest.name, config "
            "and split."
        ) from None


def load_dataset(source: HuggingFaceSource, version: str) -> Any:
    """Load the split from a folder, or from the Hub at one commit."""
    datasets = import_datasets()
    folder = Path(source.name)
    if any((folder / name).is_file() for name in SAVED_BY_DATASETS):
        saved = datasets.load_from_disk(str(folder))
        return select_split(saved, source) if isinstance(saved, datasets.DatasetDict) else saved
    location = {"path": source.name, "revision": version}
    if folder.is_dir():
        location = {"path": str(folder.absolute())}
    return datasets.load_dataset(
        **location, name=source.config, split=source.split, cache_dir=str(CACHE_FOLDER.absolute())
    )


def select_split(splits: Mapping[str, Any], source: HuggingFaceSource) -> Any:
    """Return the split that the recipe names."""
    if source.split not in splits:
        raise StageError(
            f"{source.name} has no split {source.split!r}. It has {', '.join(splits)}: correct "
            "ingest.split."
        )
    return splits[str(source.split)]


def convert_dataset(dataset: Any) -> pa.Table:
    """Return classes by name, images as the bytes of their files, and all else as text."""
    datasets = import_datasets()
    stored: pa.Table = dataset.with_format("arrow")[:]  # in which images are not decoded
    columns = {}
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            images = [read_image(cell) for cell in stored[name].to_pylist()]
            columns[name] = pa.array(images, pa.binary())
        elif isinstance(feature, datasets.ClassLabel):
            labels = [name_class(cell, feature.names) for cell in stored[name].to_pylist()]
            columns[name] = pa.array(labels, pa.string())
        else:
            columns[name] = table_columns.convert_to_text(stored[name])
    return pa.table(columns)


def name_class(index: int | None, names: list[str]) -> str | None:
    """Return the name of a class; a missing label is None or negative."""
    if index is None or index < 0:
        return None
    return names[index]


def read_image(cell: Mapping[str, Any] | None) -> bytes | None:
    """Return the bytes of an image, which are stored or in a file; None if they are missing."""
    if cell is None:
        return None
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    with contextlib.suppress(OSError):
        return Path(cell["path"]).read_bytes()
    return None
