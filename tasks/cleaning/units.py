"""Units of measurement, and the conversion between units of one dimension."""

from dataclasses import dataclass
from decimal import Decimal

# By dimension: the size of each unit in the first unit of its dimension, and its names.
UNITS_BY_DIMENSION = {
    "length": {
        "1": "m meter meters metre metres",
        "1e-3": "mm",
        "1e-2": "cm",
        "1e3": "km",
        "0.0254": 'in inch inches "',
        "0.3048": "ft foot feet ′ '",
        "0.9144": "yd yard yards",
        "1609.344": "mi mile miles",
    },
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


@dataclass(frozen=True)
class Unit:
    """A unit as a multiple of the first unit of its dimension."""

    dimension: str
    size: Decimal


@dataclass(frozen=True)
class TemperatureScale:
    """A scale of which (degrees + offset) * size is in kelvin."""

    offset: Decimal
    size: Decimal


TEMPERATURE_SCALES = {
    "k": TemperatureScale(Decimal(0), Decimal(1)),
    "c": TemperatureScale(Decimal("273.15"), Decimal(1)),
    "f": TemperatureScale(Decimal("459.67"), Decimal(5) / 9),
}


def index_units() -> dict[str, Unit]:
    """Index the units by all of their names."""
    units = {}
    for dimension, sizes in UNITS_BY_DIMENSION.items():
        for size, names in sizes.items():
            for name in names.split():
                units[name] = Unit(dimension, Decimal(size))
    return units


UNITS = index_units()


def find_unit(name: str) -> Unit:
    """Return a unit; one that is not in the tables, such as a currency, is its own dimension."""
    return UNITS.get(name) or Unit(name, Decimal(1))


def normalize_unit(name: str) -> str:
    """Return the name under which the tables have a unit; empty for no unit."""
    name = name.lower().strip().removeprefix("°")
    return UNIT_ALIASES.get(name, name)


def convert_unit(number: Decimal, unit: str, target_unit: str | None) -> Decimal:
    """Convert a number from its unit, empty if the cell names none, to that of the recipe.

    Raises:
        ValueError: The units measure different things, or the recipe names no unit.
    """
    source = normalize_unit(unit)
    target = normalize_unit(target_unit or "")
    if source in ("", target):
        return number
    if not target:
        raise ValueError(f"has the unit {source}, and the recipe names none")
    if source in TEMPERATURE_SCALES and target in TEMPERATURE_SCALES:
        return convert_temperature(number, TEMPERATURE_SCALES[source], TEMPERATURE_SCALES[target])
    source_unit = find_unit(source)
    wanted_unit = find_unit(target)
    if source_unit.dimension != wanted_unit.dimension:
        raise ValueError(f"has the unit {source} where {target} is expected")
    return number * source_unit.size / wanted_unit.size


def convert_temperature(
    degrees: Decimal, source: TemperatureScale, target: TemperatureScale
) -> Decimal:
    """Convert degrees by way of kelvin."""
    return (degrees + source.offset) * source.size / target.size - target.offset
