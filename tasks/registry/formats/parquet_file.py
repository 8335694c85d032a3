"""Parquet: its footer is read, and no row."""

import base64
import binascii

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.registry.formats.content import FileContent, FormatError

MAGIC = b"PAR1"
ARROW_SCHEMA = b"ARROW:schema"
# Older versions of pyarrow unpickle the parameters of these types as soon as they read a schema.
PICKLED_TYPE = b"arrow.py_extension_type"


def is_claimed(content: FileContent) -> bool:
    """Return whether the file begins like Parquet."""
    return content.head.startswith(MAGIC)


def check(content: FileContent) -> None:
    """Check the footer.

    Raises:
        FormatError: It is damaged, or has a type with pickled parameters.
    """
    if content.read_end(len(MAGIC)) != MAGIC:
        raise FormatError("begins like Parquet and does not end so")
    try:
        metadata = pq.read_metadata(content.path).metadata or {}
        schema = base64.b64decode(metadata.get(ARROW_SCHEMA, b""))
    except (pa.ArrowException, OSError, binascii.Error) as error:
        raise FormatError(f"is not valid Parquet ({error})") from None
    if PICKLED_TYPE in schema:
        raise FormatError(
            "is Parquet with a type that is pickled, which may run any code when it is read"
        )
