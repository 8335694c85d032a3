"""Moments as numbers, so that they can be compared: numbers as they are, dates and times of ISO 8601 as seconds since 1970, UTC where no zone is given."""

import datetime
import math
from typing import Any

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def number(value: Any) -> float | None:
    """The value as a finite number, or None."""
    if isinstance(value, (bool, datetime.date)) or "_" in str(value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def instant(value: Any) -> float | None:
    """The date or time as seconds since 1970, or None where it is none, as in the years 0 and 10000."""
    try:
        moment = datetime.datetime.fromisoformat(str(value).strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return (moment - EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None


def ordered(first: Any, second: Any) -> bool:
    """Whether both are numbers or both are times, and the first is before the second."""
    for read in (number, instant):
        a, b = read(first), read(second)
        if a is not None and b is not None:
            return a < b
    return False
