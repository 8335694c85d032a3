"""The section `ingest`: where rows come from."""

import codecs
import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tasks.recipe.base import Count, PathText, Section

ENCODING_SAMPLE = 'id,"a";1\n'
# They are no encodings of files: one writes names of hosts, the others a programmer's escapes.
ESCAPING_CODECS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "unicode_escape")
# The values of these keys in a URL's query are secrets.
QUERY_CREDENTIALS = r"[?&](?:password|passwd|\w*token|\w*secret|sig|\w*signature|api_?key)=([^&]*)"
Paths = PathText | list[PathText]
LevelName = Annotated[str, Field(pattern=r"^\w+$")]


def refuse_plain_secret(url: str | None) -> str | None:
    """Refuse a password or token in plain text, since recipes lie in git."""
    passwords = re.findall(r"://[^/@\s]*:([^/@\s]*)@", url or "")
    tokens = re.findall(QUERY_CREDENTIALS, url or "", re.IGNORECASE)
    for secret in passwords + tokens:
        if re.sub(r"\$\{\w+\}", "", secret):
            raise ValueError(
                "holds a password or token in plain text: write ${NAME} in its place and export "
                "NAME before the run"
            )
    return url


def validate_encoding(name: str) -> str:
    """Refuse what is no encoding of files of text."""
    if name != "auto" and not is_text_encoding(name):
        raise ValueError(
            f"{name[:100]!r} is not an encoding of text that Python knows, such as utf-8, latin-1 "
            "or gb18030, and not auto"
        )
    return name


def is_text_encoding(name: str) -> bool:
    """Tell whether Python can read files in an encoding piece by piece."""
    try:
        codec = codecs.lookup(name)
        data = ENCODING_SAMPLE.encode(name)
        decoder = codecs.getincrementaldecoder(name)()
        pieces = [decoder.decode(data[index : index + 1]) for index in range(len(data))]
        text = "".join(pieces) + decoder.decode(b"", final=True)
    except (LookupError, ValueError, TypeError):  # rot13 and hex turn text to text
        return False
    return text == ENCODING_SAMPLE and codec.name not in ESCAPING_CODECS


def validate_delimiter(delimiter: str | None) -> str | None:
    """Refuse a delimiter that Arrow does not take."""
    if delimiter is None or delimiter == "auto":
        return delimiter
    is_single = len(delimiter) == 1 and delimiter.isascii()
    if not is_single or delimiter in "\r\n\"'":
        raise ValueError(
            f"{delimiter[:100]!r} cannot divide cells: write one ASCII character that is neither "
            "a quote nor the end of a line, such as ';' or '\\t', or auto"
        )
    return delimiter


def validate_address(url: str | None) -> str | None:
    """Refuse what is no URL of a server, whatever its variables stand for."""
    if url is not None and not url.startswith("${") and not is_address(url):
        raise ValueError(
            "is not the URL of a server: write it as https://host:port/path, with a port up to "
            "65535"
        )
    return url


def is_address(url: str) -> bool:
    """Tell whether a URL has a host, and a port that can be one."""
    try:
        parts = urlsplit(re.sub(r"\$\{\w+\}", "1", url))
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and port != 0


HttpUrl = Annotated[
    str,
    Field(pattern="^https?://", max_length=10_000),
    AfterValidator(refuse_plain_secret),
    AfterValidator(validate_address),
]
Endpoint = Annotated[
    str | None, AfterValidator(refuse_plain_secret), AfterValidator(validate_address)
]


