"""Draws docs/gate.svg from simulations of the gate, whose numbers it keeps in docs/gate.json.

python -m tests.plot_gate
"""

import json
from dataclasses import dataclass

from tests.conftest import ROOT
from tests.statistics.simulation import ALPHA, Rule, promotion_rate, simulate_histories

NUMBERS = ROOT / "docs" / "gate.json"
PICTURE = ROOT / "docs" / "gate.svg"
N_ROWS = 2000
N_CHALLENGERS = 400
N_HISTORIES = 400
RULES: dict[str, Rule] = {
    "better": {"require": "better"},
    "not_worse": {"margin": 0.02},
}
DIFFERENCES = [number / 200 for number in range(-8, 9)]
TITLE = "How often the gate promotes, by the true difference and by the number of comparisons"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.axis{stroke:#888;fill:none}"
    ".grid{stroke:#8883}.a{stroke:#0b6bcb;fill:none;stroke-width:2}\n"
    ".b{stroke:#c2410c;fill:none;stroke-width:2}.alpha{stroke:#888;stroke-dasharray:4 3}"
    ".ta{fill:#0b6bcb}.tb{fill:#c2410c}\n"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.a{stroke:#6cb6ff}.b{stroke:#ff9e64}"
    ".ta{fill:#6cb6ff}.tb{fill:#ff9e64}}"
)

Numbers = dict[str, list[float]]  # the content of gate.json


@dataclass(frozen=True)
class Line:
    """A line of a panel."""

    css_class: str
    name: str
    values: list[float]


@dataclass(frozen=True)
class Panel:
    """One of the two plots, 345 pixels wide and 195 high."""

    left: int
    title: str
    x_label: str
    xs: list[float]
    ticks: dict[float, str]
    y_max: float
    lines: list[Line]

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        first = self.xs[0]
        last = self.xs[-1]
        return round(self.left + 45 + 345 * (value - first) / (last - first), 1)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        return round(240 - 195 * value / self.y_max, 1)

    def draw(self) -> str:
        """Return the panel as SVG elements, one a line."""
        left = self.left
        title = f'<text x="{left + 45}" y="20" font-weight="600">{self.title}</text>'
        return "\n".join([title, *self.draw_grid(), *self.draw_axes(), *self.draw_lines()])

    def draw_grid(self) -> list[str]:
        """Draw four horizontal lines above 0, with percentages."""
        first = self.x(self.xs[0])
        last = self.x(self.xs[-1])
        elements = []
        for part in range(5):
            value = self.y_max * part / 4
            height = self.y(value)
            percent = f"{100 * self.y_max * part / 4:g} %"
            elements += [
                f'<path class="grid" d="M{first} {height}H{last}"/>',
                f'<text x="{self.left + 38}" y="{height + 4}" text-anchor="end">{percent}</text>',
            ]
        return elements

    def draw_axes(self) -> list[str]:
        """Draw ticks, the line of alpha, the axes and the label."""
        first = self.x(self.xs[0])
        last = self.x(self.xs[-1])
        ticks = [
            f'<text x="{self.x(value)}" y="258" text-anchor="middle">{text}</text>'
            for value, text in self.ticks.items()
        ]
        return [
            *ticks,
            f'<path class="alpha" d="M{first} {self.y(ALPHA)}H{last}"/>',
            f'<path class="axis" d="M{first} 45V240H{last}"/>'
            f'<text x="{self.left + 217}" y="278" text-anchor="middle">{self.x_label}</text>',
        ]

    def draw_lines(self) -> list[str]:
        """Draw each line with its name."""
        elements = []
        for index, line in enumerate(self.lines):
            pairs = zip(self.xs, line.values, strict=True)
            points = "L".join([f"{self.x(x)} {self.y(value)}" for x, value in pairs])
            name_y = 60 + 18 * index
            elements += [
                f'<path class="{line.css_class}" d="M{points}"/>',
                f'<text class="t{line.css_class}" x="{self.left + 55}" y="{name_y}">'
                f"{line.name}</text>",
            ]
        return elements


def simulate_promotion_rate(rule: Rule, difference: float) -> float:
    """Return the share of challengers with this difference in accuracy that are promoted."""
    accuracy_rule = {"metric": "accuracy", **rule}
    return promotion_rate(accuracy_rule, N_ROWS, difference, 7, N_CHALLENGERS)


def simulate() -> Numbers:
    """Return what the picture shows."""
    curves = simulate_histories(RULES["better"], 0.0, seed=8, n_histories=N_HISTORIES)
    numbers = {"differences": DIFFERENCES}
    for name, rule in RULES.items():
        rates = [simulate_promotion_rate(rule, difference) for difference in DIFFERENCES]
        numbers[name] = rates
    return {**numbers, "spending": curves.spending, "careless": curves.careless}


def draw_svg(numbers: Numbers) -> str:
    """Draw both panels."""
    first_comparison = Panel(
        left=8,
        title="Promoted at the first comparison",
        x_label=f"true difference in accuracy, points; {N_ROWS:,} test rows",
        xs=numbers["differences"],
        ticks={-0.04: "-4", -0.02: "-2", 0.0: "0", 0.02: "+2", 0.04: "+4"},
        y_max=1.0,
        lines=[
            Line("a", "require: better", numbers["better"]),
            Line("b", "not_worse, margin: 0.02", numbers["not_worse"]),
        ],
    )
    all_comparisons = Panel(
        left=420,
        title="Promoted by chance, challengers equal",
        x_label="comparisons with the same champion",
        xs=[*range(1, 21)],
        ticks={number: str(number) for number in (1, 5, 10, 15, 20)},
        y_max=0.4,
        lines=[
            Line("a", "alpha spent over all comparisons", numbers["spending"]),
            Line("b", "alpha at every comparison", numbers["careless"]),
        ],
    )
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 290" role="img" '
        f'aria-label="{TITLE}">'
    )
    style = f"<style>{STYLE}</style>"
    panels = [first_comparison.draw(), all_comparisons.draw()]
    return "\n".join([opening, style, *panels, "</svg>\n"])


def main() -> None:
    """Simulate, and write the numbers and the picture."""
    numbers = simulate()
    NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n")
    PICTURE.write_text(draw_svg(numbers))


if __name__ == "__main__":
    main()
