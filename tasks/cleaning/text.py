"""Rules for texts: five that change characters, and two that reject texts."""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series

from tasks.cleaning.rules import Reasons, row_rule, text_rule
from tasks.core.errors import ConfigError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Tags that end a line, and tags within one.
BLOCK_TAGS = (
    "address|article|aside|blockquote|body|br|caption|dd|div|dl|dt|fieldset|figure|footer|form"
    "|h[1-6]|head|header|hr|html|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead"
    "|title|tr|ul"
)
INLINE_TAGS = (
    "a|abbr|acronym|b|big|center|cite|code|del|dfn|em|fullname|font|i|img|input|ins|kbd|label"
    "|link|mark|meta|note|important|option|q|s|samp|select|small|span|strike|strong|sub|sup"
    "|textarea|tt|u|var"
)
# Characters that nobody sees and that split words which look whole. The joiners U+200C and
# U+200D stay: Persian, Indic scripts and emoji need them.
INVISIBLE_CHARACTERS = (
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{200b}\x{200e}\x{200f}"
    r"\x{202a}-\x{202e}\x{2060}-\x{2069}\x{feff}\x{fff9}-\x{fffc}\x{e0000}-\x{e007f}"
)
ASCII_RUN = re.compile(r"(?<=[\x00-\x7f]{4})[\x00-\x7f]+(?=[\x00-\x7f]{4})")


def map_where(texts: pa.Array, mask: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """Change the texts under the mask, so that Python sees only texts that may need it."""
    mask = pc.fill_null(mask, fill_value=False)
    changed = [change(text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(changed, texts.type))


def has_non_ascii(texts: pa.Array) -> pa.Array:
    """Return a mask of the texts with characters beyond ASCII."""
    return pc.not_equal(pc.binary_length(texts), pc.utf8_length(texts))


@text_rule("encoding")
@daft.func.batch(return_dtype=DataType.string())
def fix_encoding(text: Series) -> pa.Array:
    """Undo mojibake (Speer, ftfy)."""
    texts = text.to_arrow()
    return map_where(texts, has_non_ascii(texts), undo_mojibake)


def undo_mojibake(text: str) -> str:
    """Decode a text anew if it looks wrongly decoded.

    Only characters near one that is not ASCII decide that, so long runs of ASCII are left out.
    """
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return fix_encoding(text) if is_bad(ASCII_RUN.sub("", text)) else text


@text_rule("unicode")
@daft.func.batch(return_dtype=DataType.string())
def normalize_unicode(text: Series) -> pa.Array:
    """Convert to Unicode NFC, so that equal letters are equal characters."""
    texts = text.to_arrow()
    return map_where(texts, has_non_ascii(texts), partial(unicodedata.normalize, "NFC"))


@text_rule("html")
def strip_html(text: Expression) -> Expression:
    """Remove the tags that HTML has; `List<String>` and `<your key>` stay."""
    plain = text.regexp_replace(r"(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->", " ")
    plain = plain.regexp_replace(rf"(?i)</?(?:{BLOCK_TAGS})(?:\s[^<>]*)?/?>", "\n")
    plain = plain.regexp_replace(rf"(?i)</?(?:{INLINE_TAGS})(?:\s[^<>]*)?/?>", "")
    return unescape_entities(plain, text)


@daft.func.batch(return_dtype=DataType.string())
def unescape_entities(text: Series, original: Series) -> pa.Array:
    """Replace entities in texts that had tags; in other texts their writer meant `&lt;`."""
    texts = text.to_arrow()
    had_tags = pc.not_equal(texts, original.to_arrow())
    has_entities = pc.match_substring(texts, "&")
    return map_where(texts, pc.and_(had_tags, has_entities), html.unescape)


@text_rule("control")
def strip_invisible(text: Expression) -> Expression:
    """Remove characters that show nothing: controls, soft hyphens, direction marks, tags."""
    return text.regexp_replace(f"[{INVISIBLE_CHARACTERS}]+", "")


@text_rule("white_space")
def normalize_white_space(text: Expression) -> Expression:
    """Collapse runs of blanks to one and of line breaks to two; remove control characters."""
    text = text.regexp_replace(r"\r\n?", "\n")
    text = text.regexp_replace(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]", "")
    # Each pattern matches only what has to change, not every blank.
    text = text.regexp_replace(r" [^\S\n]+|[^\S\n ][^\S\n]*", " ")
    text = text.regexp_replace(r" \n ?|\n ", "\n")
    text = text.regexp_replace(r"\n{3,}", "\n\n")
    return text.strip()


@row_rule("length")
def reject_length(table: pa.Table, min: int, max: int) -> Reasons:  # noqa: A002
    """Reject texts with fewer than `min` or more than `max` characters."""
    reasons: Reasons = []
    for size in pc.fill_null(pc.utf8_length(table["text"]), 0).to_pylist():
        is_allowed = min <= size <= max
        reasons.append(None if is_allowed else f"{size} characters; allowed are {min} to {max}")
    return reasons


@row_rule("language")
def reject_language(
    table: pa.Table, allow: Sequence[str], min_length: int, probability: float
) -> Reasons:
    """Reject texts that are surely in another language (Lui and Baldwin 2012, langid).

    Args:
        table: Rows with a column `text`.
        allow: The codes of the languages that stay, such as en.
        min_length: Shorter texts stay.
        probability: Texts whose language is less probable stay.

    Raises:
        ConfigError: The identifier does not know one of the languages.
    """
    identifier = load_language_identifier()
    for code in allow:
        if code not in identifier.labels:
            raise ConfigError(
                f"language.allow: {code!r} is not a language that can be identified; "
                f"give the codes of ISO 639-1, such as en, de or zh."
            )
    reasons: Reasons = []
    for text in table["text"].to_pylist():
        reason = None
        if text and len(text) >= min_length:
            language, certainty = identifier.classify(text)
            if certainty >= probability and language not in allow:
                reason = describe_language(language, certainty, allow)
        reasons.append(reason)
    return reasons


def describe_language(language: str, certainty: float, allow: Sequence[str]) -> str:
    """Describe why a text goes."""
    return f"{language} with probability {certainty:.2f}; allowed are {', '.join(allow)}"


@cache
def load_language_identifier() -> "LanguageIdentifier":
    """Load the model that the package carries."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
