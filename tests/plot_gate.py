"""Draws docs/gate.svg from simulations of the gate, whose numbers it keeps in docs/gate.json.

python -m tests.plot_gate
"""

import json
from typing import Any

from tests.conftest import ROOT

NUMBERS, PICTURE = ROOT / "docs" / "gate.json", ROOT / "docs" / "gate.svg"
ROWS, CHALLENGERS, HISTORIES, ALPHA, MARGIN = 2000, 400, 400, 0.025, 0.02
RULES: dict[str, dict[str, Any]] = {
    "better": {"require": "better"},
    "not_worse": {"margin": MARGIN},
}
DIFFERENCES = [number / 200 for number in range(-8, 9)]
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.axis{stroke:#888;fill:none}"
    ".grid{stroke:#8883}.a{stroke:#0b6bcb;fill:none;stroke-width:2}\n"
    ".b{stroke:#c2410c;fill:none;stroke-width:2}.alpha{stroke:#888;stroke-dasharray:4 3}"
    ".ta{fill:#0b6bcb}.tb{fill:#c2410c}\n"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.a{stroke:#6cb6ff}.b{stroke:#ff9e64}"
    ".ta{fill:#6cb6ff}.tb{fill:#ff9e64}}"
)


def share(rule: dict[str, Any], difference: float) -> float:
    """The share of challengers with this true difference in accuracy that is promoted."""
    from tests.statistics.test_comparison import promoted

    return promoted(
        {"metric": "accuracy", **rule}, ROWS, difference, seed=7, challengers=CHALLENGERS
    )


def simulated() -> dict[str, Any]:
    from tests.statistics.test_comparison import histories

    spending, careless = histories(RULES["better"], 0.0, seed=8, count=HISTORIES)
    return {
        "differences": DIFFERENCES,
        **{
            name: [share(rule, difference) for difference in DIFFERENCES]
            for name, rule in RULES.items()
        },
        "spending": spending,
        "careless": careless,
    }


def panel(
    left: int,
    title: str,
    below: str,
    xs: list[float],
    ticks: dict[float, str],
    high: float,
    lines: dict[str, tuple[str, list[float]]],
) -> str:
    """Lines over `xs`, each with its name (class → name, values), on a scale from 0 to `high`."""
    low_x, high_x = xs[0], xs[-1]

    def x(value: float) -> float:
        return round(left + 45 + 345 * (value - low_x) / (high_x - low_x), 1)

    def y(value: float) -> float:
        return round(240 - 195 * value / high, 1)

    made = [f'<text x="{left + 45}" y="20" font-weight="600">{title}</text>']
    for part in range(5):
        height = y(high * part / 4)
        percent = f"{100 * high * part / 4:g} %"
        made.append(f'<path class="grid" d="M{x(low_x)} {height}H{x(high_x)}"/>')
        made.append(f'<text x="{left + 38}" y="{height + 4}" text-anchor="end">{percent}</text>')
    made += [
        f'<text x="{x(value)}" y="258" text-anchor="middle">{text}</text>'
        for value, text in ticks.items()
    ]
    made.append(f'<path class="alpha" d="M{x(low_x)} {y(ALPHA)}H{x(high_x)}"/>')
    made.append(
        f'<path class="axis" d="M{x(low_x)} 45V240H{x(high_x)}"/>'
        f'<text x="{left + 217}" y="278" text-anchor="middle">{below}</text>'
    )
    for number, (kind, (name, values)) in enumerate(lines.items()):
        points = [f"{x(at)} {y(value)}" for at, value in zip(xs, values, strict=True)]
        made.append(f'<path class="{kind}" d="M{"L".join(points)}"/>')
        made.append(f'<text class="t{kind}" x="{left + 55}" y="{60 + 18 * number}">{name}</text>')
    return "\n".join(made)


def drawn(numbers: dict[str, Any]) -> str:
    points = {at / 100: f"{at:+d}" if at else "0" for at in range(-4, 5, 2)}
    rules = {
        "a": ("require: better", numbers["better"]),
        "b": ("not_worse, margin: 0.02", numbers["not_worse"]),
    }
    looks = {
        "a": ("alpha spent over all looks", numbers["spending"]),
        "b": ("alpha at every look", numbers["careless"]),
    }
    parts = [
        panel(
            8,
            "Promoted at the first look",
            f"true difference in accuracy, points; {ROWS:,} test rows",
            numbers["differences"],
            points,
            1.0,
            rules,
        ),
        panel(
            420,
            "Promoted by chance, challengers equal",
            "looks at the same champion",
            [*range(1, 21)],
            {at: str(at) for at in (1, 5, 10, 15, 20)},
            0.4,
            looks,
        ),
    ]
    name = "How often the gate promotes, by the true difference and by the number of looks"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 290" role="img" '
        f'aria-label="{name}">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    found = simulated()
    NUMBERS.parent.mkdir(exist_ok=True)
    NUMBERS.write_text(json.dumps(found, indent=1) + "\n")
    PICTURE.write_text(drawn(found))
