"""Great Expectations, and the only file that imports it.

Suites are built in code from the recipe's lists, so no expectation can get lost unnoticed.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.check_result import CheckOutcome, CheckResult, Severity
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.check import COLUMN_ARGUMENTS, COLUMN_LIST_ARGUMENT
from tasks.rows import table_columns

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

MAX_EXAMPLES = 5
MAX_EXAMPLE_LENGTH = 80
MAX_VALUE_LENGTH = 200
MAX_ERROR_LENGTH = 300
# All row numbers, but not their names: asking for an index column, or storing the result, takes
# minutes if a million rows fail.
RESULT_FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
Declaration = Mapping[str, Mapping[str, Any]]  # a name with its arguments


class Expectation:
    """An expectation as a recipe declares it: one name with its arguments."""

    def __init__(self, suite: str, number: int, declared: Declaration) -> None:
        [(self.name, arguments)] = declared.items()
        self.suite = suite
        self.number = number
        self.severity: Severity = arguments.get("severity", "fail")
        self.arguments = {key: value for key, value in arguments.items() if key != "severity"}

    @property
    def key(self) -> str:
        """Where the recipe declares it."""
        return f"check.{self.suite}[{self.number}]"

    @property
    def columns(self) -> list[str]:
        """The columns whose values it looks at."""
        single = [str(self.arguments[key]) for key in COLUMN_ARGUMENTS if key in self.arguments]
        return [*single, *self.arguments.get(COLUMN_LIST_ARGUMENT, [])]

    def require_columns(self, rows: pa.Table) -> None:
        """Raise a ConfigError if the rows lack a column that it looks at."""
        if self.name == "expect_column_to_exist":
            return
        for column in self.columns:
            if column not in rows.column_names:
                raise ConfigError(
                    f"{self.key}: {self.name} names the column {column!r}, which the data does "
                    f"not have; it has {', '.join(rows.column_names)}."
                )


def validate_rows(
    rows: pa.Table, declared: Sequence[Declaration], suite: str
) -> list[CheckOutcome]:
    """Check rows by expectations, one outcome for each.

    Raises:
        ConfigError: An expectation does not take its arguments, or names no column of the data.
        StageError: Not every expectation could be evaluated.
    """
    expectations = [Expectation(suite, number, item) for number, item in enumerate(declared)]
    results = run_great_expectations(rows, expectations, suite)
    require_all_results(expectations, results, suite)
    return [build_outcome(item, results[item.number], rows) for item in expectations]


def run_great_expectations(
    rows: pa.Table, expectations: Sequence[Expectation], suite: str
) -> dict[int, Any]:
    """Evaluate expectations. Returns Great Expectations' results by number."""
    import great_expectations as gx

    # BatchRequest resolves forward references of the suite's models.
    from great_expectations.core.batch import BatchRequest  # noqa: F401
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.validator.v1_validator import Validator

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    gx_suite = gx.ExpectationSuite(name=suite)
    for expectation in expectations:
        expectation.require_columns(rows)
        add_expectation(gx_suite, expectation)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    validator = Validator(
        batch_definition=asset.add_batch_definition_whole_dataframe("all"),
        result_format=RESULT_FORMAT,
        batch_parameters={"dataframe": rows.to_pandas(ignore_metadata=True)},
    )
    results = validator.validate_expectation_suite(gx_suite).results
    return {result.expectation_config.meta["number"]: result for result in results}


def add_expectation(gx_suite: Any, expectation: Expectation) -> None:
    """Add an expectation to a suite of Great Expectations.

    Raises:
        ConfigError: The expectation does not take these arguments.
    """
    gx_class = find_gx_class(expectation.name)
    meta = {"number": expectation.number}
    try:
        gx_suite.add_expectation(gx_class(**expectation.arguments, meta=meta))
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_ERROR_LENGTH]
        raise ConfigError(
            f"{expectation.key}: {expectation.name} does not take these arguments: {reason}."
        ) from None


def find_gx_class(name: str) -> Any:
    """Find the class ExpectColumnToExist by the name expect_column_to_exist."""
    import great_expectations as gx

    classes = {class_name.lower(): class_name for class_name in dir(gx.expectations)}
    return getattr(gx.expectations, classes[name.replace("_", "")])


