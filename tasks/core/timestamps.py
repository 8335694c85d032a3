"""Moments as numbers, so that they can be compared: numbers as they are, dates and times of ISO 8601 as seconds since 1970, UTC where no zone is given."""

import contextlib
import datetime
import math
from typing import Any

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_number(value: Any) -> float | None:
    """The value as a finite number, or None."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if (
            not isinstance(value, (bool, datetime.date))
            and "_" not in str(value)
            and math.isfinite(found := float(value))
        ):
            return found
    return None


def parse_timestamp(value: Any) -> float | None:
    """The date or time as seconds since 1970, or None where it is none, as in the years 0 and 10000."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.datetime.fromisoformat(str(value).strip())
        return (
            (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - EPOCH
        ).total_seconds()
    return None


def is_before(first: Any, second: Any) -> bool:
    """Whether both are numbers or both are times, and the first is before the second."""
    for read in (parse_number, parse_timestamp):
        a, b = read(first), read(second)
        if a is not None and b is not None:
            return a < b
    return False
