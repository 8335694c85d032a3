"""A study as a page: how the trials went, and what each value of the space did, as plots without a library."""

import math
from typing import Any

from tasks import page, study
from tasks.recipe import LOWER_IS_BETTER, Recipe
from tasks.study import Record

BODY = """<h1>{{ title }}</h1>
{% if not trials %}<p class="lead">The recipe has no <code>tune</code> section: its own values are used as they are.</p>{% else %}
<style>svg { background: var(--card); border: 1px solid var(--line); border-radius: 6px; max-width: 100% } svg text { fill: var(--soft); font: 11px system-ui, sans-serif }
.done { fill: rgb(var(--fill)) } .pruned { fill: none; stroke: var(--soft) } .best { fill: var(--good) } .way { fill: none; stroke: var(--good) } .axis { fill: none; stroke: var(--line) }
.slices { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 } figcaption { font-size: .85rem }</style>
<p class="lead">{{ trials|length }} trials by {{ metric }} {{ where }}: {% for state, count in states.items() %}{{ count }} {{ state }}{{ ', ' if not loop.last }}{% endfor %}.
{% if best %}Best: trial {{ best.number + 1 }} with <b>{{ '%.4f'|format(best.value) }}</b>{% if own is not none %}; the recipe's own values, trial 1: {{ '%.4f'|format(own) }}{% endif %}.
The best of many looks better than it is: what it is worth, the evaluation on the test split says, which was not looked at here.{% endif %}</p>
<h2>Trials in their order</h2><p class="soft">Filled: trained to the end. Hollow: ended early, and at the edge where worse than all others. The line is the best so far.</p>{{ history|safe }}
<h2>What each value did</h2><div class="slices">{% for name, drawn in slices.items() %}<figure>{{ drawn|safe }}<figcaption>{{ name }}</figcaption></figure>{% endfor %}</div>
<h2>All trials</h2><div class="wide"><table><tr><th class="n">trial</th><th>state</th><th class="n">{{ metric }}</th>{% for name in names %}<th class="n">{{ name }}</th>{% endfor %}<th></th></tr>
{% for record in trials %}<tr><td class="n">{{ record.number + 1 }}</td><td>{{ record.state }}</td><td class="n">{% if record.value is not none %}{{ '%.4f'|format(record.value) }}{% endif %}</td>
{% for name in names %}<td class="n">{{ shown(record['values'][name]) }}</td>{% endfor %}<td class="text">{{ record.note }}</td></tr>{% endfor %}</table></div>{% endif %}"""

PLOT = """<svg viewBox="0 0 {{ width }} 220" width="{{ width }}" height="220" role="img" aria-label="{{ name }}"><path class="axis" d="M58 10V196H{{ width - 10 }}"/>
<text x="53" y="20" text-anchor="end">{{ shown(top) }}</text><text x="53" y="196" text-anchor="end">{{ shown(bottom) }}</text>
{% for x, text in ticks %}<text x="{{ x }}" y="212" text-anchor="middle">{{ text }}</text>{% endfor %}
{% if way %}<path class="way" d="M{{ way|join('L') }}"/>{% endif %}
{% for x, y, kind, title in points %}<circle class="{{ kind }}" cx="{{ x }}" cy="{{ y }}" r="4"><title>{{ title }}</title></circle>{% endfor %}
</svg>"""


def rendered(recipe: Recipe, done: list[Record], best: Record | None) -> str:
    section, title = recipe.tune, f"{recipe.name}: tuning"
    if section is None:
        return page.render(BODY, title, trials=[])
    counts = {state: sum(record["state"] == state for record in done) for state in ("done", "pruned", "failed")}
    order = [((record["number"] + 0.5) / len(done), record) for record in done]
    slices = {name: ([(place(option, record["values"][name]), record) for record in done], ticks(option)) for name, option in sorted(section.space.items())}
    return page.render(
        BODY,
        title,
        trials=done,
        metric=study.metric(recipe, section),
        where=f"in {section.folds}-fold cross-validation on train" if section.folds else "on the validation split",
        states={state: count for state, count in counts.items() if count},
        best=best,
        own=done[0]["value"] if done[0]["state"] == "done" else None,
        history=plot("trials in their order", 680, order, [(order[0][0], "1"), (order[-1][0], str(len(done)))], best, study.metric(recipe, section)),
        slices={name: plot(name, 330, points, marks, best) for name, (points, marks) in slices.items()},
        names=sorted(section.space),
        shown=shown,
    )


def plot(name: str, width: int, points: list[tuple[float, Record]], marks: list[tuple[float, str]], best: Record | None, metric: str | None = None) -> str:
    """Trials by their value, upwards, and a share of the width; for the metric that is given with a line through the best so far."""
    valued = [(share, record) for share, record in points if record["value"] is not None]
    heights = [record["value"] for _, record in valued if record["state"] == "done"]  # one that was ended early may lie beyond these
    bottom, top = min(heights), max(heights)
    sign = -1 if metric in LOWER_IS_BETTER else 1

    def x(share: float) -> float:
        return round(66 + share * (width - 84), 1)

    def y(value: float) -> float:
        share = (value - bottom) / (top - bottom) if top > bottom else 0.5
        return round(188 - 170 * min(max(share, 0.0), 1.0), 1)

    circles = []
    way: list[str] = []
    reached = -math.inf
    for share, record in valued:
        kind = "best" if best and record["number"] == best["number"] else record["state"]
        circles.append((x(share), y(record["value"]), kind, f"trial {record['number'] + 1}: {record['value']:.4f}"))
        if metric and record["state"] == "done":
            reached = max(reached, sign * record["value"])
            way.append(f"{x(share)} {y(sign * reached)}")
    template = page.ENVIRONMENT.from_string(PLOT)
    return template.render(
        name=name, width=width, top=top, bottom=bottom, ticks=[(x(share), text) for share, text in marks], way=way, points=circles, shown=shown
    )


def place(option: Any, value: Any) -> float:
    """Where a value lies between the ends of its axis."""
    if isinstance(option, list):
        return (option.index(value) + 0.5) / len(option)
    scale = math.log if option["log"] else float
    return (scale(value) - scale(option["low"])) / (scale(option["high"]) - scale(option["low"]))


def ticks(option: Any) -> list[tuple[float, str]]:
    ends = option if isinstance(option, list) else [option["low"], option["high"]]
    return [(place(option, value), shown(value)) for value in ends]


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
