"""What finds personal data in a text: Presidio's recognisers of forms and checksums, and spaCy's of names where a model is installed. Nothing is downloaded."""

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from tasks.core.errors import ConfigError, StageError

SpanFinder = Callable[[str], list[tuple[float, int, int]]]  # of a text: (score, start, end)
SPACY_LABELS = {
    "person": {"PERSON", "PER"},
    "place": {"GPE", "LOC"},
}  # the labels of spaCy's models
MIN_SCORE = 0.4  # of Presidio's: what has the form but no checksum, and could as well be something else, scores less
UNSPACED_LETTERS = re.compile(
    "[\u0e00-\u0eff\u2e80-\u2fff\u3005-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)  # Thai, Lao, Chinese, Japanese, Korean
PHONE_REGIONS = (
    "US",
    "GB",
    "DE",
    "FR",
    "IL",
    "IN",
    "CA",
    "BR",
    "AU",
    "CN",
    "ES",
    "IT",
    "JP",
    "MX",
    "NL",
)  # of numbers that are written without their country
PHONE_PATTERN = r"""(?x) (?<![\w.+/:#$€£-])
(?: (?:\+|00)\d{1,3} [ .-]? (?:\(0\)[ .-]?)? (?:\(\d{1,4}\)[ .-]?)? \d{1,5} (?:[ .-]\d{2,5}){1,4}   # with the country's code
  | \(\d{1,4}\) [ .-]? \d{2,5} (?:[ .-]\d{2,5}){1,3}                                              # area code in brackets
  | (?:1[ .-])? \d{3}[ .-]\d{3}[ .-]\d{4} | [2-9]\d\d[ -]\d{4}                                      # North America, and without the area code
  | 0\d{1,4}[ /-]\d{5,8} | 0\d{1,4} (?:[ .-]\d{2,4}){2,4}                                         # with a trunk zero
  | (?<!\d[ ]) (?!(?:19|20)\d\d[ ](?:19|20)\d\d) \d{4}[ ]\d{4} (?![ ]\d) | \d{2}[ ]\d{6}          # groups without one, though not two years
  | (?!\d{1,3}(?:[ ]000)+) (?!\d\d[ ]\d\d[ ]\d\d(?![ ]?\d)) \d{2,3} (?:[ ]\d{2,4}){2,4} | \d{2}(?:-\d{2}){3}
) (?: [ ]? (?:x|ext\.?) [ ]? \d{1,6} )? (?! [\w/%°] | [.,:-]\d )"""


class PiiFinding(NamedTuple):
    start: int
    end: int
    kind: str


def build_digits_pattern(count: int, between: str = r"\D{0,4}") -> str:
    return rf"(?:\d{between}){{{count - 1}}}\d"


# Patterns without which a text holds nothing of a kind: cheap to look for, in RE2's syntax and Python's.
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
ID_RECOGNIZERS = [
    "UsSsn",
    "UsItin",
    "CaSin",
    "UkNino",
    "Nhs",
    "UkDrivingLicence",
    "EsNif",
    "EsNie",
    "ItFiscalCode",
    "PlPesel",
    "DeTaxId",
    "DeSocialSecurity",
]
ID_RECOGNIZERS += ["FiPersonalIdentityCode", "SePersonnummer", "TrNationalId", "KrRrn", "SgFin"]


class PresidioLogHandler(logging.Handler):
    """Presidio logs what it gives up on, which would be let through, and what it cannot check, value and all: the first ends the step, the second is dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        if "timed out" in str(record.msg):
            raise StageError(
                "pii: a text took longer than 60 s to search: put `length` with a smaller max before `pii` in clean.rules."
            )


@cache
def load_recognizers(kinds: frozenset[str]) -> list[tuple[str, str, SpanFinder]]:
    """The recognisers of these kinds, as (kind, hint, spans). Presidio takes seconds to import, so this is asked for only once a text has a hint."""
    found = [
        (kind, HINT_PATTERNS[kind], build_name_finder(kind))
        for kind in sorted(kinds & SPACY_LABELS.keys())
    ]
    if kinds <= SPACY_LABELS.keys():
        return found
    import presidio_analyzer.predefined_recognizers as presidio
    import tldextract
    from presidio_analyzer import Pattern, PatternRecognizer

    log = logging.getLogger("presidio-analyzer")
    log.propagate = False
    log.handlers = [PresidioLogHandler(logging.WARNING)]
    suffixes = tldextract.TLDExtract(
        suffix_list_urls=(), cache_dir=None
    )  # those that the package carries

    class Email(presidio.EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool | None:
            """A public suffix makes it certain; a name inside a company's network is left at the pattern's score; `react@18.2` is none."""
            return bool(suffixes(pattern_text).fqdn) or (
                None if pattern_text.rsplit(".", 1)[-1].isalpha() else False
            )

    lists: dict[str, list[Any]] = {
        "email": [Email()],
        "phone": [
            PatternRecognizer(
                "PHONE_NUMBER", patterns=[Pattern("grouped", PHONE_PATTERN, MIN_SCORE)]
            )
        ],
        "card": [presidio.CreditCardRecognizer()],
        "iban": [
            presidio.IbanRecognizer(regex_flags=int(re.DOTALL | re.MULTILINE | re.IGNORECASE))
        ],
        "ip": [presidio.IpRecognizer()],
        "id": [getattr(presidio, f"{name}Recognizer")() for name in ID_RECOGNIZERS]
        + [presidio.InPanRecognizer(patterns=presidio.InPanRecognizer.PATTERNS[:1])],
        "url": [presidio.UrlRecognizer(patterns=presidio.UrlRecognizer.PATTERNS[:2])],
    }
    for kind in sorted(kinds - SPACY_LABELS.keys()):
        found += [
            (
                kind,
                HINT_PATTERNS[kind],
                build_pattern_finder(one, is_not_version if kind == "ip" else lambda *_: True),
            )
            for one in lists[kind]
        ]
    if "phone" in kinds:
        found.append(
            (
                "phone",
                build_digits_pattern(9, r"[^\w]{0,2}"),
                build_pattern_finder(
                    presidio.PhoneRecognizer(supported_regions=PHONE_REGIONS, leniency=1),
                    is_long_number,
                ),
            )
        )
    return found


def build_pattern_finder(recogniser: Any, accept: Callable[[str, int, int], bool]) -> SpanFinder:
    """What one of Presidio's recognisers finds, but for pieces of a longer word or number, which a few of its patterns allow."""

    def apart(text: str, start: int, end: int) -> bool:
        return not any(
            text[at - 1 : at].isalnum() and text[at : at + 1].isalnum() for at in (start, end) if at
        )

    def spans(text: str) -> list[tuple[float, int, int]]:
        results = [
            (found.score, found.start, found.end)
            for found in recogniser.analyze(text, recogniser.supported_entities, None)
        ]
        return [
            (score, *place)
            for score, *place in results
            if score >= MIN_SCORE and apart(text, *place) and accept(text, *place)
        ]

    return spans


def is_not_version(text: str, start: int, end: int) -> bool:
    return not re.match(r"\.\d", text[end : end + 2]) and not re.search(
        r"\d\.$", text[max(0, start - 2) : start]
    )


def is_long_number(text: str, start: int, end: int) -> bool:
    """Nine digits or more, and no sum: somewhere on earth, almost every shorter number is a telephone's."""
    value = text[start:end]
    return sum(letter.isdigit() for letter in value) >= 9 and not re.search(
        r"\d[ ]?[/+*~]|\d - \d|\.\.", value
    )


def build_name_finder(kind: str) -> SpanFinder:
    """What an installed spaCy model, an English one first, finds. Raises Mistake where there is none."""
    model = load_spacy_model()
    return lambda text: [
        (MIN_SCORE, found.start_char, found.end_char)
        for found in model(text).ents
        if found.label_ in SPACY_LABELS[kind]
    ]


@cache
def load_spacy_model() -> Any:
    import spacy

    models = sorted(
        spacy.util.get_installed_models(), key=lambda name: (not name.startswith("en_"), name)
    )
    if not models:
        advice = "run `python -m spacy download en_core_web_sm`, or leave them out"
        raise ConfigError(
            f"pii.kinds: person and place need a spaCy model, and none is installed: {advice}."
        )
    return spacy.load(models[0])


def find_pii(text: str, kinds: frozenset[str]) -> list[PiiFinding]:
    """Personal data of these kinds, by position, searched as if words ended where a script without spaces begins. Findings that overlap are one, of the kind
    that is most certain, then longest, then first."""
    plain = UNSPACED_LETTERS.sub("。", text)
    groups: list[list[tuple[float, int, int, str]]] = []
    told = [
        (kind, spans(text if kind in SPACY_LABELS else plain))
        for kind, hint, spans in load_recognizers(kinds)
        if re.search(hint, text)
    ]
    for start, end, kind, score in sorted(
        (start, end, kind, score) for kind, spans in told for score, start, end in spans
    ):
        if not groups or start >= max(span[2] for span in groups[-1]):
            groups.append([])
        groups[-1].append((score, start, end, kind))
    best = [
        min(group, key=lambda span: (-span[0], span[1] - span[2], span[1], span[3]))
        for group in groups
    ]
    return [
        PiiFinding(group[0][1], max(span[2] for span in group), one[3])
        for group, one in zip(groups, best, strict=True)
    ]
