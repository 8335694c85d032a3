"""Parses the text of a cell: a number with its unit, a date, a yes or no.

A ValueError says what is wrong with the cell, as in "'abc' is no number".
"""

import contextlib
import datetime
import decimal
import math
import re
from decimal import Decimal

from tasks.cleaning import units
from tasks.recipe.cleaning_rules import ColumnType

Cell = bool | int | float | datetime.date

MAX_CELL_LENGTH = 100  # characters; a longer cell is no number or date and is not searched for one
GROUP_SEPARATORS = " \u00a0\u2009\u202f'’"  # between groups of three digits
NUMBER_PATTERN = re.compile(
    r"([+\-−]?)\s*([$€£¥₹]?)\s*"  # sign and currency
    rf"((?:[\d.,](?:[\d.,{GROUP_SEPARATORS}]*\d)?\.?)(?:[eE][+-]?\d{{1,3}})?)"  # digits, exponent
    r"\s*(\D.*)?"  # unit
)
# Groups of three digits, all separated alike: 1,234,567
GROUPED_DIGITS_PATTERN = re.compile(rf"\d{{1,3}}(?:([.,{GROUP_SEPARATORS}])\d{{3}}(?:\1\d{{3}})*)?")
MINUS_SIGNS = ("-", "−")

TRUE_WORDS = {"true", "t", "yes", "y", "1", "on"}
FALSE_WORDS = {"false", "f", "no", "n", "0", "off"}
# Beside ISO 8601. A day and a month that are both in digits could be in either order.
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
)
INTEGER_DIGITS = 9  # decimals to which an integer must be whole


def parse_cell(cell: str, column_type: ColumnType) -> Cell | None:
    """Parse a cell; a blank one is None.

    Raises:
        ValueError: The cell is not of this type; the message says why.
    """
    text = cell.strip()
    kind = column_type.type
    if len(text) > MAX_CELL_LENGTH:
        raise ValueError(f"is no {kind}: it has {len(text)} characters")
    if not text:
        return None
    if kind == "date":
        return parse_date(text, column_type.format)
    if kind == "boolean":
        return parse_boolean(text)
    number = parse_number(text, column_type.unit, column_type.decimal)
    return to_integer(number) if kind == "integer" else to_float(number)


def parse_boolean(text: str) -> bool:
    """Parse a yes or no."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("is neither yes nor no")


def parse_date(text: str, date_format: str | None) -> datetime.date:
    """Parse a date in the given format, or else in ISO 8601 or with the month's name."""
    if date_format is None:
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(text).date()
    for pattern in [date_format] if date_format else DATE_FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(text, pattern).date()
    if date_format:
        raise ValueError(f"is no date of the form {date_format}")
    raise ValueError(
        "is no date such as 2026-01-31 or 31 Jan 2026, and the recipe gives no other format"
    )


def to_integer(number: Decimal) -> int:
    """Convert a whole number of at most 64 bits."""
    if abs(number) >= 2**63:
        raise ValueError("is too large")
    if round(number, INTEGER_DIGITS) != round(number):
        raise ValueError("is no whole number")
    return round(number)


def to_float(number: Decimal) -> float:
    """Convert a number that a float can hold."""
    value = float(number)
    if math.isinf(value):
        raise ValueError("is too large")
    return value


def parse_number(text: str, unit: str | None, decimal_mark: str | None) -> Decimal:
    """Parse a number and convert it to a unit.

    Args:
        text: Such as `-1,200.50`, `$5` or `1.80 m`.
        unit: The unit of the result; None if the column has none.
        decimal_mark: The decimal mark; None if it is to be guessed.
    """
    match = NUMBER_PATTERN.fullmatch(text)
    if not match:
        raise ValueError("is no number")
    sign, currency, digits, suffix = match.groups(default="")
    if currency and suffix:
        raise ValueError("has two units")
    try:
        number = parse_digits(digits, decimal_mark)
        if sign in MINUS_SIGNS:
            number = -number
        return units.convert_unit(number, currency or suffix, unit)
    except decimal.DecimalException:
        raise ValueError("is too large") from None


def parse_digits(text: str, decimal_mark: str | None) -> Decimal:
    """Parse digits as people write them: 1,234.5 or 1.234,5 or 1 234 or 1e-3."""
    mantissa, _, exponent = text.lower().partition("e")
    mark = decimal_mark or guess_decimal_mark(mantissa)
    whole, fraction = split_fraction(mantissa, mark)
    if not whole + fraction:
        raise ValueError("is no number")
    return Decimal(f"{parse_whole(whole)}.{parse_fraction(fraction)}e{exponent or 0}")


def split_fraction(mantissa: str, mark: str | None) -> tuple[str, str]:
    """Split digits at the decimal mark, if there is one."""
    if mark is None:
        return mantissa, ""
    whole, _, fraction = mantissa.partition(mark)
    return whole, fraction


def parse_whole(whole: str) -> str:
    """Remove the marks between groups of three digits; nothing is 0."""
    if not whole:
        return "0"
    is_grouped = GROUPED_DIGITS_PATTERN.fullmatch(whole)
    if not is_grouped and not whole.isdecimal():
        raise ValueError("is no number")
    return "".join(filter(str.isdecimal, whole))


def parse_fraction(fraction: str) -> str:
    """Return the digits of a fraction; nothing is 0."""
    if not fraction:
        return "0"
    if not fraction.isdecimal():
        raise ValueError("is no number")
    return fraction


def guess_decimal_mark(mantissa: str) -> str | None:
    """Guess which of `.` and `,` divides the fraction; None if there is no fraction.

    A single comma before three digits groups them: 1,234 is more than a thousand.
    """
    marks = re.findall("[.,]", mantissa)
    if len(set(marks)) == 2:  # 1.234,5
        return str(marks[-1])
    if len(marks) != 1:  # 1234 or 1.234.567
        return None
    if marks == [","] and GROUPED_DIGITS_PATTERN.fullmatch(mantissa):
        return None
    return str(marks[0])
