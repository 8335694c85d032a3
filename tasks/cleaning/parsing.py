"""What the text of a cell says: a number with its unit, a date, a yes or no. A ValueError says what is wrong, as in `'abc' is no number`."""

import contextlib
import datetime
import decimal
import math
import re
from decimal import Decimal
from typing import Any

MAX_CELL_LENGTH = (
    100  # characters; what is longer is no number or date, and need not be searched for one
)
GROUP_SEPARATORS = " \u00a0\u2009\u202f'’"  # between groups of three digits
NUMBER_PATTERN = re.compile(
    rf"([+\-−]?)\s*([$€£¥₹]?)\s*((?:[\d.,](?:[\d.,{GROUP_SEPARATORS}]*\d)?\.?)(?:[eE][+-]?\d{{1,3}})?)\s*(\D.*)?"
)
GROUPED_DIGITS_PATTERN = re.compile(rf"\d{{1,3}}(?:([.,{GROUP_SEPARATORS}])\d{{3}}(?:\1\d{{3}})*)?")

# dimension: the size of a unit in the first of its dimension, and its names
UNITS = {
    "length": {
        "1": "m meter meters metre metres",
        "1e-3": "mm",
        "1e-2": "cm",
        "1e3": "km",
        "0.0254": 'in inch inches "',
        "0.3048": "ft foot feet ′ '",
    }
    | {"0.9144": "yd yard yards", "1609.344": "mi mile miles"},
    "mass": {
        "1": "kg kilo kilos",
        "1e-6": "mg",
        "1e-3": "g gram grams",
        "1e3": "t",
        "0.45359237": "lb lbs pound pounds",
        "0.028349523125": "oz ounce ounces",
    },
    "time": {
        "1": "s sec second seconds",
        "1e-3": "ms",
        "60": "min minute minutes",
        "3600": "h hr hour hours",
        "86400": "d day days",
        "604800": "week weeks",
    },
    "volume": {
        "1": "l liter liters litre litres",
        "1e-3": "ml",
        "1e-2": "cl",
        "1e3": "m3 m³",
        "3.785411784": "gal gallon gallons",
    },
    "data": {
        "1": "b byte bytes",
        "1e3": "kb",
        "1e6": "mb",
        "1e9": "gb",
        "1e12": "tb",
        "1024": "kib",
        "1048576": "mib",
        "1073741824": "gib",
    },
}
UNIT_SIZES = {
    name: (dimension, Decimal(size))
    for dimension, sizes in UNITS.items()
    for size, names in sizes.items()
    for name in names.split()
}
TEMPERATURE_SCALES = {
    "k": (Decimal(0), Decimal(1)),
    "c": (Decimal("273.15"), Decimal(1)),
    "f": (Decimal("459.67"), Decimal(5) / 9),
}  # (t + offset) × size is in kelvin
UNIT_ALIASES = {
    "$": "usd",
    "€": "eur",
    "£": "gbp",
    "¥": "jpy",
    "₹": "inr",
    "percent": "%",
    "kelvin": "k",
    "celsius": "c",
    "fahrenheit": "f",
}
TRUE_WORDS, FALSE_WORDS = (
    {"true", "t", "yes", "y", "1", "on"},
    {"false", "f", "no", "n", "0", "off"},
)
# beside ISO 8601; day and month in figures alone could be either
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
)


def parse_digits(body: str, mark: str | None) -> Decimal:
    """A number as people write it, 1,234.5 or 1.234,5 or 1 234; `mark` is the decimal mark. Where it is not given, 1,234 is more than a thousand."""
    digits, _, power = body.lower().partition("e")
    if mark is None:
        last = max(digits, key=lambda sign: digits.rfind(sign) if sign in ".," else -1)
        both = "." in digits and "," in digits
        mark = (
            last
            if last in ".,"
            and (both or digits.count(last) == 1)
            and (both or last == "." or not GROUPED_DIGITS_PATTERN.fullmatch(digits))
            else "\0"
        )
    whole, _, fraction = digits.partition(mark)
    if (
        (whole and not whole.isdecimal() and not GROUPED_DIGITS_PATTERN.fullmatch(whole))
        or (fraction and not fraction.isdecimal())
        or not whole + fraction
    ):
        raise ValueError("is no number")
    figures = "".join(sign for sign in whole if sign.isdecimal())
    return Decimal(f"{figures or 0}.{fraction or 0}e{power or 0}")


def convert_unit(number: Decimal, given: str, wanted: str | None) -> Decimal:
    """The number in the wanted unit. A unit that is not in the tables, such as a currency, is only equal to itself."""
    given, wanted = (
        UNIT_ALIASES.get(name, name)
        for name in (
            given.lower().strip().removeprefix("°"),
            (wanted or "").lower().removeprefix("°"),
        )
    )
    if given in ("", wanted):
        return number
    if not wanted:
        raise ValueError(f"has the unit {given}, and the recipe names none")
    if given in TEMPERATURE_SCALES and wanted in TEMPERATURE_SCALES:
        (offset, size), (other, unit) = TEMPERATURE_SCALES[given], TEMPERATURE_SCALES[wanted]
        return (number + offset) * size / unit - other
    (dimension, size), (target, unit) = (
        UNIT_SIZES.get(given, (given, Decimal(1))),
        UNIT_SIZES.get(wanted, (wanted, Decimal(1))),
    )
    if dimension != target:
        raise ValueError(f"has the unit {given} where {wanted} is expected")
    return number * size / unit


def parse_number(cell: str, unit: str | None, mark: str | None) -> Decimal:
    if not (match := NUMBER_PATTERN.fullmatch(cell)):
        raise ValueError("is no number")
    sign, currency, body, suffix = match.groups(default="")
    if currency and suffix:
        raise ValueError("has two units")
    try:
        number = parse_digits(body, mark)
        return convert_unit(-number if sign in ("-", "−") else number, currency or suffix, unit)
    except decimal.DecimalException:
        raise ValueError("is too large") from None


def parse_date(cell: str, format: str | None) -> datetime.date:
    if format is None:
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(cell).date()
    for pattern in [format] if format else DATE_FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(cell, pattern).date()
    raise ValueError(
        f"is no date of the form {format}"
        if format
        else "is no date such as 2026-01-31 or 31 Jan 2026, and the recipe gives no other format"
    )


def parse_cell(
    cell: str, type: str, unit: str | None, decimal: str | None, format: str | None
) -> Any:
    """The value that the cell's text has as this type; None for a blank cell."""
    text = cell.strip()
    if len(text) > MAX_CELL_LENGTH:
        raise ValueError(f"is no {type}: it has {len(text)} characters")
    if not text:
        return None
    if type == "date":
        return parse_date(text, format)
    if type == "boolean":
        if text.lower() not in TRUE_WORDS | FALSE_WORDS:
            raise ValueError("is neither yes nor no")
        return text.lower() in TRUE_WORDS
    value = parse_number(text, unit, decimal)
    if abs(value) >= 2**63 if type == "integer" else math.isinf(float(value)):
        raise ValueError("is too large")
    if type == "integer" and round(value, 9) != round(value):
        raise ValueError("is no whole number")
    return round(value) if type == "integer" else float(value)
