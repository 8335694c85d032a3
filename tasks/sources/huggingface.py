"""Data sets of the `datasets` package: a local folder, or a name on the Hub, which is read at one commit. Code that a data set brings is never run."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import Failure, Mistake, Retryable
from tasks.recipe.ingest import HuggingFace
from tasks.rows import table_columns
from tasks.sources.base import Part, Rows
from tasks.storage import hashing

CACHE = Path(".millrace/huggingface")
TIMEOUT = 10.0  # seconds for the Hub to answer


def parts(source: HuggingFace) -> Iterator[Part]:
    """One, whose version is the hash of the folder's files, or the commit on the Hub."""
    name = " ".join(part for part in (source.name, source.config, source.split) if part)
    version = (
        hashing.digest(hashing.hashes(Path(source.name)))
        if Path(source.name).is_dir()
        else commit(source)
    )
    yield Part(name, version, lambda: [Rows(name, table(loaded(source, version)))])


def library() -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise Mistake(
            "ingest.kind: huggingface needs the package datasets: pip install 'millrace[huggingface]'."
        ) from None
    datasets.disable_progress_bars()
    return datasets  # type: ignore[no-any-return]


def commit(source: HuggingFace) -> str:
    """The commit that the revision, or the newest one, is now."""
    library()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return str(HfApi().dataset_info(source.name, revision=source.revision, timeout=TIMEOUT).sha)
    except (HFValidationError, OfflineModeIsEnabled):
        what = "neither a folder here nor a name on the Hub such as owner/name, or HF_HUB_OFFLINE forbids to ask it"
        raise Failure(f"ingest.name: {source.name} is {what}: correct it.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if 400 <= status < 500 and status not in (408, 429):
            told = f"The Hub has no data set {source.name}, or not for you (status {status})"
            raise Failure(f"{told}: correct ingest.name or revision, or set HF_TOKEN.") from None
        raise Retryable(f"The Hub answers with status {status} for {source.name}.") from None
    except Exception as error:  # whatever the transport below raises
        raise Retryable(
            f"ingest.name: {source.name} is no folder here, and the Hub cannot be reached ({type(error).__name__})."
        ) from None


def loaded(source: HuggingFace, version: str) -> Any:
    datasets = library()
    folder = Path(source.name)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            found = datasets.load_from_disk(str(folder))
            return chosen(found, source) if isinstance(found, datasets.DatasetDict) else found
        where = (
            {"path": str(folder.absolute())}
            if folder.is_dir()
            else {"path": source.name, "revision": version}
        )
        return datasets.load_dataset(
            **where, name=source.config, split=source.split, cache_dir=str(CACHE.absolute())
        )
    except Failure:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise Retryable(
            f"{source.name} cannot be read from the Hub ({type(error).__name__})."
        ) from None
    except (
        Exception
    ) as error:  # the package raises errors of every kind for data that it cannot read
        told = errors.first_line(error)
        if isinstance(error, KeyError):  # whose words are the key alone
            told = f"KeyError: {told}"
        raise Failure(
            f"{source.name} cannot be read as a data set ({told}): check ingest.name, config and split."
        ) from None


def chosen(found: Mapping[str, Any], source: HuggingFace) -> Any:
    if source.split not in found:
        raise Failure(
            f"{source.name} has no split {source.split!r}. It has {', '.join(found)}: correct ingest.split."
        )
    return found[source.split]


def table(dataset: Any) -> pa.Table:
    """Classes by name, images as the bytes of their files, all else as text."""
    datasets = library()
    columns = {}
    raw: pa.Table = dataset.with_format("arrow")[:]  # in which images are not decoded
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            columns[column] = pa.array(map(image_of, raw[column].to_pylist()), pa.binary())
        elif isinstance(feature, datasets.ClassLabel):
            columns[column] = pa.array(
                [
                    None if cell is None or cell < 0 else feature.names[cell]
                    for cell in raw[column].to_pylist()
                ],
                pa.string(),
            )
        else:
            columns[column] = table_columns.as_text(raw[column])
    return pa.table(columns)


def image_of(cell: dict[str, Any] | None) -> bytes | None:
    with contextlib.suppress(OSError):
        if cell is not None:
            return (
                Path(cell["path"]).read_bytes() if cell["bytes"] is None else bytes(cell["bytes"])
            )
    return None