def require_all_results(
    expectations: Sequence[Expectation], results: Mapping[int, Any], suite: str
) -> None:
    """Raise a StageError if an expectation has no result."""
    for expectation in expectations:
        if expectation.number not in results:
            raise StageError(
                f"check {suite}: {len(expectations)} expectations were declared, but only "
                f"{len(results)} ran, and {expectation.key}, {expectation.name}, is not among "
                f"them: the data is not accepted. Remove it if another says the same."
            )


def build_outcome(expectation: Expectation, gx_result: Any, rows: pa.Table) -> CheckOutcome:
    """Convert a result of Great Expectations to ours.

    Raises:
        StageError: The expectation ended in an exception.
    """
    require_evaluated(expectation, gx_result, rows)
    success = bool(gx_result.success)
    values = gx_result.result
    unexpected = values.get("unexpected_count")
    row_numbers = values.get("unexpected_index_list")
    failing = None
    if row_numbers is not None and len(row_numbers) == unexpected:
        failing = collect_failing_rows(rows, expectation.columns, [] if success else row_numbers)
    result = CheckResult(
        expectation=expectation.name,
        arguments=expectation.arguments,
        severity=expectation.severity,
        success=success,
        source="recipe",
        unexpected=unexpected,
        observed=shorten_observed(values.get("observed_value")),
        examples=choose_examples(values.get("partial_unexpected_list") or []),
    )
    return CheckOutcome(result, failing)


def require_evaluated(expectation: Expectation, gx_result: Any, rows: pa.Table) -> None:
    """Raise a StageError if the expectation ended in an exception."""
    info = gx_result.exception_info or {}  # one record, or a mapping of records
    for record in [info] if "raised_exception" in info else info.values():
        if record.get("raised_exception"):
            message = str(record["exception_message"]).rstrip(".")
            raise StageError(
                f"check {expectation.suite}: {expectation.name} could not be evaluated: "
                f"{message}.{suggest_type_rule(expectation, rows)}"
            )


def suggest_type_rule(expectation: Expectation, rows: pa.Table) -> str:
    """Suggest a type if the expectation looks at a column of text, the usual reason to fail."""
    if "regex" in expectation.name:
        return ""
    columns = [name for name in expectation.columns if is_text(rows[name].type)]
    if not columns:
        return ""
    advice = "so give it a type"
    if expectation.suite == "raw":
        advice = "as all columns do that come in: compare numbers and dates in check.ready, typed"
    return f" The column {columns[0]!r} holds text, {advice} by the cleaning rule `types`."


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def shorten_observed(value: object) -> bool | int | float | str | None:
    """Return a simple value as it is, others as a short text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)[:MAX_VALUE_LENGTH]


def choose_examples(values: Sequence[object]) -> list[str]:
    """Choose the first different values."""
    shown = [format_value(value)[:MAX_EXAMPLE_LENGTH] for value in values]
    return list(dict.fromkeys(shown))[:MAX_EXAMPLES]


def format_value(value: object) -> str:
    """Format an unexpected value; expectations on several columns have one of each."""
    if isinstance(value, dict):
        values = list(value.values())
    elif isinstance(value, tuple):
        values = list(value)
    else:
        values = [value]
    return ", ".join(format_cell(cell) for cell in values)


def format_cell(cell: object) -> str:
    """Format a value; NaN is null."""
    is_nan = cell != cell
    return "null" if cell is None or is_nan else str(cell)


def collect_failing_rows(rows: pa.Table, columns: list[str], numbers: list[int]) -> pa.Table:
    """Return the ids of rows, with their values in the columns that an expectation looks at.

    Args:
        rows: All rows.
        columns: The columns.
        numbers: The positions of the rows that fail.
    """
    positions = pa.array(numbers, pa.int64())
    values = []
    for name in columns:
        text = table_columns.convert_to_text(rows[name].take(positions))
        values.append(pc.utf8_slice_codeunits(text, 0, MAX_VALUE_LENGTH))
    value = values[0]
    if len(values) > 1:
        value = pc.binary_join_element_wise(
            *values, ", ", null_handling="replace", null_replacement="null"
        )
    return pa.table(
        {
            "id": rows["id"].take(positions).cast(pa.string()),
            "column": pa.repeat(", ".join(columns), len(numbers)),
            "value": value,
        }
    )
