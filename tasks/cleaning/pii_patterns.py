"""Patterns of personal data, and hints without which a text holds none."""

import re

# The labels of spaCy's models, by our kind.
SPACY_LABELS = {
    "person": {"PERSON", "PER"},
    "place": {"GPE", "LOC"},
}
# Letters of Thai, Lao, Chinese, Japanese and Korean, which are written without spaces.
UNSPACED_LETTERS = re.compile(
    "[\u0e00-\u0eff\u2e80-\u2fff\u3005-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
PHONE_PATTERN = r"""(?x) (?<![\w.+/:#$€£-])
(?:
  # with the country's code
    (?:\+|00)\d{1,3} [ .-]? (?:\(0\)[ .-]?)? (?:\(\d{1,4}\)[ .-]?)? \d{1,5} (?:[ .-]\d{2,5}){1,4}
  # area code in brackets
  | \(\d{1,4}\) [ .-]? \d{2,5} (?:[ .-]\d{2,5}){1,3}
  # North America, and without the area code
  | (?:1[ .-])? \d{3}[ .-]\d{3}[ .-]\d{4} | [2-9]\d\d[ -]\d{4}
  # with a trunk zero
  | 0\d{1,4}[ /-]\d{5,8} | 0\d{1,4} (?:[ .-]\d{2,4}){2,4}
  # groups without a trunk zero, though not two years
  | (?<!\d[ ]) (?!(?:19|20)\d\d[ ](?:19|20)\d\d) \d{4}[ ]\d{4} (?![ ]\d) | \d{2}[ ]\d{6}
  | (?!\d{1,3}(?:[ ]000)+) (?!\d\d[ ]\d\d[ ]\d\d(?![ ]?\d)) \d{2,3} (?:[ ]\d{2,4}){2,4}
  | \d{2}(?:-\d{2}){3}
) (?: [ ]? (?:x|ext\.?) [ ]? \d{1,6} )? (?! [\w/%°] | [.,:-]\d )"""


def build_digits_pattern(count: int, between: str = r"\D{0,4}") -> str:
    """Build a pattern of digits with something between each two."""
    return rf"(?:\d{between}){{{count - 1}}}\d"


# Patterns without which a text holds nothing of a kind: cheap to search for, in the syntax that
# RE2 and Python share.
HINT_PATTERNS = {
    "email": "@",
    "phone": build_digits_pattern(7),
    "card": build_digits_pattern(12, r"\D?"),
    "iban": r"[A-Za-z]{2}\d{2}",
    "ip": r"\d\.\d{1,3}\.\d{1,3}\.\d|[\da-fA-F]*:[\da-fA-F]*:",
    "id": build_digits_pattern(6, r"\D{0,3}") + r"|[A-Za-z]\d{4}[A-Za-z]",
    "url": r"\.[a-zA-Z]",
    **dict.fromkeys(SPACY_LABELS, r"\S"),
}
