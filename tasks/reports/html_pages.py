"""Self-contained HTML pages: everything inside the file, so that they open offline; light and dark."""

import base64
import difflib
import os
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
MAX_SHOWN_CHARACTERS = 600  # characters of an example
CONTEXT_CHARACTERS = 60  # of them before its first difference


def render_page(name: str, title: str, **values: Any) -> str:
    """The page made from pages/<name>.html."""
    return TEMPLATES.get_template(f"{name}.html").render(title=title, **values)


def format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


TEMPLATES.globals["shown"] = format_value


def format_row(row: Any) -> str:
    """A row of a table in words, a text as it is."""
    return (
        ", ".join(
            f"{name} {'–' if cell is None else format_value(cell)}" for name, cell in row.items()
        )
        if isinstance(row, dict)
        else str(row)
    )


def render_evaluation(name: str, mistakes: list[dict[str, Any]], **values: Any) -> str:
    for item in mistakes:
        item["image"] = (
            base64.b64encode(item["content"]).decode()
            if isinstance(item["content"], bytes)
            else None
        )
        item["content"] = format_row(item["content"])
    return render_page(
        "evaluation", f"{name}: evaluation", mistakes=mistakes, contents=[], **values
    )


def highlight_differences(before: Any, after: Any) -> tuple[Markup, Markup]:
    """Two texts word by word, with <del> around what is only in the first and <ins> around what is only in the second."""
    old, new = ("" if value is None else str(value) for value in (before, after))
    start = max(0, len(os.path.commonprefix([old, new])) - CONTEXT_CHARACTERS)
    ends = ["…" if len(text) > start + MAX_SHOWN_CHARACTERS else "" for text in (old, new)]
    words = [
        re.findall(
            r"</?[a-zA-Z][^<>]*>|&#?\w+;|\w+|.",
            text[start : start + MAX_SHOWN_CHARACTERS],
            re.DOTALL,
        )
        for text in (old, new)
    ]
    sides: list[list[Markup]] = [[Markup("…")] if start else [], [Markup("…")] if start else []]
    for kind, i, j, k, m in difflib.SequenceMatcher(
        None, words[0], words[1], autojunk=False
    ).get_opcodes():
        for side, found, tag in (
            (0, words[0][i:j], Markup("<del>{}</del>")),
            (1, words[1][k:m], Markup("<ins>{}</ins>")),
        ):
            text = "".join(found)
            if text:
                sides[side].append(
                    escape(text) if kind == "equal" else tag.format(make_visible(text))
                )
    return Markup("").join([*sides[0], ends[0]]), Markup("").join([*sides[1], ends[1]])


TEMPLATES.globals["differences"] = highlight_differences


def make_visible(text: str) -> str:
    """White space and characters that show nothing, in a form that does."""
    named = {" ": "·", "\n": "↵\n", "\t": "⇥"}
    return "".join(
        named.get(letter) or (letter if letter.isprintable() else f"⟨{ord(letter):04X}⟩")
        for letter in text
    )
