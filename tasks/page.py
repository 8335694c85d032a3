"""Self-contained HTML pages: everything inside the file, so that they open offline; light and dark."""

import base64
import difflib
import os
import re
from typing import Any

import jinja2
from markupsafe import Markup, escape

ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)

FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e6ec; --card: #ffffff; --page: #f6f7f9; --good: #137752; --bad: #b42318; --warn: #9a6700; --fill: 37, 99, 190; --cut: 217, 72, 65; --put: 24, 150, 104; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3340; --card: #171b23; --page: #0f1218; --good: #4cc38a; --bad: #ff7b72; --warn: #e2b93b; --fill: 96, 160, 255; --cut: 240, 100, 92; --put: 60, 190, 135; } }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem } p.lead { color: var(--soft); margin: 0 0 1rem }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); border-radius: 6px } div.wide { overflow-x: auto }
th, td { padding: .4rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top } th { color: var(--soft); font-weight: 600; font-size: .85rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } td.text { white-space: pre-wrap; overflow-wrap: anywhere } .soft { color: var(--soft) }
.pass { color: var(--good); font-weight: 600 } .fail { color: var(--bad); font-weight: 600 } .warn { color: var(--warn); font-weight: 600 }
table.matrix td { text-align: center; padding: .3rem; min-width: 1.6rem; font-size: .85rem } table.matrix th { font-weight: 500; font-size: .78rem; white-space: nowrap } img { image-rendering: pixelated; width: 48px }
del { background: rgba(var(--cut), .18); color: var(--bad); text-decoration: none } ins { background: rgba(var(--put), .2); color: var(--good); text-decoration: none } td.half { width: 46% } td.row { width: 8%; min-width: 6.5rem; overflow-wrap: anywhere }
.bar.cut { background: rgb(var(--cut)) } h2 .soft { font-weight: 400; font-size: .9rem } a { color: rgb(var(--fill)) }
.bar { display: inline-block; height: .55rem; background: rgb(var(--fill)); border-radius: 2px; vertical-align: middle }
</style></head><body>
{% block body %}{% endblock %}
</body></html>"""

CHECKS = """<h1>{{ title }}</h1>
<p class="lead">{{ counts.holds }} of {{ results|length }} expectations hold on {{ rows }} rows{% if counts.fails %}; <span class="fail">{{ counts.fails }} fail</span>, so the run stopped here{% endif %}{% if counts.warns %}; <span class="warn">{{ counts.warns }} warn</span>{% endif %}.
{% if results|selectattr('ids')|list %}The ids of the rows concerned are in <a href="failing.parquet">failing.parquet</a>, by the number of the expectation.{% endif %}</p>
{% for note in notes %}<p class="soft">{{ note }}</p>{% endfor %}
{% for of, heading in (('recipe', 'From the recipe'), ('split', 'The split'), ('drift', 'Against the last accepted snapshot')) if results|selectattr('of', 'equalto', of)|list %}
<h2>{{ heading }}</h2>
<div class="wide"><table><tr><th class="n"></th><th>expectation</th><th>arguments</th><th>result</th><th class="n">found</th>{% if of == 'drift' %}<th></th>{% endif %}<th>examples</th>{% if of != 'drift' %}<th class="n">ids</th>{% endif %}</tr>
{% for result in results if result.of == of %}<tr><td class="n soft">{{ result.number }}</td><td>{{ result.expectation }}</td><td class="soft">{% for name, value in result.arguments.items() %}{{ name }}: {{ value }}{{ ', ' if not loop.last }}{% endfor %}</td>
<td class="{{ {'holds': 'pass', 'fails': 'fail', 'warns': 'warn'}[result.outcome] }}">{{ result.outcome }}</td><td class="n" style="white-space: nowrap">{% if result.unexpected %}{{ result.unexpected }} unexpected{% elif result.observed is not none %}{{ result.observed }}{% endif %}</td>
{% if of == 'drift' %}<td>{% if 'chance' in result %}<span class="bar" style="width: {{ ([result.observed / result.arguments.max_value, 3]|min * 2)|round(2) }}rem{{ '' if result.success else '; background: var(--' ~ ('bad' if result.outcome == 'fails' else 'warn') ~ ')' }}" title="population stability index of the {{ result.kind }}; by chance below {{ result.chance }}"></span>{% endif %}</td>{% endif %}
<td class="text">{{ result.examples|join(', ') }}</td>{% if of != 'drift' %}<td class="n">{% if result.ids %}<a href="failing.parquet">{{ result.ids }}</a>{% elif not result.success and result.ids is none %}<span class="soft">{{ 'not found' if of == 'recipe' and result.unexpected is not none else 'of no single rows' }}</span>{% endif %}</td>{% endif %}</tr>
{% endfor %}</table></div>{% endfor %}"""

EVALUATION = """<h1>{{ title }}</h1>
<p class="lead">The exported model on {{ rows }} test rows that it has not seen, beside a baseline fitted on the same split. Intervals: stratified bootstrap.</p>
<table><tr><th>metric</th><th class="n">model</th><th class="n">interval</th><th class="n">baseline</th><th class="n">interval</th></tr>
{% for name, model in metrics.model.items() %}{% set base = metrics.baseline[name] %}<tr><td>{{ name }}</td><td class="n"><b>{{ '%.4f'|format(model.value) }}</b></td>
<td class="n soft">{{ '%.4f – %.4f'|format(model.low, model.high) }}</td><td class="n">{{ '%.4f'|format(base.value) }}</td><td class="n soft">{{ '%.4f – %.4f'|format(base.low, base.high) }}</td></tr>{% endfor %}</table>
{% if steps %}<h2>Compression</h2><p class="lead">On the validation split, which chose the model's weights. The last line is the model that is scored above.</p>
<table><tr><th>model</th><th class="n">KB</th>{% for name in metrics.model %}<th class="n">{{ name }}</th>{% endfor %}</tr>
{% for step in steps %}<tr><td>{{ step.model }}</td><td class="n">{{ '{:,.0f}'.format(step.bytes / 1000) }}</td>{% for name in metrics.model %}<td class="n">{{ '%.4f'|format(step[name]) }}{% if step != steps[0] %} <span class="soft">{{ '%+.4f'|format(step[name] - steps[0][name]) }}</span>{% endif %}</td>{% endfor %}</tr>{% endfor %}</table>{% endif %}
{% if samples %}<h2>Samples</h2><p class="lead">How the exported model goes on from the prompts of test rows (greedy decoding), beside what they say.</p>
<div class="wide"><table><tr><th>prompt</th><th>the model</th><th>the row</th></tr>
{% for item in samples %}<tr><td class="text">{{ item.prompt }}</td><td class="text half">{{ item.said }}</td><td class="text half">{{ item.text|truncate(1000, end='…') }}</td></tr>{% endfor %}</table></div>{% endif %}
{% if classes %}<h2>Classes</h2>
<table><tr><th>class</th><th class="n">F1</th><th></th><th class="n">interval</th><th class="n">precision</th><th class="n">recall</th><th class="n">rows</th></tr>
{% for name, values in classes.items() %}<tr><td>{{ name }}</td><td class="n">{{ '%.3f'|format(values.f1.value) }}</td><td><span class="bar" style="width: {{ (values.f1.value * 9)|round(2) }}rem"></span></td>
<td class="n soft">{{ '%.3f – %.3f'|format(values.f1.low, values.f1.high) }}</td><td class="n">{{ '%.3f'|format(values.precision) }}</td><td class="n">{{ '%.3f'|format(values.recall) }}</td><td class="n">{{ values.support }}</td></tr>{% endfor %}</table>
<h2>Confusion</h2><p class="lead">Rows: the true class. Columns: what the model said, in the same order.</p>
<div class="wide"><table class="matrix"><tr><th></th>{% for name in names %}<th>{{ loop.index }}</th>{% endfor %}</tr>
{% for name in names %}{% set row = loop.index0 %}<tr><th>{{ loop.index }}: {{ name }}</th>{% for count in matrix[row] %}<td style="background: rgba(var(--fill), {{ (count / ([matrix[row]|sum, 1]|max) * 0.75)|round(3) }})">{{ count or '' }}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% endif %}{% if mistakes %}<h2>Wrong with most certainty</h2>
<table><tr><th>row</th><th>true class</th><th>model said</th><th class="n">probability</th><th></th></tr>
{% for item in mistakes %}<tr><td>{{ item.id }}</td><td>{{ item.actual }}</td><td>{{ item.predicted }}</td><td class="n">{{ '%.2f'|format(item.number) }}</td>
<td class="text">{% if item.image %}<img alt="" src="data:image/png;base64,{{ item.image }}">{% else %}{{ item.content|truncate(400, end='…') }}{% endif %}</td></tr>{% endfor %}</table>{% endif %}"""

CLEANING = """<h1>{{ title }}</h1>
<p class="lead">{{ '{:,}'.format(rows_in) }} rows in, {{ '{:,}'.format(rows) }} out, {{ '{:,}'.format(rejects) }} set aside{% if rows_in %} ({{ '%.2f'|format(100 * rejects / rows_in) }} %){% endif %}. Rules in the order in which they were applied.</p>
<div class="wide"><table><tr><th>rule</th><th class="n">rows changed</th><th></th><th class="n">rows rejected</th><th></th></tr>
{% for rule in rules %}<tr><td>{% if rule.examples %}<a href="#{{ loop.index }}">{{ rule.rule }}</a>{% else %}{{ rule.rule }}{% endif %}</td>
<td class="n{{ '' if rule.changed else ' soft' }}">{{ '{:,}'.format(rule.changed) }}</td><td>{{ bar(rule.changed, '') }}</td>
<td class="n{{ '' if rule.rejected else ' soft' }}">{{ '{:,}'.format(rule.rejected) }}</td><td>{{ bar(rule.rejected, 'cut') }}</td></tr>{% endfor %}</table></div>
{% for rule in rules if rule.examples %}<h2 id="{{ loop.index }}">{{ rule.rule }} <span class="soft">{% if rule.changed %}changed {{ '{:,}'.format(rule.changed) }}{% endif %}{{ ', ' if rule.changed and rule.rejected }}{% if rule.rejected %}rejected {{ '{:,}'.format(rule.rejected) }}{% endif %}</span></h2>
{% set changed = rule.examples|selectattr('before', 'defined')|list %}{% set rejected = rule.examples|selectattr('detail', 'defined')|list %}
{% if changed %}<div class="wide"><table><tr><th>row</th><th>before</th><th>after</th></tr>
{% for item in changed %}<tr><td class="row">{{ item.id }}{% if item.column and item.column != 'text' %}<br><span class="soft">{{ item.column }}</span>{% endif %}</td>{% for side in differences(item.before, item.after) %}<td class="text half">{{ side }}</td>{% endfor %}</tr>{% endfor %}</table></div>{% endif %}
{% if rejected %}<div class="wide"><table><tr><th>row</th><th>why it was rejected</th></tr>
{% for item in rejected %}<tr><td class="row">{{ item.id }}</td><td class="text">{{ item.detail }}</td></tr>{% endfor %}</table></div>{% endif %}{% endfor %}"""
SHOWN = 600  # characters of an example
AROUND = 60  # of them before its first difference


def render(body: str, title: str, **values: Any) -> str:
    template = ENVIRONMENT.from_string(FRAME.replace("{% block body %}{% endblock %}", body))
    return template.render(title=title, **values)


def checks(title: str, rows: int, results: list[dict[str, Any]], notes: list[str]) -> str:
    def outcome(result: dict[str, Any]) -> str:
        return "holds" if result["success"] else "warns" if result["severity"] == "warn" else "fails"

    shown = [{**result, "number": number, "outcome": outcome(result)} for number, result in enumerate(results)]
    counts = {word: sum(result["outcome"] == word for result in shown) for word in ("holds", "warns", "fails")}
    return render(CHECKS, title, rows=rows, results=shown, counts=counts, notes=notes)


def evaluation(
    name: str,
    metrics: Any,
    classes: Any,
    matrix: list[list[int]],
    names: list[str],
    mistakes: list[dict[str, Any]],
    steps: list[dict[str, Any]],
    samples: list[dict[str, str]],
) -> str:
    for item in mistakes:
        if isinstance(item["content"], dict):
            item["content"] = ", ".join(f"{name} {cell}" for name, cell in item["content"].items() if cell is not None)
        item["image"] = base64.b64encode(item["content"]).decode() if isinstance(item["content"], bytes) else None
    rows = sum(map(sum, matrix))
    return render(
        EVALUATION,
        f"{name}: evaluation",
        metrics=metrics,
        classes=classes,
        matrix=matrix,
        names=names,
        mistakes=mistakes,
        rows=rows,
        steps=steps,
        samples=samples,
    )


def cleaning(title: str, report: dict[str, Any]) -> str:
    """What each cleaning rule did, from the report of the step, with what it changed marked."""
    most = max((max(rule["changed"], rule["rejected"]) for rule in report["rules"]), default=0) or 1
    rules = [{**rule, "examples": [{"column": None, **item} for item in rule["examples"]]} for rule in report["rules"]]

    def bar(count: int, kind: str) -> Markup:
        return Markup('<span class="bar {}" style="width: {}rem"></span>').format(kind, round(max(9 * count / most, 0.15), 2)) if count else Markup()

    return render(CLEANING, title, **{**report, "rules": rules}, bar=bar, differences=differences)


def differences(before: Any, after: Any) -> tuple[Markup, Markup]:
    """Two texts word by word, with <del> around what is only in the first and <ins> around what is only in the second."""
    old, new = ("" if value is None else str(value) for value in (before, after))
    start = max(0, len(os.path.commonprefix([old, new])) - AROUND)
    ends = ["…" if len(text) > start + SHOWN else "" for text in (old, new)]
    words = [re.findall(r"</?[a-zA-Z][^<>]*>|&#?\w+;|\w+|.", text[start : start + SHOWN], re.DOTALL) for text in (old, new)]
    sides: list[list[Markup]] = [[Markup("…")] if start else [], [Markup("…")] if start else []]
    for kind, i, j, k, m in difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        for side, found, tag in ((0, words[0][i:j], Markup("<del>{}</del>")), (1, words[1][k:m], Markup("<ins>{}</ins>"))):
            text = "".join(found)
            if text:
                sides[side].append(escape(text) if kind == "equal" else tag.format(visible(text)))
    return Markup("").join([*sides[0], ends[0]]), Markup("").join([*sides[1], ends[1]])


def visible(text: str) -> str:
    """White space and characters that show nothing, in a form that does."""
    named = {" ": "·", "\n": "↵\n", "\t": "⇥"}
    return "".join(named.get(letter) or (letter if letter.isprintable() else f"⟨{ord(letter):04X}⟩") for letter in text)
