"""Rules for texts: what is undone, taken off and made alike, and which texts are dropped."""

import html
import re
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series

from tasks.core.errors import ConfigError

BLOCK_TAGS = "address|article|aside|blockquote|body|br|caption|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|head|header|hr|html|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul"
INLINE_TAGS = "a|abbr|acronym|b|big|center|cite|code|del|dfn|em|fullname|font|i|img|input|ins|kbd|label|link|mark|meta|note|important|option|q|s|samp|select|small|span|strike|strong|sub|sup|textarea|tt|u|var"

# What is seen by nobody and splits words that look whole. The joiners U+200C and U+200D stay: Persian, Indic scripts and emoji need them.
INVISIBLE_CHARACTERS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2069}\x{feff}\x{fff9}-\x{fffc}\x{e0000}-\x{e007f}"
ASCII_RUN = re.compile(r"(?<=[\x00-\x7f]{4})[\x00-\x7f]+(?=[\x00-\x7f]{4})")


def map_where(texts: pa.Array, mask: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """The texts, those under the mask changed: work in Python for those alone that may need it."""
    mask = pc.fill_null(mask, False)
    return pc.replace_with_mask(
        texts, mask, pa.array([change(text) for text in texts.filter(mask).to_pylist()], texts.type)
    )


def has_non_ascii(texts: pa.Array) -> pa.Array:
    return pc.not_equal(pc.binary_length(texts), pc.utf8_length(texts))


@daft.func.batch(return_dtype=DataType.string())
def fix_encoding(text: Series) -> pa.Array:
    """Mojibake undone (Speer, ftfy). It never is in ASCII, and shows next to a character that is not."""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    texts = text.to_arrow()
    return map_where(
        texts,
        has_non_ascii(texts),
        lambda value: fix_encoding(value) if is_bad(ASCII_RUN.sub("", value)) else value,
    )


@daft.func.batch(return_dtype=DataType.string())
def unescape_entities(text: Series, original: Series) -> pa.Array:
    """Entities become characters where tags were found; elsewhere `&lt;` is what its writer meant."""
    texts = text.to_arrow()
    return map_where(
        texts,
        pc.and_(pc.not_equal(texts, original.to_arrow()), pc.match_substring(texts, "&")),
        html.unescape,
    )


@daft.func.batch(return_dtype=DataType.string())
def normalize_unicode(text: Series) -> pa.Array:
    """Unicode NFC, so that letters which look alike because they are alike are equal."""
    texts = text.to_arrow()
    return map_where(texts, has_non_ascii(texts), partial(unicodedata.normalize, "NFC"))


def strip_html(text: Expression) -> Expression:
    """Tags that HTML has go; `List<String>` and `<your key>` stay."""
    plain = text.regexp_replace(r"(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->", " ")
    plain = plain.regexp_replace(rf"(?i)</?(?:{BLOCK_TAGS})(?:\s[^<>]*)?/?>", "\n").regexp_replace(
        rf"(?i)</?(?:{INLINE_TAGS})(?:\s[^<>]*)?/?>", ""
    )
    return unescape_entities(plain, text)


def strip_invisible(text: Expression) -> Expression:
    """Control characters, zero-width ones, soft hyphens, marks of direction and tags go."""
    return text.regexp_replace(f"[{INVISIBLE_CHARACTERS}]+", "")


def normalize_white_space(text: Expression) -> Expression:
    """Control characters go, runs of blanks become one blank, three and more line breaks become two."""
    text = text.regexp_replace(r"\r\n?", "\n").regexp_replace(
        r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]", ""
    )
    # each pattern matches only what has to change, not every blank
    return (
        text.regexp_replace(r" [^\S\n]+|[^\S\n ][^\S\n]*", " ")
        .regexp_replace(r" \n ?|\n ", "\n")
        .regexp_replace(r"\n{3,}", "\n\n")
        .strip()
    )


def reject_length(table: pa.Table, min: int, max: int) -> list[str | None]:
    sizes = pc.fill_null(pc.utf8_length(table["text"]), 0).to_pylist()
    return [
        f"{size} characters; allowed are {min} to {max}" if not min <= size <= max else None
        for size in sizes
    ]


def reject_language(
    table: pa.Table, allow: list[str], min_length: int, probability: float
) -> list[str | None]:
    """Texts whose language, told with at least this probability, is not allowed (Lui and Baldwin 2012, langid). Short and undecided ones stay."""
    identifier = load_language_identifier()
    if unknown := [code for code in allow if code not in identifier.labels]:
        raise ConfigError(
            f"language.allow: {unknown[0]!r} is not a language that can be told; give the codes of ISO 639-1, such as en, de or zh."
        )
    reasons: list[str | None] = []
    for text in table["text"].to_pylist():
        name, certainty = (
            identifier.classify(text) if text and len(text) >= min_length else ("", 0.0)
        )
        told = certainty >= probability and name not in allow
        reasons.append(
            f"{name} with probability {certainty:.2f}; allowed are {', '.join(allow)}"
            if told
            else None
        )
    return reasons


@cache
def load_language_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
