"""Rules for texts: what is undone, taken off and made alike, and which texts are dropped."""

import html
import unicodedata

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series

from tasks import duplicates
from tasks.cleaning.rule import Reasons, Rule

BLOCK = "address|article|aside|blockquote|body|br|caption|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|head|header|hr|html|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul"
INLINE = "a|abbr|acronym|b|big|center|cite|code|del|dfn|em|fullname|font|i|img|input|ins|kbd|label|link|mark|meta|note|important|option|q|s|samp|select|small|span|strike|strong|sub|sup|textarea|tt|u|var"
# Rust's regular expressions have no look-around, and need none here.
EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
CARD = r"\b(?:\d{4}[ -]?){3}\d{4}\b"
IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
IP = r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"
PHONE = r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\b\d{2,4}[ .-])\d{3,4}[ .-]\d{3,4}\b"


@daft.func.batch(return_dtype=DataType.string())
def mended(text: Series) -> list[str | None]:
    """Mojibake undone (Speer, ftfy)."""
    import ftfy

    return [None if value is None else ftfy.fix_encoding(value) for value in text.to_pylist()]


@daft.func.batch(return_dtype=DataType.string())
def unescaped(text: Series, original: Series) -> list[str | None]:
    """Entities become characters where tags were found; elsewhere `&lt;` is what its writer meant."""
    pairs = zip(text.to_pylist(), original.to_pylist(), strict=True)
    return [value if value is None or value == before else html.unescape(value) for value, before in pairs]


@daft.func.batch(return_dtype=DataType.string())
def composed(text: Series) -> list[str | None]:
    """Unicode NFC, so that letters which look alike because they are alike are equal."""
    return [None if value is None else unicodedata.normalize("NFC", value) for value in text.to_pylist()]


def html_to_text(text: Expression) -> Expression:
    """Tags that HTML has go; `List<String>` and `<your key>` stay."""
    plain = text.regexp_replace(r"(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->", " ")
    plain = plain.regexp_replace(rf"(?i)</?(?:{BLOCK})(?:\s[^<>]*)?/?>", "\n").regexp_replace(rf"(?i)</?(?:{INLINE})(?:\s[^<>]*)?/?>", "")
    return unescaped(plain, text)


def single_spaces(text: Expression) -> Expression:
    """Control characters go, runs of blanks become one blank, three and more line breaks become two."""
    text = text.regexp_replace(r"\r\n?", "\n").regexp_replace(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]", "")
    return text.regexp_replace(r"[^\S\n]+", " ").regexp_replace(r" ?\n ?", "\n").regexp_replace(r"\n{3,}", "\n\n").regexp_replace(r"^\s+|\s+$", "")


def masked(text: Expression) -> Expression:
    """Personal data with a recognisable form becomes the name of its kind in brackets."""
    for kind, pattern in (("email", EMAIL), ("card", CARD), ("iban", IBAN), ("ip", IP), ("phone", PHONE)):
        text = text.regexp_replace(pattern, f"[{kind}]")
    return text


def length(table: pa.Table, min: int, max: int) -> Reasons:
    sizes = pc.fill_null(pc.utf8_length(table["text"]), 0).to_pylist()
    return [f"{size} characters; allowed are {min} to {max}" if not min <= size <= max else None for size in sizes]


def near_duplicates(table: pa.Table, threshold: float) -> Reasons:
    """Rows whose text is nearly that of a row that stays and comes before it by id."""
    ids = table["id"].to_pylist()
    reasons: Reasons = [None] * table.num_rows
    for kept, other, similarity in sorted(duplicates.near_pairs(table["text"].to_pylist(), threshold), key=lambda pair: (pair[1], pair[0])):
        if reasons[kept] is None and reasons[other] is None:
            reasons[other] = f"{similarity:.0%} like {ids[kept]}"
    return reasons


RULES = {
    "encoding": Rule("text", mended),
    "html": Rule("text", html_to_text),
    "unicode": Rule("text", composed),
    "white_space": Rule("text", single_spaces),
    "personal_data": Rule("text", masked),
    "length": Rule("filter", length),
    "near_duplicates": Rule("filter", near_duplicates, whole=True),
}
