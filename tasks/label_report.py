"""What label.report tells of labelling functions, for programs and as a page."""

from typing import Any

import numpy as np

from tasks import label_model, page

BODY = """<h1>{{ title }}</h1>
<p class="lead">{{ report.rows }} of {{ report.rows_in }} rows have a label; {{ report.review }} wait for a person in review.csv and review.labelstudio.json.
{% if report.answers.given %}People answered for {{ report.answers.given }} rows{% if report.answers.given > report.answers.used %}, of which {{ report.answers.given - report.answers.used }} are not in the data{% endif %}.{% endif %}{% if report.errors.found %} Labels that look wrong: {{ report.errors.found }}; their rows wait in the queue and were {{ {'flag': 'kept', 'drop': 'dropped', 'relabel': 'relabelled'}[report.errors.done] }}.{% endif %}</p>
{% for heading, shares in [('Where labels come from', report.sources), ('Classes', report.classes)] %}
<h2>{{ heading }}</h2>
<table>{% for name, count in shares.items() %}<tr><td>{{ name }}</td><td class="n">{{ count }}</td>
<td><span class="bar" style="width: {{ (count / report.rows * 24)|round(2) }}rem"></span></td></tr>{% endfor %}</table>
{% endfor %}
{% if report.functions %}
<h2>Labelling functions</h2>
<p class="lead">Label model: {{ report.model }}. Right: on rows whose label people, the source or a trusted function gave. Estimated: the label model's.</p>
<div class="wide"><table><tr><th>function</th><th>reads</th><th>votes for</th><th class="n">votes</th><th></th><th class="n">overlaps</th><th class="n">conflicts</th>
<th class="n">right</th><th></th><th class="n">estimated</th><th class="n">weight</th></tr>
{% for item in report.functions %}<tr><td>{{ loop.index0 }}: {{ item.kind }}{{ ' (trusted)' if item.trusted }}</td><td class="text">{{ item.reads[:200] }}</td><td>{{ item.label or 'any' }}</td>
<td class="n">{{ item.votes }}</td><td><span class="bar" style="width: {{ (item.coverage * 5)|round(2) }}rem"></span></td><td class="n">{{ item.overlaps }}</td>
<td class="n">{{ item.conflicts }}</td><td class="n">{% if item.gold %}{{ item.right }} of {{ item.gold }}{% endif %}</td>
<td>{% if item.gold %}<span class="bar" style="width: {{ (item.right / item.gold * 5)|round(2) }}rem"></span>{% endif %}</td>
<td class="n">{% if item.estimated is not none %}{{ '%.2f'|format(item.estimated) }}{% endif %}</td>
<td class="n">{% if item.weight is not none %}{{ '%.2f'|format(item.weight) }}{% endif %}</td></tr>{% endfor %}</table></div>
{% endif %}"""


def rendered(name: str, report: dict[str, Any]) -> str:
    return page.render(BODY, f"{name}: labels", report=report)


def functions(declared: list[Any], votes: label_model.Votes, stated: label_model.Votes, known: label_model.Votes, fitted: label_model.Fitted) -> list[Any]:
    """One entry per function. A trusted one is measured on what people and the source said alone, since the rest is its own word."""
    by_all, by_stated = label_model.counts(votes, known), label_model.counts(votes, stated)
    voters = [number for number, function in enumerate(declared) if not function.trusted]
    made = []
    for number, function in enumerate(declared):
        counted = (by_stated if function.trusted else by_all)[number]
        voter = voters.index(number) if number in voters else None
        estimated = None if voter is None or fitted.accuracy is None else rounded(fitted.accuracy[voter])
        about = {"kind": function.kind, "trusted": function.trusted, "reads": reads(function), "label": getattr(function, "label", None)}
        learned = {"estimated": estimated, "weight": None if voter is None else rounded(fitted.weight[voter])}
        made.append({**about, **counted, "coverage": rounded(counted["votes"] / max(len(votes), 1)), **learned})
    return made


def reads(function: Any) -> str:
    """What tells a function from others of its kind: its pattern, words, examples, file or folder."""
    value = next(getattr(function, name) for name in ("pattern", "words", "examples", "file", "path") if hasattr(function, name))
    return value if isinstance(value, str) else ", ".join(value)


def rounded(value: float) -> float:
    return float(np.round(value, 4))
