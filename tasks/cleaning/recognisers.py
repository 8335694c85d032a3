"""What finds personal data in a text: Presidio's recognisers of forms and checksums, and spaCy's of names where a model is installed. Nothing is downloaded."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from tasks.step import Failure, Mistake

NAMES = {"person": {"PERSON", "PER"}, "place": {"GPE", "LOC"}}  # the labels of spaCy's models
SCORE = 0.4  # of Presidio's: what has the form but no checksum, and could as well be something else, scores less
UNSPACED = re.compile("[\u0e00-\u0eff\u2e80-\u2fff\u3005-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")  # Thai, Lao, Chinese, Japanese, Korean
REGIONS = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR", "AU", "CN", "ES", "IT", "JP", "MX", "NL")  # of numbers that are written without their country
PHONE = r"""(?x) (?<![\w.+/:#$€£-])
(?: (?:\+|00)\d{1,3} [ .-]? (?:\(0\)[ .-]?)? (?:\(\d{1,4}\)[ .-]?)? \d{1,5} (?:[ .-]\d{2,5}){1,4}   # with the country's code
  | \(\d{1,4}\) [ .-]? \d{2,5} (?:[ .-]\d{2,5}){1,3}                                              # area code in brackets
  | (?:1[ .-])? \d{3}[ .-]\d{3}[ .-]\d{4} | [2-9]\d\d[ -]\d{4}                                      # North America, and without the area code
  | 0\d{1,4}[ /-]\d{5,8} | 0\d{1,4} (?:[ .-]\d{2,4}){2,4}                                         # with a trunk zero
  | (?<!\d[ ]) (?!(?:19|20)\d\d[ ](?:19|20)\d\d) \d{4}[ ]\d{4} (?![ ]\d) | \d{2}[ ]\d{6}          # groups without one, though not two years
  | (?!\d{1,3}(?:[ ]000)+) (?!\d\d[ ]\d\d[ ]\d\d(?![ ]?\d)) \d{2,3} (?:[ ]\d{2,4}){2,4} | \d{2}(?:-\d{2}){3}
) (?: [ ]? (?:x|ext\.?) [ ]? \d{1,6} )? (?! [\w/%°] | [.,:-]\d )"""


@dataclass(frozen=True)
class Finding:
    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Recogniser:
    """`hint` is a pattern without which a text holds nothing of this kind: cheap to look for, in RE2's syntax and Python's."""

    kind: str
    hint: str
    spans: Callable[[str], list[tuple[float, int, int]]]  # (score, start, end)


def digits(count: int, between: str = r"\D{0,4}") -> str:
    return rf"(?:\d{between}){{{count - 1}}}\d"


HINTS = {
    "email": "@",
    "phone": digits(7),
    "card": digits(12, r"\D?"),
    "iban": r"[A-Za-z]{2}\d{2}",
    "ip": r"\d\.\d{1,3}\.\d{1,3}\.\d|[\da-fA-F]*:[\da-fA-F]*:",
    "id": digits(6, r"\D{0,3}") + r"|[A-Za-z]\d{4}[A-Za-z]",
    "url": r"\.[a-zA-Z]",
    "person": r"\S",
    "place": r"\S",
}


class Alarm(logging.Handler):
    """Presidio logs what it gives up on, which would be let through, and what it cannot check, value and all: the first ends the step, the second is dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        if "timed out" in str(record.msg):
            raise Failure("pii: a text took longer than 60 s to search: put `length` with a smaller max before `pii` in clean.rules.")


@cache
def recognisers(kinds: frozenset[str]) -> tuple[Recogniser, ...]:
    """The recognisers of these kinds. Presidio takes seconds to import, so this is asked for only once a text has a hint."""
    found = [Recogniser(kind, HINTS[kind], named(kind)) for kind in sorted(kinds & NAMES.keys())]
    if kinds <= NAMES.keys():
        return tuple(found)
    import presidio_analyzer.predefined_recognizers as presidio
    import tldextract
    from presidio_analyzer import Pattern, PatternRecognizer

    log = logging.getLogger("presidio-analyzer")
    log.propagate = False
    log.handlers = [Alarm(logging.WARNING)]
    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)  # those that the package carries

    class Email(presidio.EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool | None:
            """A public suffix makes it certain; a name inside a company's network is left at the pattern's score; `react@18.2` is none."""
            return bool(suffixes(pattern_text).fqdn) or (None if pattern_text.rsplit(".", 1)[-1].isalpha() else False)

    grouped = PatternRecognizer("PHONE_NUMBER", patterns=[Pattern("grouped", PHONE, SCORE)])
    bare = presidio.PhoneRecognizer(supported_regions=REGIONS, leniency=1)
    lists: dict[str, list[Any]] = {
        "email": [Email()],
        "phone": [grouped],
        "card": [presidio.CreditCardRecognizer()],
        "iban": [presidio.IbanRecognizer(regex_flags=int(re.DOTALL | re.MULTILINE | re.IGNORECASE))],
        "ip": [presidio.IpRecognizer()],
        "id": [
            presidio.UsSsnRecognizer(),
            presidio.UsItinRecognizer(),
            presidio.CaSinRecognizer(),
            presidio.UkNinoRecognizer(),
            presidio.NhsRecognizer(),
            presidio.UkDrivingLicenceRecognizer(),
            presidio.EsNifRecognizer(),
            presidio.EsNieRecognizer(),
            presidio.ItFiscalCodeRecognizer(),
            presidio.PlPeselRecognizer(),
            presidio.DeTaxIdRecognizer(),
            presidio.DeSocialSecurityRecognizer(),
            presidio.FiPersonalIdentityCodeRecognizer(),
            presidio.SePersonnummerRecognizer(),
            presidio.TrNationalIdRecognizer(),
            presidio.KrRrnRecognizer(),
            presidio.InPanRecognizer(patterns=presidio.InPanRecognizer.PATTERNS[:1]),
            presidio.SgFinRecognizer(),
        ],
        "url": [presidio.UrlRecognizer(patterns=presidio.UrlRecognizer.PATTERNS[:2])],
    }
    accept = {"ip": no_version}
    for kind in sorted(kinds - NAMES.keys()):
        found += [Recogniser(kind, HINTS[kind], presidio_spans(one, accept.get(kind))) for one in lists[kind]]
    if "phone" in kinds:
        found.append(Recogniser("phone", digits(9, r"[^\w]{0,2}"), presidio_spans(bare, long)))
    return tuple(found)


def presidio_spans(recogniser: Any, accept: Callable[[str, int, int], bool] | None = None) -> Callable[[str], list[tuple[float, int, int]]]:
    entity = recogniser.supported_entities

    def spans(text: str) -> list[tuple[float, int, int]]:
        results = recogniser.analyze(text, entity, None)
        return [
            (found.score, found.start, found.end)
            for found in results
            if found.score >= SCORE and apart(text, found) and (not accept or accept(text, found.start, found.end))
        ]

    return spans


def apart(text: str, found: Any) -> bool:
    """Not a piece of a longer word or number, as a few of Presidio's patterns allow."""
    before, after = text[max(0, found.start - 1) : found.start], text[found.end : found.end + 1]
    return not (before.isalnum() and text[found.start].isalnum() or after.isalnum() and text[found.end - 1].isalnum())


def no_version(text: str, start: int, end: int) -> bool:
    return not re.match(r"\.\d", text[end : end + 2]) and not re.search(r"\d\.$", text[max(0, start - 2) : start])


def long(text: str, start: int, end: int) -> bool:
    """Nine digits or more, and no sum: somewhere on earth, almost every shorter number is a telephone's."""
    value = text[start:end]
    return sum(letter.isdigit() for letter in value) >= 9 and not re.search(r"\d[ ]?[/+*~]|\d - \d|\.\.", value)


def named(kind: str) -> Callable[[str], list[tuple[float, int, int]]]:
    def spans(text: str) -> list[tuple[float, int, int]]:
        return [(SCORE, found.start_char, found.end_char) for found in spacy_model()(text).ents if found.label_ in NAMES[kind]]

    spacy_model()
    return spans


@cache
def spacy_model() -> Any:
    """An installed spaCy model, an English one first. Raises Mistake where there is none."""
    import spacy

    models = sorted(spacy.util.get_installed_models(), key=lambda name: (not name.startswith("en_"), name))
    if not models:
        raise Mistake(
            "pii.kinds: person and place need a spaCy model, and none is installed: run `python -m spacy download en_core_web_sm`, or leave them out."
        )
    return spacy.load(models[0])


def find(text: str, kinds: frozenset[str]) -> list[Finding]:
    """Personal data of these kinds, by position, searched as if words ended where a script without spaces begins. Findings that overlap are one, of the kind that is most certain, then longest, then first."""
    plain = UNSPACED.sub("。", text)
    spans = chain.from_iterable(
        ((score, start, end, one.kind) for score, start, end in one.spans(text if one.kind in NAMES else plain))
        for one in recognisers(kinds)
        if re.search(one.hint, text)
    )
    groups: list[list[tuple[float, int, int, str]]] = []
    reach = -1
    for span in sorted(spans, key=lambda span: (span[1], span[2], span[3], span[0])):
        if span[1] >= reach:
            groups.append([])
        groups[-1].append(span)
        reach = max(reach, span[2])
    found = []
    for group in groups:
        best = min(group, key=lambda span: (-span[0], span[1] - span[2], span[1], span[3]))
        found.append(Finding(group[0][1], max(span[2] for span in group), best[3]))
    return found
