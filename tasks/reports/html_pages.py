"""Self-contained HTML pages: everything is inside the file, so that they open offline."""

import base64
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tasks.rows import image_decoding

MAX_SHOWN_CHARACTERS = 600  # of an example
CONTEXT_CHARACTERS = 60  # before the first difference
ELLIPSIS = Markup("…")
# An HTML tag, an entity, a word or a single character.
WORDS = re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w+;|\w+|.", re.DOTALL)
VISIBLE_SPACES = {" ": "·", "\n": "↵\n", "\t": "⇥"}


def format_value(value: Any) -> str:
    """Write a number with four significant digits, and anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_row(row: Any) -> str:
    """Write a row of a table as names with their values, and a text as it is."""
    if not isinstance(row, dict):
        return str(row)
    return ", ".join(format_named_cell(name, cell) for name, cell in row.items())


def format_named_cell(name: str, cell: Any) -> str:
    """Write a column's name and its value."""
    return f"{name} {'–' if cell is None else format_value(cell)}"


def highlight_differences(before: Any, after: Any) -> tuple[Markup, Markup]:
    """Compare two texts word by word; long texts are cut around the first difference.

    Returns:
        The first text with `<del>` around what only it has, and the second with `<ins>`.
    """
    old = "" if before is None else str(before)
    new = "" if after is None else str(after)
    n_common = len(os.path.commonprefix([old, new]))  # noqa: RUF071  (any texts, not paths)
    start = max(0, n_common - CONTEXT_CHARACTERS)
    old_words = WORDS.findall(old[start : start + MAX_SHOWN_CHARACTERS])
    new_words = WORDS.findall(new[start : start + MAX_SHOWN_CHARACTERS])
    old_parts: list[Markup] = []
    new_parts: list[Markup] = []
    matcher = difflib.SequenceMatcher(None, old_words, new_words, autojunk=False)
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        is_equal = kind == "equal"
        old_parts.append(mark_words(old_words[old_start:old_end], "del", is_equal=is_equal))
        new_parts.append(mark_words(new_words[new_start:new_end], "ins", is_equal=is_equal))
    return join_excerpt(old_parts, old, start), join_excerpt(new_parts, new, start)


def mark_words(words: Iterable[str], tag: str, *, is_equal: bool) -> Markup:
    """Put a tag around words that only one of two texts has."""
    text = "".join(words)
    if is_equal or not text:
        return escape(text)
    return Markup("<{0}>{1}</{0}>").format(tag, make_visible(text))


def join_excerpt(parts: Iterable[Markup], text: str, start: int) -> Markup:
    """Join the parts of an excerpt, with an ellipsis where the text was cut."""
    before = ELLIPSIS if start else Markup()
    after = ELLIPSIS if len(text) > start + MAX_SHOWN_CHARACTERS else Markup()
    return Markup().join([before, *parts, after])


def make_visible(text: str) -> str:
    """Replace white space and invisible characters by visible ones."""
    return "".join(map(make_character_visible, text))


def make_character_visible(character: str) -> str:
    """Replace a character that is not visible by one that is, or by its code point."""
    if character in VISIBLE_SPACES:
        return VISIBLE_SPACES[character]
    return character if character.isprintable() else f"⟨{ord(character):04X}⟩"


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.globals["format_value"] = format_value
TEMPLATES.globals["highlight_differences"] = highlight_differences


def render_page(name: str, title: str, **values: Any) -> str:
    """Render the page templates/<name>.html."""
    return TEMPLATES.get_template(f"{name}.html").render(title=title, **values)


def render_evaluation(name: str, mistakes: list[dict[str, Any]], **values: Any) -> str:
    """Render the report of an evaluation.

    Args:
        name: The recipe's name.
        mistakes: The worst rows, whose `content` is a text, a table's row or an image.
        values: What else the template shows.
    """
    shown = []
    for mistake in mistakes:
        content = mistake["content"]
        image = None
        if isinstance(content, bytes):
            image = base64.b64encode(image_decoding.encode_for_browser(content)[1]).decode()
        shown.append({**mistake, "content": format_row(content), "image": image})
    title = f"{name}: evaluation"
    return render_page("evaluation", title, mistakes=shown, contents=[], **values)
