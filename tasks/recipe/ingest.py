"""Ingest."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from tasks.recipe.base import Count, Section


def refuse_plain_secret(url: str | None) -> str | None:
    """Refuse a password or token in plain text: recipes lie in git, and the resolved recipe beside the data."""
    credentials = re.findall(r"://[^/@\s]*:([^/@\s]*)@", url or "") + re.findall(
        r"[?&](?:password|passwd|\w*token|\w*secret|sig|\w*signature|api_?key)=([^&]*)",
        url or "",
        re.IGNORECASE,
    )
    if any(re.sub(r"\$\{\w+\}", "", credential) for credential in credentials):
        raise ValueError(
            "holds a password or token in plain text: write ${NAME} in its place and export NAME before the run"
        )
    return url


def validate_encoding(name: str) -> str:
    try:
        "".encode("utf-8" if name == "auto" else name)
    except LookupError:
        raise ValueError(
            "is not an encoding that Python knows, such as utf-8, latin-1 or gb18030, and not auto"
        ) from None
    return name


class TextFormat(Section):
    """How a file of text is read. `auto` has the encoding, the delimiter or the header guessed from the first lines.

    The delimiter is a comma, in .tsv files a tab, unless given. The first line is the header unless `header` is false or `names` gives the columns.
    `quote` is what encloses cells; empty where quotation marks are text like any other.
    """

    encoding: Annotated[str, AfterValidator(validate_encoding)] = "utf-8"
    delimiter: str | None = Field(None, pattern=r"^(.|\t|auto)$")
    quote: Literal['"', "'", ""] = '"'
    header: bool | Literal["auto"] | None = None
    names: list[str] | None = Field(None, min_length=1)

    def cross_field_errors(self) -> Iterator[str]:
        if self.names and self.header:
            yield "names are the columns of files without a header: leave out names or header"


class FilesSource(TextFormat):
    """Local files: CSV, TSV, JSON lines, plain text, Parquet or Arrow, also in a zip or tar archive; one path, glob or folder or a list of them."""

    kind: Literal["files"]
    path: str | list[str]


class HttpSource(TextFormat):
    """A file behind a URL, in a format that `files` reads; downloaded once for each version that the server names. `${NAME}` is taken from the environment.

    A variable for the user, the password, or a value of the path or query holds it as it is, not percent-encoded; one for the host holds what a URL may hold there.
    """

    kind: Literal["http"]
    url: Annotated[str, Field(pattern="^https?://"), AfterValidator(refuse_plain_secret)]
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    max_bytes: Count = 10 << 30


class S3Source(TextFormat):
    """The objects of a bucket whose names begin with `prefix`, in formats that `files` reads. Credentials are found as boto3 does.

    With `versions`, of a bucket that keeps them, the version that was listed is read even if it was overwritten meanwhile.
    """

    kind: Literal["s3"]
    bucket: str = Field(min_length=3)
    prefix: str = ""
    endpoint: Annotated[str | None, AfterValidator(refuse_plain_secret)] = None
    versions: bool = False


class ImagesSource(Section):
    """PNG and JPEG files in one folder per class, or a pair of files in MNIST's IDX format (`path` and `labels`), gzipped or not.

    Where there are several pairs, both are lists; ids count from 0 in the first, from 1000000 in the second, and so on.
    """

    kind: Literal["images"]
    path: str | list[str]
    labels: str | list[str] | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        if self.labels is None:
            return []
        return (
            [(str(self.path), self.labels)]
            if isinstance(self.labels, str)
            else list(zip(self.path, self.labels, strict=True))
        )

    def cross_field_errors(self) -> Iterator[str]:
        paths, labels = (
            len(given) if isinstance(given, list) else 1 for given in (self.path, self.labels)
        )
        if (
            paths != labels
            or isinstance(self.path, list) != isinstance(self.labels, list)
            or not paths
        ):
            yield "path and labels must be two lists of equal length, or a file each: every file of images has one of labels"


class SqlSource(Section):
    """A table or a query of any database that SQLAlchemy reaches. `${NAME}` in the URL is taken from the environment, where passwords belong.

    A variable for the user, the password or a value of the query holds it as it is, not percent-encoded; one for the whole URL holds a URL, encoded.
    With a `watermark`, a column that grows with every insert or update, rows are read in parts in its order, and parts that were read before are not read again.
    """

    kind: Literal["sql"]
    url: Annotated[str, AfterValidator(refuse_plain_secret)]
    table: str | None = None
    query: str | None = None
    watermark: str | None = None

    def cross_field_errors(self) -> Iterator[str]:
        if (self.table is None) == (self.query is None):
            yield "needs exactly one of table and query: name what is to be read"


class PackageSource(Section):
    """Data that an installed package carries."""

    kind: Literal["package"]
    name: Literal["botocore", "sklearn.breast_cancer", "sklearn.digits"]


class HuggingFaceSource(Section):
    """A data set of the `datasets` package: a folder (data files, or what `save_to_disk` wrote) or the name of one on the Hub, at a `revision` if given."""

    kind: Literal["huggingface"]
    name: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None


class RequestLogSource(Section):
    """The model server's log of requests and of what people said about them; paths, globs or folders of .jsonl files.

    Only requests with feedback are rows, unless `unlabelled`.
    """

    kind: Literal["request_log"]
    path: str | list[str]
    feedback: str | list[str] | None = None
    unlabelled: bool = False

    def cross_field_errors(self) -> Iterator[str]:
        if self.feedback is None and not self.unlabelled:
            yield "without feedback no request has a label: name the feedback files, or set unlabelled: true"
