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
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("is neither yes nor no")


def parse_date(text: str, format: str | None) -> datetime.date:
    """Parse a date in the given format, or else in ISO 8601 or with the month's name."""
    if format is None:
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(text).date()
    for pattern in [format] if format else DATE_FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(text, pattern).date()
    if format:
        raise ValueError(f"is no date of the form {format}")
    raise ValueError(
        "is no date such as 2026-01-31 or 31 Jan 2026, and the recipe gives no other format"
    )


def to_integer(number: Decimal) -> int:
    if abs(number) >= 2**63:
        raise ValueError("is too large")
    if round(number, INTEGER_DIGITS) != round(number):
        raise ValueError("is no whole number")
    return round(number)


def to_float(number: Decimal) -> float:
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
    whole, fraction = mantissa, ""
    if mark:
        whole, _, fraction = mantissa.partition(mark)
    has_digits = bool(whole or fraction)
    is_whole_valid = not whole or whole.isdecimal() or GROUPED_DIGITS_PATTERN.fullmatch(whole)
    is_fraction_valid = not fraction or fraction.isdecimal()
    if not (has_digits and is_whole_valid and is_fraction_valid):
        raise ValueError("is no number")
    whole_digits = "".join(letter for letter in whole if letter.isdecimal())
    return Decimal(f"{whole_digits or 0}.{fraction or 0}e{exponent or 0}")


def guess_decimal_mark(mantissa: str) -> str | None:
    """Guess which of `.` and `,` divides the fraction; None if there is no fraction.

    A single comma before three digits groups them: 1,234 is more than a thousand.
    """
    last_mark = max(".,", key=mantissa.rfind)
    if last_mark not in mantissa:
        return None
    if "." in mantissa and "," in mantissa:
        return last_mark
    if mantissa.count(last_mark) > 1:  # 1.234.567
        return None
    if last_mark == "," and GROUPED_DIGITS_PATTERN.fullmatch(mantissa):
        return None
    return last_mark