class TextFormat(Section):
    """How a file of text is read. `auto` guesses from the first lines."""

    encoding: Annotated[str, AfterValidator(validate_encoding)] = Field(
        "utf-8", description="The encoding, such as utf-8 or latin-1, or `auto`."
    )
    delimiter: Annotated[str | None, AfterValidator(validate_delimiter)] = Field(
        None,
        description="The character between cells, or `auto`; by default a comma, in .tsv files a "
        "tab.",
    )
    quote: Literal['"', "'", ""] = Field(
        '"',
        description="The character that encloses cells; empty if quotation marks are text like "
        "any other.",
    )
    header: bool | Literal["auto"] | None = Field(
        None,
        description="Whether the first line names the columns, or `auto`; by default it does "
        "unless `names` is given.",
    )
    names: list[str] | None = Field(
        None, min_length=1, description="The names of the columns of files without a header."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe names beside a header."""
        if self.names and self.header:
            yield "names are the columns of files without a header: leave out names or header"


class FilesSource(TextFormat):
    """Local files: CSV, TSV, JSON lines, plain text, Parquet or Arrow, also in a zip or tar."""

    kind: Literal["files"]
    path: Paths = Field(description="A file, glob or folder, or a list of them.")


class HttpSource(TextFormat):
    """A file behind a URL, in a format that `files` reads.

    It is downloaded once for each version that the server names.
    """

    kind: Literal["http"]
    url: HttpUrl = Field(
        description="The URL. ${NAME} stands for an environment variable: one for the user, the "
        "password, or a value of the path or query holds it as it is, not percent-encoded; one "
        "for the host holds what a URL may hold there."
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="The SHA-256 of the file; the run stops if another file comes.",
    )
    max_bytes: int = Field(
        10 << 30, ge=1, le=1 << 50, description="The largest size of the file, in bytes."
    )


class S3Source(TextFormat):
    """The objects of a bucket, in formats that `files` reads. Credentials are found as by boto3."""

    kind: Literal["s3"]
    bucket: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{2,2000}$",
        description="The bucket, by its name or the ARN of an access point.",
    )
    prefix: str = Field("", description="The beginning of the objects' names.")
    endpoint: Endpoint = Field(
        None, description="The URL of the S3 server; by default that of AWS."
    )
    versions: bool = Field(
        default=False,
        description="Read the version that was listed, even if it was overwritten meanwhile; for "
        "buckets that keep versions.",
    )


class ImagesSource(Section):
    """Images in one folder per class, or files in MNIST's IDX format.

    PNG, JPEG, WebP, BMP, TIFF and GIF are read, of several frames the first.
    """

    kind: Literal["images"]
    path: Paths = Field(
        description="The folder, or the IDX file of images, gzipped or not, or a list of such "
        "files; ids then count from 0 in the first, from 1000000 in the second, and so on."
    )
    labels: Paths | None = Field(
        None, description="The IDX file of labels, or a list with one for each file of images."
    )
    levels: list[LevelName] | None = Field(
        None,
        min_length=1,
        description="What the folders below `path` are, from the top: `class` is the label, "
        "`split` the predefined split, and any other name becomes a column of that name, as in "
        "[split, camera, class]. By default the classes are at the top, or below folders that "
        "are named as splits are.",
    )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The IDX files of images, each with its file of labels; none for a folder."""
        if self.labels is None:
            return []
        if isinstance(self.labels, str):
            return [(str(self.path), self.labels)]
        return list(zip(self.path, self.labels, strict=True))

    def cross_field_errors(self) -> Iterator[str]:
        """Describe files of images that do not pair with those of labels, and wrong levels."""
        if self.levels is not None:
            yield from self.level_errors()
        if isinstance(self.path, list) and isinstance(self.labels, list):
            is_paired = len(self.path) == len(self.labels) > 0
        else:
            is_paired = not isinstance(self.path, list) and not isinstance(self.labels, list)
        if not is_paired:
            yield (
                "path and labels must be two lists of equal length, or a file each: every file "
                "of images has one of labels"
            )

    def level_errors(self) -> Iterator[str]:
        """Describe levels that do not name the classes once, or that no folder has."""
        levels = self.levels or []
        if self.labels is not None:
            yield "levels are of folders, and labels are of IDX files: leave out one"
        if levels.count("class") != 1 or len(set(levels)) < len(levels):
            yield (
                f"levels {levels} must name each level once, and one of them `class`, as in "
                "[split, class]"
            )
        for name in sorted(set(levels) & {"id", "image", "label"}):
            yield f"levels has {name!r}, which is a column already: call that level otherwise"


class SqlSource(Section):
    """A table or a query of any database that SQLAlchemy reaches."""

    kind: Literal["sql"]
    url: Annotated[str, AfterValidator(refuse_plain_secret)] = Field(
        description="The URL of the database. ${NAME} stands for an environment variable: one for "
        "the user, the password or a value of the query holds it as it is, not percent-encoded; "
        "one for the whole URL holds a URL, encoded."
    )
    table: str | None = Field(None, description="The table to read.")
    query: str | None = Field(None, description="The query to run in place of reading a table.")
    watermark: str | None = Field(
        None,
        description="A column that grows with every insert or update. Rows are read in parts in "
        "its order, and parts that were read before are not read again.",
    )
    max_rows: Count = Field(
        10_000_000, description="The most rows that are read; the run stops if there are more."
    )
    max_seconds: float = Field(
        600.0, gt=0, le=1_000_000, description="The most seconds that a query may take."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe a table beside a query, or neither."""
        if (self.table is None) == (self.query is None):
            yield "needs exactly one of table and query: name what is to be read"


class PackageSource(Section):
    """Data that an installed package carries."""

    kind: Literal["package"]
    name: Literal["botocore", "sklearn.breast_cancer", "sklearn.digits"] = Field(
        description="The data set."
    )


class HuggingFaceSource(Section):
    """A data set of the package `datasets`."""

    kind: Literal["huggingface"]
    name: PathText = Field(
        description="A folder (data files, or what `save_to_disk` wrote), or the name of a data "
        "set on the Hub."
    )
    split: str | list[str] = Field(
        "train",
        description="The split to read, or a list of splits, which are then the predefined split.",
    )
    config: str | None = Field(None, description="The configuration, if the data set has several.")
    revision: str | None = Field(None, description="The commit, tag or branch on the Hub.")


class RequestLogSource(Section):
    """The model server's log of requests, and what people said about its answers."""

    kind: Literal["request_log"]
    path: Paths = Field(description="The .jsonl files of requests: paths, globs or folders.")
    feedback: Paths | None = Field(
        None, description="The .jsonl files of feedback, which labels the requests."
    )
    unlabelled: bool = Field(
        default=False, description="Whether requests without feedback are rows too."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe a log of which no request has a label."""
        if self.feedback is None and not self.unlabelled:
            yield (
                "without feedback no request has a label: name the feedback files, or set "
                "unlabelled: true"
            )


Source = Annotated[
    FilesSource
    | HttpSource
    | S3Source
    | ImagesSource
    | SqlSource
    | HuggingFaceSource
    | PackageSource
    | RequestLogSource,
    Field(discriminator="kind"),
]
