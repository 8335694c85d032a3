"""Numbers and times as floats, so that they can be compared."""

import contextlib
import datetime
import math
from typing import Any

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_number(value: Any) -> float | None:
    """Return the value as a finite number, or None if it is none."""
    if isinstance(value, bool | datetime.date) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_timestamp(value: Any) -> float | None:
    """Return a date or time of ISO 8601 as seconds since 1970, or None if it is none.

    A time without a zone is in UTC. The years 0 and 10000 are no dates to Python.
    """
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.datetime.fromisoformat(str(value).strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return (moment - EPOCH).total_seconds()
    return None


def is_before(first: Any, second: Any) -> bool:
    """Return whether both values are numbers or both are times, and the first is the smaller."""
    for parse in (parse_number, parse_timestamp):
        low = parse(first)
        high = parse(second)
        if low is not None and high is not None:
            return low < high
    return False


def format_utc_now() -> str:
    """Return the present time in ISO 8601 and UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
