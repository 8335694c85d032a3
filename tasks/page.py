"""Self-contained HTML pages: everything inside the file, so that they open offline; light and dark."""

import base64
from typing import Any

import jinja2

ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)

FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e6ec; --card: #ffffff; --page: #f6f7f9; --good: #137752; --bad: #b42318; --warn: #9a6700; --fill: 37, 99, 190; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3340; --card: #171b23; --page: #0f1218; --good: #4cc38a; --bad: #ff7b72; --warn: #e2b93b; --fill: 96, 160, 255; } }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem } p.lead { color: var(--soft); margin: 0 0 1rem }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); border-radius: 6px } div.wide { overflow-x: auto }
th, td { padding: .4rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top } th { color: var(--soft); font-weight: 600; font-size: .85rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } td.text { white-space: pre-wrap; overflow-wrap: anywhere } .soft { color: var(--soft) }
.pass { color: var(--good); font-weight: 600 } .fail { color: var(--bad); font-weight: 600 } .warn { color: var(--warn); font-weight: 600 }
table.matrix td { text-align: center; padding: .3rem; min-width: 1.6rem; font-size: .85rem } table.matrix th { font-weight: 500; font-size: .78rem; white-space: nowrap } img { image-rendering: pixelated; width: 48px }
.bar { display: inline-block; height: .55rem; background: rgb(var(--fill)); border-radius: 2px; vertical-align: middle }
</style></head><body>
{% block body %}{% endblock %}
</body></html>"""

CHECKS = """<h1>{{ title }}</h1>
<p class="lead">{{ passed }} of {{ results|length }} expectations hold on {{ rows }} rows.</p>
<div class="wide"><table><tr><th>expectation</th><th>arguments</th><th>result</th><th class="n">found</th><th>examples</th></tr>
{% for result in results %}<tr><td>{{ result.expectation }}</td><td class="soft">{{ result.arguments }}</td>
<td class="{{ 'pass' if result.success else 'fail' }}">{{ 'holds' if result.success else 'fails' }}</td><td class="n">{% if result.unexpected is not none %}{{ result.unexpected }} unexpected{% elif result.observed is not none %}{{ result.observed }}{% endif %}</td>
<td class="text">{{ result.examples|join(', ') }}</td></tr>{% endfor %}</table></div>"""

EVALUATION = """<h1>{{ title }}</h1>
<p class="lead">The exported model on {{ rows }} test rows that it has not seen, beside a baseline fitted on the same split. Intervals: stratified bootstrap.</p>
<table><tr><th>metric</th><th class="n">model</th><th class="n">interval</th><th class="n">baseline</th><th class="n">interval</th></tr>
{% for name, model in metrics.model.items() %}{% set base = metrics.baseline[name] %}<tr><td>{{ name }}</td><td class="n"><b>{{ '%.4f'|format(model.value) }}</b></td>
<td class="n soft">{{ '%.4f – %.4f'|format(model.low, model.high) }}</td><td class="n">{{ '%.4f'|format(base.value) }}</td><td class="n soft">{{ '%.4f – %.4f'|format(base.low, base.high) }}</td></tr>{% endfor %}</table>
<h2>Classes</h2>
<table><tr><th>class</th><th class="n">F1</th><th></th><th class="n">interval</th><th class="n">precision</th><th class="n">recall</th><th class="n">rows</th></tr>
{% for name, values in classes.items() %}<tr><td>{{ name }}</td><td class="n">{{ '%.3f'|format(values.f1.value) }}</td><td><span class="bar" style="width: {{ (values.f1.value * 9)|round(2) }}rem"></span></td>
<td class="n soft">{{ '%.3f – %.3f'|format(values.f1.low, values.f1.high) }}</td><td class="n">{{ '%.3f'|format(values.precision) }}</td><td class="n">{{ '%.3f'|format(values.recall) }}</td><td class="n">{{ values.support }}</td></tr>{% endfor %}</table>
<h2>Confusion</h2><p class="lead">Rows: the true class. Columns: what the model said, in the same order.</p>
<div class="wide"><table class="matrix"><tr><th></th>{% for name in names %}<th>{{ loop.index }}</th>{% endfor %}</tr>
{% for name in names %}{% set row = loop.index0 %}<tr><th>{{ loop.index }}: {{ name }}</th>{% for count in matrix[row] %}<td style="background: rgba(var(--fill), {{ (count / ([matrix[row]|sum, 1]|max) * 0.75)|round(3) }})">{{ count or '' }}</td>{% endfor %}</tr>{% endfor %}</table></div>
<h2>Wrong with most certainty</h2>
<table><tr><th>row</th><th>true class</th><th>model said</th><th class="n">probability</th><th></th></tr>
{% for item in mistakes %}<tr><td>{{ item.id }}</td><td>{{ item.actual }}</td><td>{{ item.predicted }}</td><td class="n">{{ '%.2f'|format(item.probability) }}</td>
<td class="text">{% if item.image %}<img alt="" src="data:image/png;base64,{{ item.image }}">{% else %}{{ item.content[:400] }}{% endif %}</td></tr>{% endfor %}</table>"""


def render(body: str, title: str, **values: Any) -> str:
    template = ENVIRONMENT.from_string(FRAME.replace("{% block body %}{% endblock %}", body))
    return template.render(title=title, **values)


def checks(title: str, rows: int, results: list[dict[str, Any]]) -> str:
    return render(CHECKS, title, rows=rows, results=results, passed=sum(result["success"] for result in results))


def evaluation(name: str, metrics: Any, classes: Any, matrix: list[list[int]], names: list[str], mistakes: list[dict[str, Any]]) -> str:
    for item in mistakes:
        if isinstance(item["content"], dict):
            item["content"] = ", ".join(f"{name} {cell}" for name, cell in item["content"].items() if cell is not None)
        item["image"] = base64.b64encode(item["content"]).decode() if isinstance(item["content"], bytes) else None
    rows = sum(map(sum, matrix))
    return render(EVALUATION, f"{name}: evaluation", metrics=metrics, classes=classes, matrix=matrix, names=names, mistakes=mistakes, rows=rows)
