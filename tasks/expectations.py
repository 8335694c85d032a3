"""Great Expectations, and the only file that imports it: suites are built in code from the recipe's lists, so none can lose an expectation unseen."""

import os
from typing import Any

import pandas as pd

from tasks.step import Failure, Mistake

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
EXAMPLES = 5
Declared = list[dict[str, dict[str, Any]]]


def validate(rows: pd.DataFrame, declared: Declared, suite_name: str) -> list[dict[str, Any]]:
    """One result for each declared expectation: whether it holds, the number of unexpected values, and examples.

    Raises Mistake for arguments that an expectation does not take, and Failure where not every expectation ran.
    """
    import great_expectations as gx
    from great_expectations.core.batch import BatchRequest  # noqa: F401  resolves forward references of the suite's models
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=suite_name))
    for number, item in enumerate(declared):
        name, arguments = next(iter(item.items()))
        expectation = getattr(gx.expectations, "".join(part.capitalize() for part in name.split("_")))
        column = arguments.get("column")
        if column is not None and column not in rows.columns:
            raise Mistake(f"check.{suite_name}[{number}]: {name} names the column {column!r}, which the data does not have; it has {', '.join(rows.columns)}.")
        try:
            suite.add_expectation(expectation(**arguments))
        except (TypeError, ValueError) as error:
            raise Mistake(f"check.{suite_name}[{number}]: {name} does not take these arguments: {' '.join(str(error).split())[:300]}.") from None
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=suite_name, data=batch, suite=suite))
    result = definition.run(batch_parameters={"dataframe": rows}, result_format="SUMMARY")
    return [plain(item, outcome) for item, outcome in paired(declared, result.results, suite_name)]


def paired(declared: Declared, results: Any, suite_name: str) -> list[tuple[dict[str, dict[str, Any]], Any]]:
    """Each declared expectation with its result; none may be missing, and none may have ended in an exception."""
    if len(results) != len(declared):
        raise Failure(f"check {suite_name}: {len(declared)} expectations were declared, but only {len(results)} ran: the data is not accepted.")
    pairs = []
    for item, outcome in zip(declared, results, strict=True):
        name = next(iter(item))
        if outcome.expectation_config.type != name:
            raise Failure(f"check {suite_name}: the result of {outcome.expectation_config.type} came where {name} was declared: the data is not accepted.")
        for problem in exceptions(outcome.exception_info):
            raise Failure(f"check {suite_name}: {name} could not be evaluated: {problem}.")
        pairs.append((item, outcome))
    return pairs


def exceptions(info: Any) -> list[str]:
    """The messages in a result's exception_info, which is one record or a mapping of records."""
    records = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    return [str(record["exception_message"]) for record in records if record.get("raised_exception")]


def plain(item: dict[str, dict[str, Any]], outcome: Any) -> dict[str, Any]:
    name, arguments = next(iter(item.items()))
    found = outcome.result
    examples = list(dict.fromkeys(str(value)[:80] for value in found.get("partial_unexpected_list") or []))[:EXAMPLES]
    observed = found.get("observed_value")
    return {
        "expectation": name,
        "arguments": arguments,
        "success": bool(outcome.success),
        "unexpected": found.get("unexpected_count"),
        "observed": observed if isinstance(observed, (int, float, str)) else None,
        "examples": examples,
    }
