"""Great Expectations, and the only file that imports it: suites are built in code from the recipe's lists, so none can lose an expectation unseen."""

import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import ConfigError, StageError
from tasks.rows import table_columns

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
MAX_EXAMPLES, MAX_VALUE_LENGTH = 5, 200
# All row numbers, but not their names: asking for an index column, or storing the result, takes minutes where a million rows fail.
RESULT_FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
DeclaredExpectations = list[dict[str, dict[str, Any]]]


def validate_rows(
    rows: pa.Table, declared: DeclaredExpectations, suite_name: str
) -> list[dict[str, Any]]:
    """One result for each declared expectation: whether it holds, the number of unexpected values, examples, and the rows concerned.

    Raises Mistake for arguments that an expectation does not take, and Failure where not every expectation ran.
    """
    import great_expectations as gx
    from great_expectations.core.batch import BatchRequest  # noqa: F401  resolves forward references of the suite's models
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.validator.v1_validator import Validator

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = gx.ExpectationSuite(name=suite_name)
    classes = {name.lower(): getattr(gx.expectations, name) for name in dir(gx.expectations)}
    for number, item in enumerate(declared):
        name, arguments = split_declaration(item)
        missing = [column for column in list_columns(arguments) if column not in rows.column_names]
        if missing and name != "expect_column_to_exist":
            has = ", ".join(rows.column_names)
            raise ConfigError(
                f"check.{suite_name}[{number}]: {name} names the column {missing[0]!r}, which the data does not have; it has {has}."
            )
        try:
            suite.add_expectation(
                classes[name.replace("_", "")](**arguments, meta={"number": number})
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"check.{suite_name}[{number}]: {name} does not take these arguments: {' '.join(str(error).split())[:300]}."
            ) from None
    definition = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    validator = Validator(
        batch_definition=definition,
        result_format=RESULT_FORMAT,
        batch_parameters={"dataframe": rows.to_pandas(ignore_metadata=True)},
    )
    outcomes = {
        outcome.expectation_config.meta["number"]: outcome
        for outcome in validator.validate_expectation_suite(suite).results
    }
    for number in set(range(len(declared))) - outcomes.keys():
        counted = f"{len(declared)} expectations were declared, but only {len(outcomes)} ran"
        lost = f"check.{suite_name}[{number}], {split_declaration(declared[number])[0]}, is not among them"
        raise StageError(
            f"check {suite_name}: {counted}, and {lost}: the data is not accepted. Remove it if another says the same."
        )
    return [
        build_result(item, outcomes[number], suite_name, rows)
        for number, item in enumerate(declared)
    ]


def split_declaration(item: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """An expectation's name and its own arguments, without the severity, which is ours."""
    name, arguments = next(iter(item.items()))
    return name, {key: value for key, value in arguments.items() if key != "severity"}


def list_columns(arguments: dict[str, Any]) -> list[str]:
    """The columns whose values an expectation looks at."""
    return [
        str(arguments[key]) for key in ("column", "column_A", "column_B") if key in arguments
    ] + list(arguments.get("column_list", []))


def build_result(
    item: dict[str, dict[str, Any]], outcome: Any, suite_name: str, rows: pa.Table
) -> dict[str, Any]:
    """The result as the checks give it. Raises Failure where the expectation ended in an exception."""
    name, arguments = split_declaration(item)
    columns = list_columns(arguments)
    info = outcome.exception_info or {}  # one record, or a mapping of records
    for record in [info] if "raised_exception" in info else info.values():
        if record.get("raised_exception"):
            advice = "" if "regex" in name else suggest_type_rule(columns, suite_name, rows)
            raise StageError(
                f"check {suite_name}: {name} could not be evaluated: {str(record['exception_message']).rstrip('.')}.{advice}"
            )
    found = outcome.result
    examples = list(
        dict.fromkeys(
            format_value(value)[:80] for value in found.get("partial_unexpected_list") or []
        )
    )[:MAX_EXAMPLES]
    observed, unexpected, numbers = (
        found.get(key) for key in ("observed_value", "unexpected_count", "unexpected_index_list")
    )
    observed = (
        observed
        if observed is None or isinstance(observed, (int, float, str))
        else str(observed)[:MAX_VALUE_LENGTH]
    )
    concerned = (
        collect_failing_rows(rows, columns, [] if outcome.success else numbers)
        if numbers is not None and len(numbers) == unexpected
        else None
    )
    about = {
        "expectation": name,
        "arguments": arguments,
        "severity": item[name].get("severity", "fail"),
        "success": bool(outcome.success),
    }
    return {
        **about,
        "unexpected": unexpected,
        "observed": observed,
        "examples": examples,
        "failing": concerned,
    }


def suggest_type_rule(columns: list[str], suite_name: str, rows: pa.Table) -> str:
    """What to do where numbers were expected in a column of texts, the usual reason why an expectation cannot be evaluated."""
    if not (
        texts := [
            name
            for name in columns
            if pa.types.is_string(rows[name].type) or pa.types.is_large_string(rows[name].type)
        ]
    ):
        return ""
    where = (
        "as all columns do that come in: compare numbers and dates in check.ready, typed"
        if suite_name == "raw"
        else "so give it a type"
    )
    return f" The column {texts[0]!r} holds text, {where} by the cleaning rule `types`."


def collect_failing_rows(rows: pa.Table, columns: list[str], numbers: list[int]) -> pa.Table:
    """The id of each of these rows, and its value in the columns that the expectation looks at."""
    at = pa.array(numbers, pa.int64())
    values = [
        pc.utf8_slice_codeunits(
            table_columns.convert_to_text(rows[name].take(at)), 0, MAX_VALUE_LENGTH
        )
        for name in columns
    ]
    value = (
        values[0]
        if len(values) == 1
        else pc.binary_join_element_wise(
            *values, ", ", null_handling="replace", null_replacement="null"
        )
    )
    return pa.table(
        {
            "id": rows["id"].take(at).cast(pa.string()),
            "column": pa.repeat(", ".join(columns), len(numbers)),
            "value": value,
        }
    )


def format_value(value: Any) -> str:
    """An unexpected value as text; expectations on several columns give theirs together."""
    values = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, tuple)
        else [value]
    )
    return ", ".join("null" if one is None or one != one else str(one) for one in values)
